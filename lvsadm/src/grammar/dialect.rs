//! The two command lines: ipvsadm's and lvsadm's.

/// Whose command line is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ipvsadm's to the letter: the program was invoked by that name.
    Literal,
    /// ipvsadm's and lvsadm's own additions.
    Own,
}

impl Dialect {
    /// The dialect of a program of this name, without its folder.
    pub fn of(name: &str) -> Self {
        match name {
            "ipvsadm" | "ipvsadm-save" | "ipvsadm-restore" => Dialect::Literal,
            _ => Dialect::Own,
        }
    }
}
