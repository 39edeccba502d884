//! The kernel that eBPF programs run in, in memory: maps, helpers, packets, routes and tail calls, under `aya-ebpf`'s names.
//!
//! `host-director` compiles the data plane's own files with this crate in place of `aya-ebpf`. So a fuzzer, a model or an explorer of
//! interleavings runs the code that the eBPF object is made of, a million packets a second, and any number of directors in a process.
//!
//! | Module | Holds |
//! |---|---|
//! | [`kernel`] | a kernel: maps, clock, random numbers, the CPU at hand |
//! | `memory` | memory below 4 GiB, as `__sk_buff` and `xdp_md` have 32 bits for an address |
//! | [`network`] | devices, routes, neighbours |
//! | [`skb`], [`xdp`] | a packet in TC and in XDP |
//! | [`btf_maps`] | the kinds of map |
//! | [`program`] | programs, and where they send packets |
//! | [`run`] | running programs, tail calls |
//! | [`helpers`] | the helpers, by their documentation (`bpf-helpers(7)`) |
//!
//! Nothing here is copied from the kernel, and nothing here runs in it.

pub mod btf_maps;
pub mod helpers;
pub mod kernel;
mod memory;
pub mod network;
pub mod program;
pub mod run;
pub mod skb;
pub mod xdp;

pub use aya_ebpf_bindings::bindings;
pub use aya_ebpf_macros as macros;

/// What a program would write to the log. It is counted: the arguments are evaluated as in the kernel, and dropped.
#[macro_export]
macro_rules! log {
    ($context:expr, $level:expr, $format:literal $(, $argument:expr)* $(,)?) => {{
        let _ = ($context, $level, $($argument),*);
        $crate::kernel::with(|kernel| kernel.lines.set(kernel.lines.get() + 1));
    }};
}

/// The parts of `aya-log-ebpf` that the data plane names.
pub mod macro_support {
    /// A level of the log, as its number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    #[allow(missing_docs, reason = "the names are the levels' own")]
    pub enum Level {
        Error = 1,
        Warn = 2,
        Info = 3,
        Debug = 4,
        Trace = 5,
    }

    /// Whether lines of a level are written.
    #[inline(always)]
    pub fn level_enabled(level: Level) -> bool {
        crate::kernel::with(|kernel| level as u32 <= kernel.log_level.get())
    }
}
