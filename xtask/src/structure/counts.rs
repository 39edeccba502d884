//! Counts of unsafe code.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ExprUnsafe, ItemImpl, Macro, Safety, Signature};

/// What is unsafe in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsafe {
    /// Blocks, those in macros as well.
    pub blocks: usize,
    /// Functions that only unsafe code may call, and implementations of unsafe traits.
    pub items: usize,
}

/// Counts what is unsafe in a file.
pub fn count_unsafe(file: &syn::File) -> Unsafe {
    let mut count = Unsafe::default();
    count.visit_file(file);
    count
}

impl Unsafe {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut after_unsafe = false;
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    self.blocks += usize::from(after_unsafe && group.delimiter() == Delimiter::Brace);
                    self.tokens(group.stream());
                    after_unsafe = false;
                }
                TokenTree::Ident(ident) => {
                    self.items += usize::from(after_unsafe && (ident == "fn" || ident == "impl"));
                    after_unsafe = ident == "unsafe";
                }
                _ => after_unsafe = false,
            }
        }
    }
}

impl<'ast> Visit<'ast> for Unsafe {
    fn visit_expr_unsafe(&mut self, block: &'ast ExprUnsafe) {
        self.blocks += 1;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        self.items += usize::from(matches!(signature.safety, Safety::Unsafe(_)));
        visit::visit_signature(self, signature);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.items += usize::from(item.unsafety.is_some());
        visit::visit_item_impl(self, item);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.tokens(called.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_functions_and_macros_are_counted() {
        let text = "unsafe fn f() { unsafe { g() } }
            unsafe impl Send for A {}
            macro_rules! m { () => { unsafe { f() }; unsafe fn h() {} } }
            fn k() { assert!(unsafe { f() }); }";
        assert_eq!(count_unsafe(&syn::parse_file(text).unwrap()), Unsafe { blocks: 3, items: 3 });
    }
}
