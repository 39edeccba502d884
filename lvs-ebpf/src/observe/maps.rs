//! The maps of the observing programs, some of which are the data plane's.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray, ProgramArray, RingBuf},
    macros::btf_map,
};
use lvs_common::{
    abi::observe::{Gate, HEAD, MOST, Observed},
    exit::{EXIT_COUNT, Exit},
};

use crate::{log_line::LogLine, request::Request};

/// A packet between its coming and its leaving.
#[repr(C)]
pub struct Visit {
    /// What there is to be done about it.
    pub interest: u32,
    pub pad: u32,
    /// The counters of [`Exit::BESIDE`] as it came.
    pub before: [u64; Exit::BESIDE.len()],
    /// How the packet begins as it leaves.
    pub head: [u8; HEAD],
    pub report: Observed,
    /// The packet's bytes, which follow the report.
    pub bytes: [u8; MOST as usize],
}

/// The data plane's: packets by [`Exit`].
#[btf_map]
pub static EXITS: PerCpuArray<u64, { EXIT_COUNT as usize }> = PerCpuArray::new();
/// The data plane's: the connection that was asked for last, one for each CPU.
#[btf_map]
pub static REQUESTS: Array<Request, 1> = Array::new();
/// The data plane's: the line of the log at hand, one for each CPU.
#[btf_map]
pub static LINES: Array<LogLine, 1> = Array::new();
/// The observed programs that tail calls reach: of XDP, of TC, and of TC for devices without Ethernet headers.
#[btf_map]
pub static XDP_PROGRAMS: ProgramArray<128> = ProgramArray::new();
/// See [`XDP_PROGRAMS`].
#[btf_map]
pub static TC_PROGRAMS: ProgramArray<128> = ProgramArray::new();
/// See [`XDP_PROGRAMS`].
#[btf_map]
pub static L3_PROGRAMS: ProgramArray<128> = ProgramArray::new();
/// The observed programs that would be attached, by [`Gate`], and the one that writes the log.
#[btf_map]
pub static XDP_GATES: ProgramArray<{ Gate::ALL.len() + 1 }> = ProgramArray::new();
/// The same for TC.
#[btf_map]
pub static TC_GATES: ProgramArray<{ Gate::ALL.len() + 1 }> = ProgramArray::new();
/// The same for TC and devices without Ethernet headers.
#[btf_map]
pub static L3_GATES: ProgramArray<{ Gate::ALL.len() + 1 }> = ProgramArray::new();
/// The packet of each CPU, in XDP and in TC. `lvsadm` makes it as large as there are CPUs.
#[btf_map]
pub static VISITS: Array<Visit, 2> = Array::new();
/// Until when somebody reads reports, `CLOCK_MONOTONIC`, ns.
#[btf_map]
pub static LEASE: Array<u64, 1> = Array::new();
/// What is reported: [`Observed`], and after it the packet's bytes. `lvsadm` makes it larger.
#[btf_map]
pub static REPORTS: RingBuf<u64, 4096> = RingBuf::new();
/// Reports that found no room.
#[btf_map]
pub static LOST: PerCpuArray<u64, 1> = PerCpuArray::new();
