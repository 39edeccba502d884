//! Loops over data. The BPF verifier follows each turn of an ordinary loop, so the data plane's are the kernel's `bpf_loop`,
//! whose body it follows once.

/// A way to loop.
pub trait Each {
    /// Calls `turn` with 0, 1, … until it returns `true`, at most `times` times.
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F);
}

/// An ordinary loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Each for Plain {
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        let _ = (0..times).any(turn);
    }
}
