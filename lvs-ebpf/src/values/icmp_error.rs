//! An ICMP error, once it has been parsed.

use crate::values::parsed::Parsed;

/// Offsets that a header can begin at: what bounds them for the verifier.
pub const OFFSETS: usize = 0x3ff;

/// An ICMP error.
pub struct IcmpError<A> {
    /// The error itself.
    pub outer: Parsed<A>,
    /// The packet it quotes, turned round: source and destination as those of a packet that travels the error's way.
    pub about: Parsed<A>,
    /// Where that stands in the frame.
    pub quote: usize,
}

impl<A> IcmpError<A> {
    /// Where the error's own header begins.
    #[inline(always)]
    pub fn header(&self) -> usize {
        self.outer.l4() & OFFSETS
    }

    /// Where the quoted packet begins.
    #[inline(always)]
    pub fn quote(&self) -> usize {
        self.quote & OFFSETS
    }

    /// Where the quoted packet's transport header begins.
    #[inline(always)]
    pub fn transport(&self) -> usize {
        self.about.l4() & OFFSETS
    }
}
