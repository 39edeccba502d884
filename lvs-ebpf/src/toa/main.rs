//! TOA at a real server: programs of a cgroup that tell its servers the clients behind a FullNAT director.
//!
//! When a connection is accepted, `toa_accepted` looks for the option in the packet that completed the handshake, and keeps
//! what it says beside the socket. `accept()` and `getpeername()` ask `toa_peer4` or `toa_peer6`, which answer with the
//! client's address and port. Where nothing is kept, the answer is what it would be without these programs.
//!
//! A cgroup's programs see the sockets of every network namespace, but an address means something within one only: these
//! look at sockets of [`NAMESPACE`] alone.
#![no_std]
#![no_main]

mod clients;
mod connection;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PARSE_HDR_OPT_CB, BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
};
use aya_ebpf::btf_maps::{LpmTrie, PerCpuArray};
use aya_ebpf::helpers::bpf_get_netns_cookie;
use aya_ebpf::macros::{btf_map, cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};
use lvs_common::abi::{AF_INET, AF_INET6};
use lvs_common::toa::{self, COUNTS as COUNT_NAMES, Count};

use connection::Connection;

/// Cookie of the network namespace whose sockets these programs are for. Set when they are loaded.
#[unsafe(no_mangle)]
static NAMESPACE: u64 = 0;

/// Prefixes of the peers that are believed, each a family and an [`lvs_common::abi::Address`]; the values mean nothing.
#[btf_map]
static TRUSTED: LpmTrie<[u32; 5], u32, 4096> = LpmTrie::new();

/// How many connections came to what, by [`Count`].
#[btf_map]
static COUNTS: PerCpuArray<u64, { COUNT_NAMES.len() }> = PerCpuArray::new();

/// Looks at what happens to TCP sockets. What other programs answer the kernel's questions stays theirs.
#[sock_ops]
fn toa_accepted(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(&ctx),
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB => later(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn accepted(ctx: &SockOpsContext) {
    // SAFETY: the constant is written before the program is loaded; the context's pointer is the program's argument.
    if unsafe { bpf_get_netns_cookie(ctx.as_ptr()) != (&raw const NAMESPACE).read_volatile() } {
        return;
    }
    let connection = Connection(ctx);
    let is_trusted = TRUSTED.get(&connection.peer()).is_some();
    if let Some(client) = toa::find(&connection) {
        add(if is_trusted { clients::keep(ctx, client) } else { Count::Untrusted }, 1);
    } else if is_trusted {
        add(Count::Missing, 1);
        clients::expect(ctx);
        // Costs nothing until there is an option that the kernel does not know. The flag is never taken back: it is
        // every program's, and another one may want it as well.
        let flags = ctx.cb_flags() | BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG;
        let _ = ctx.set_cb_flags(flags as i32);
    }
}

/// The option may come with the first data instead. What comes after that is nobody's word any more.
#[inline(always)]
fn later(ctx: &SockOpsContext) {
    let connection = Connection(ctx);
    if connection.has_brought_data() || !clients::is_expected(ctx) {
        return;
    }
    if let Some(client) = toa::find(&connection) {
        clients::forget(ctx);
        add(Count::Missing, -1);
        add(clients::keep(ctx, client), 1);
    }
}

/// Adds to a counter. A CPU's own may wrap, the sum of all does not.
#[inline(always)]
fn add(count: Count, what: i64) {
    if let Some(counter) = COUNTS.get_ptr_mut(count as u32) {
        // SAFETY: this CPU's own element.
        unsafe { *counter = (*counter).wrapping_add_signed(what) }
    }
}

/// The peer's name of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
fn toa_peer4(ctx: SockAddrContext) -> i32 {
    if let Some(client) = clients::of(&ctx)
        && client.family == AF_INET.into()
    {
        // SAFETY: fields of the context that may be written.
        unsafe {
            (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(client.address.0[0]);
            (&raw mut (*ctx.sock_addr).user_port).write_volatile(client.port.word().into());
        }
    }
    1
}

/// The peer's name of an IPv6 socket; IPv4 clients have theirs mapped into IPv6 (RFC 4291, section 2.5.5.2), as always.
#[cgroup_sock_addr(getpeername6)]
fn toa_peer6(ctx: SockAddrContext) -> i32 {
    const MAPPED: u32 = 0xffffu32.to_be();
    let Some(client) = clients::of(&ctx) else { return 1 };
    let [a, b, c, d] = client.address.0;
    let words = match client.family as u8 {
        AF_INET => [0, 0, MAPPED, a],
        AF_INET6 => [a, b, c, d],
        _ => return 1,
    };
    // SAFETY: as above; each word by itself, as the compiler's joining two is not for the verifier.
    unsafe {
        let address = (&raw mut (*ctx.sock_addr).user_ip6).cast::<u32>();
        address.write_volatile(words[0]);
        address.add(1).write_volatile(words[1]);
        address.add(2).write_volatile(words[2]);
        address.add(3).write_volatile(words[3]);
        (&raw mut (*ctx.sock_addr).user_port).write_volatile(client.port.word().into());
    }
    1
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
