//! Global functions: the verifier checks each of them once for a program, whatever calls it, instead of once after each path
//! that leads to it. See "global functions" in docs/develop/verifier.md.

/// Makes one global function for each family of `body`, a generic function over the family `A`, and a generic function that
/// calls the one of its family.
///
/// The arguments are at most five: numbers, the context, and pointers. The verifier knows of a pointer only that it may be null,
/// so `body` takes raw pointers and checks them. A call costs some 10 ns where returns are guarded against speculation.
///
/// ```ignore
/// global_fn! {
///     /// What it does.
///     pub fn advance<A>(c: *mut Connection<A>, now: u64) -> u32 = advance4, advance6 => step
/// }
/// ```
macro_rules! global_fn {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident<$family:ident>($($argument:ident: $type:ty),+ $(,)?) -> $result:ty = $four:ident, $six:ident => $body:ident
    ) => {
        $(#[$doc])*
        #[inline(always)]
        $vis fn $name<$family: lvs_common::abi::IpAddress>($($argument: $type),+) -> $result {
            // A cast to the same type: which family `A` is, the compiler knows in each copy of this function.
            if $family::IS_V4 { $four::$four($($argument as _),+) } else { $six::$six($($argument as _),+) }
        }

        crate::kernel::global::global_fn!(@one $four, u32, $family, ($($argument: $type),+), $result, $body);
        crate::kernel::global::global_fn!(@one $six, [u32; 4], $family, ($($argument: $type),+), $result, $body);
    };
    (@one $name:ident, $address:ty, $family:ident, ($($argument:ident: $type:ty),+), $result:ty, $body:ident) => {
        mod $name {
            #[allow(unused_imports, reason = "the types of the arguments are the file's")]
            use super::*;

            #[allow(dead_code, reason = "a function need not name the family")]
            type $family = $address;

            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: $type),+) -> $result {
                $body::<$family>($($argument),+)
            }
        }
    };
}

pub(crate) use global_fn;
