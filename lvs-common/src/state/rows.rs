//! Rows of the transition tables.

/// A row of a transition table: the new state of old state `n` in bits `4n..4n+4`.
pub(super) type Row = u64;

/// The row in which every state stays as it is.
pub(super) const STAY: Row = 0xfedc_ba98_7654_3210;

/// `row` with `old` leading to `new`.
pub(super) const fn with(row: Row, old: u8, new: u8) -> Row {
    let shift = (old & 15) as u32 * 4;
    (row & !(15 << shift)) | ((new as u64 & 15) << shift)
}

/// What `row` makes of `state`.
#[inline(always)]
pub(super) const fn apply(row: Row, state: u8) -> u8 {
    (row >> ((state & 15) as u32 * 4)) as u8 & 15
}
