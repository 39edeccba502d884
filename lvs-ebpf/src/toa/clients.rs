//! What is kept beside sockets. It goes with the socket, or with the programs.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get, bpf_skc_to_mptcp_sock};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};
use lvs_common::abi::AF_INET;
use lvs_common::toa::{Client, Count};

/// Whether the kernel has Multipath TCP. Set when the programs are loaded.
#[unsafe(no_mangle)]
static MPTCP: u32 = 0;

/// The client of each connection whose director told it; family 0 where it may tell yet.
#[btf_map]
static CLIENTS: SkStorage<Client> = SkStorage::new();

/// The client of the socket whose peer is asked for.
#[inline(always)]
pub fn of(ctx: &SockAddrContext) -> Option<Client> {
    // SAFETY: the context is the program's own; what is kept is not written again.
    unsafe { CLIENTS.get_ptr_mut(ctx).as_ref().copied() }
}

/// Keeps the client of a connection, unless one is kept already: Multipath TCP has many connections to a socket.
#[inline(always)]
pub fn keep(ctx: &SockOpsContext, mut client: Client) -> Count {
    if ctx.family() == AF_INET.into() && client.family != AF_INET.into() {
        return Count::Unsuited;
    }
    match get(ctx, Some(&mut client), BPF_SK_STORAGE_GET_F_CREATE) {
        Some(_) => Count::Found,
        None => Count::Missing,
    }
}

/// Keeps in mind that the client of a connection may be told yet.
#[inline(always)]
pub fn expect(ctx: &SockOpsContext) {
    get(ctx, None, BPF_SK_STORAGE_GET_F_CREATE);
}

/// Whether the client of a connection may be told yet.
#[inline(always)]
pub fn is_expected(ctx: &SockOpsContext) -> bool {
    get(ctx, None, 0).is_some_and(|kept| kept.family == 0)
}

/// Ends that. What is kept is replaced and never changed, so that nobody reads half of it; in between, the peer is the director.
#[inline(always)]
pub fn forget(ctx: &SockOpsContext) {
    if let Some(socket) = socket(ctx) {
        // SAFETY: map and socket are what the helper takes.
        unsafe { bpf_sk_storage_delete(map(), socket.as_ptr()) };
    }
}

/// What is kept beside a connection's socket; with the flag to create it, `initial` or zeros where there is nothing.
#[inline(always)]
fn get<'a>(ctx: &'a SockOpsContext, initial: Option<&mut Client>, flags: u32) -> Option<&'a Client> {
    let socket = socket(ctx)?;
    let initial = initial.map_or(null_mut(), |client| (&raw mut *client).cast());
    // SAFETY: as above; `initial` is null or a client. What the helper returns is null or kept, and never changed.
    unsafe { bpf_sk_storage_get(map(), socket.as_ptr(), initial, flags.into()).cast::<Client>().as_ref() }
}

/// The socket that a server gets from `accept()`: the connection's, or that of Multipath TCP above it.
#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<NonNull<c_void>> {
    // SAFETY: a field of the context; the constant is written before the program is loaded; the helper takes what was
    // checked for null, and answers null where the connection is an ordinary one.
    unsafe {
        let own = NonNull::new((*ctx.ops).__bindgen_anon_2.sk.cast())?;
        if (&raw const MPTCP).read_volatile() == 0 {
            return Some(own);
        }
        NonNull::new(bpf_skc_to_mptcp_sock(own.as_ptr()).cast()).or(Some(own))
    }
}

/// The map as helpers take it, which aya's own functions do for other kinds of programs only.
#[inline(always)]
fn map() -> *mut c_void {
    (&raw const CLIENTS).cast_mut().cast()
}
