//! Filter expressions, compiled by libpcap. It is opened when there is an expression, so `lvsadm` runs without it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr::NonNull;

use anyhow::{Context, Result, bail};
use libloading::Library;
use lvs_director::dataplane::observe::{Classic, Instruction};
use lvs_director::rules::{Prefix, ServiceKey};

/// The library's names: Debian's, and that of others.
const LIBRARIES: [&str; 2] = ["libpcap.so.0.8", "libpcap.so.1"];
/// `DLT_EN10MB`, `DLT_RAW`
const ETHERNET: c_int = 1;
const RAW: c_int = 12;
/// Bytes that a match is worth: any but 0.
const SNAPLEN: c_int = 65_535;
/// `PCAP_NETMASK_UNKNOWN`
const NO_MASK: c_uint = u32::MAX;

/// A filter for frames with an Ethernet header, and one for packets without.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// With.
    pub frames: Option<Classic>,
    /// Without; `None` also if the expression speaks of what such packets do not have.
    pub packets: Option<Classic>,
}

/// `struct bpf_program`
#[repr(C)]
struct Program {
    length: c_uint,
    instructions: *const Instruction,
}

/// `pcap_t`
#[repr(C)]
struct Handle([u8; 0]);

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut Handle;
type Compile = unsafe extern "C" fn(*mut Handle, *mut Program, *const c_char, c_int, c_uint) -> c_int;
type GetError = unsafe extern "C" fn(*mut Handle) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut Program);
type Close = unsafe extern "C" fn(*mut Handle);

/// The library.
struct Pcap(Library);

impl Pcap {
    fn open() -> Result<Self> {
        for name in LIBRARIES {
            // SAFETY: libpcap, whose initialisers do nothing that others could see.
            if let Ok(library) = unsafe { Library::new(name) } {
                return Ok(Pcap(library));
            }
        }
        bail!("an expression needs libpcap, which is not installed: on Debian, apt install libpcap0.8")
    }

    /// A function of the library.
    ///
    /// # Safety
    /// `F` is the function's type.
    unsafe fn function<F: Copy>(&self, name: &str) -> Result<F> {
        // SAFETY: the caller's. The copy is used while `self` lives.
        let found = unsafe { self.0.get::<F>(name.as_bytes()) };
        found.map(|function| *function).with_context(|| format!("libpcap has no function {name}"))
    }

    fn compile(&self, expression: &CStr, link: c_int) -> Result<Classic> {
        // SAFETY: the types of `pcap/pcap.h`.
        let (open, compile, error, free, close) = unsafe {
            (
                self.function::<OpenDead>("pcap_open_dead")?,
                self.function::<Compile>("pcap_compile")?,
                self.function::<GetError>("pcap_geterr")?,
                self.function::<FreeCode>("pcap_freecode")?,
                self.function::<Close>("pcap_close")?,
            )
        };
        // SAFETY: no memory is lent.
        let handle = NonNull::new(unsafe { open(link, SNAPLEN) }).context("libpcap gives no handle")?;
        let mut program = Program { length: 0, instructions: std::ptr::null() };
        // SAFETY: an open handle, a place for the program, and a text that outlives the call.
        let result = match unsafe { compile(handle.as_ptr(), &mut program, expression.as_ptr(), 1, NO_MASK) } {
            0 => {
                // SAFETY: the library filled in as many instructions as it says, of that form.
                let all = unsafe { std::slice::from_raw_parts(program.instructions, program.length as usize) };
                let classic = Classic(all.to_vec());
                // SAFETY: a program that the library made, which is not used any more.
                unsafe { free(&mut program) };
                Ok(classic)
            }
            _ => {
                // SAFETY: the handle's message, which ends with 0 and lives as long as the handle.
                let said = unsafe { CStr::from_ptr(error(handle.as_ptr())) };
                Err(said.to_string_lossy().into_owned())
            }
        };
        // SAFETY: an open handle, which is not used any more.
        unsafe { close(handle.as_ptr()) };
        result.map_err(|said| anyhow::anyhow!("{said}"))
    }
}

/// Compiles an expression; every packet matches an empty one.
pub fn compile(expression: &str) -> Result<Filters> {
    if expression.trim().is_empty() {
        return Ok(Filters::default());
    }
    let pcap = Pcap::open()?;
    let text = CString::new(expression).context("an expression has no byte 0")?;
    let frames = pcap.compile(&text, ETHERNET).with_context(|| format!("cannot read expression `{expression}'"))?;
    // One about Ethernet addresses matches no packet without.
    let packets = pcap.compile(&text, RAW).unwrap_or_else(|_| none());
    Ok(Filters { frames: Some(frames), packets: Some(packets) })
}

/// The filter that nothing matches.
fn none() -> Classic {
    Classic(vec![Instruction { code: 0x06, jump_true: 0, jump_false: 0, k: 0 }])
}

/// A filter that passes at least the packets of such clients and of such a service, as clients see them. `None` if nothing can be left
/// out so: for want of both, of libpcap, or because the service is one by mark.
pub fn of_flow(client: Option<&Prefix>, service: Option<&ServiceKey>) -> Option<Filters> {
    let client = client.map(|prefix| format!("net {prefix}"));
    let service = match service {
        Some(ServiceKey::Address { protocol, address, port }) => {
            let port = if *port == 0 { String::new() } else { format!(" and port {port}") };
            Some(format!("host {address} and ({}{port} or icmp or icmp6)", protocol.name()))
        }
        _ => None,
    };
    let all: Vec<String> = [client, service].into_iter().flatten().map(|part| format!("({part})")).collect();
    if all.is_empty() { None } else { compile(&all.join(" and ")).ok() }
}
