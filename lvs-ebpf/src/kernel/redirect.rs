//! Verdicts that send a packet to a device, the same for XDP and TC.

use aya_ebpf::{
    bindings::{bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh},
};

/// `BPF_F_INGRESS`.
pub const INGRESS: u64 = 1;

/// Sends the packet out of a device, or with [`INGRESS`] into it. The packet leaves when the program returns this verdict.
#[inline(always)]
pub fn redirect(ifindex: u32, flags: u64) -> i32 {
    // SAFETY: a helper that takes numbers.
    unsafe { bpf_redirect(ifindex, flags) as i32 }
}

/// Sends a packet of TC out of a device by the kernel's neighbour output, to a gateway of this family. An IPv4 address stands in
/// the first word.
#[inline(always)]
pub fn redirect_to_neighbour(ifindex: u32, family: u8, gateway: [u32; 4]) -> i32 {
    let gateway = bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: gateway };
    let mut to = bpf_redir_neigh { nh_family: family as u32, __bindgen_anon_1: gateway };
    // SAFETY: the kernel is given the structure's size, and only reads it.
    unsafe { bpf_redirect_neigh(ifindex, &mut to, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}
