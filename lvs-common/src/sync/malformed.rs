//! Why a message is refused.

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is shorter than its header.
    Short,
    /// It is not as long as its header says.
    Length,
    /// A record does not end within the message, or is shorter than its addresses.
    Record,
    /// The message or a record is of a version that is not known.
    Version,
    /// An option is cut short, stands twice, has a length that it cannot have, or is not known and must not be passed by.
    Option,
    /// Bytes follow the last record.
    Rest,
}
