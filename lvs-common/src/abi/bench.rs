//! The map that `cargo xtask bench` shares with its own eBPF programs; no part of the data plane.

/// Bytes of every frame of the benchmark.
pub const FRAME: usize = 98;
/// Calls between two readings of the clock.
pub const CHUNK: u64 = 2048;
/// Chunks of one run at most.
pub const CHUNKS: usize = 512;
/// Entries of the look-up floor's table: twice the flows, so that a full CPU-local free list evicts nothing.
pub const LOOKUPS: u32 = 1 << 17;

/// A run: which frame is sent, as which flows, and how long it took.
///
/// Flow `n` has source port `1024 + n % 32768` and `source + n / 32768` as the lower half of its source address. Each of
/// the two has complements elsewhere in the frame, so that no checksum ever changes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Run {
    /// The frame, two bytes in, so that its network header is aligned.
    pub frame: [u8; FRAME + 6],
    /// Number of flows, a power of two.
    pub flows: u32,
    /// Order of the flows, odd.
    pub order: u32,
    /// Lower half of the first source address.
    pub source: u32,
    /// Offsets of port and source, each with its complements.
    pub places: [u32; 5],
    /// The flow of the packet at hand.
    pub flow: u32,
    /// Always 0.
    pub pad: u32,
    /// Packets so far.
    pub count: u64,
    /// When the chunk at hand began, ns.
    pub begin: u64,
    /// Duration of each chunk, ns.
    pub chunks: [u32; CHUNKS],
}

const _: () = assert!(size_of::<Run>() == 104 + 40 + 16 + 4 * CHUNKS);
