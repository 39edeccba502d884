//! The floor `kernel` on the host: `lvs-ebpf`'s files, but for those that are written in BPF's instructions (`atomics`, `wide`) and the
//! constants that a loader sets (`params`).

pub mod atomics;
#[path = "../../../lvs-ebpf/src/kernel/clear.rs"]
pub mod clear;
#[path = "../../../lvs-ebpf/src/kernel/clock.rs"]
pub mod clock;
#[path = "../../../lvs-ebpf/src/kernel/cpu.rs"]
pub mod cpu;
#[path = "../../../lvs-ebpf/src/kernel/global.rs"]
pub mod global;
#[path = "../../../lvs-ebpf/src/kernel/loops.rs"]
pub mod loops;
pub mod params;
#[path = "../../../lvs-ebpf/src/kernel/random.rs"]
pub mod random;
#[path = "../../../lvs-ebpf/src/kernel/redirect.rs"]
pub mod redirect;
#[path = "../../../lvs-ebpf/src/kernel/reload.rs"]
pub mod reload;
#[path = "../../../lvs-ebpf/src/kernel/scratch.rs"]
pub mod scratch;
#[path = "../../../lvs-ebpf/src/kernel/shared.rs"]
pub mod shared;
pub mod wide;
