//! A page's table. Its rows are made one by one, when they are shown.

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What stands in it. What is a fault begins with `!`, so that it can be told without colour.
    pub text: String,
    /// Whether it is a fault.
    pub fault: bool,
}

impl Row {
    /// A row that begins with a mark if it is a fault.
    pub fn new(fault: bool, text: &str) -> Self {
        Row { text: format!("{}{text}", if fault { '!' } else { ' ' }), fault }
    }
}

/// Characters that the mark of a row takes.
pub const MARK: usize = 1;

/// See the module.
pub trait Table {
    /// The line above the rows.
    fn titles(&self, width: usize) -> String;
    /// How many rows there are.
    fn count(&self) -> usize;
    /// One of them.
    fn row(&self, at: usize, width: usize) -> Row;
}
