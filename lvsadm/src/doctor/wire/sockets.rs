//! The sockets that questions leave by, and that answers come to. They see a packet before the data plane's TC programs do, and what they
//! send passes none.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

/// Bytes of an answer that are looked at.
const LOOKED_AT: usize = 2048;

/// Instructions of socket filters: load of a byte or half word, at a place or that many bytes from the index register; the length of an
/// IPv4 header into that; comparison; result.
const BYTE: u16 = 0x30;
const HALF: u16 = 0x28;
const BYTE_AFTER: u16 = 0x50;
const HALF_AFTER: u16 = 0x48;
const HEADER: u16 = 0xb1;
const EQUAL: u16 = 0x15;
const RESULT: u16 = 0x06;

/// Takes answers to the pings of an id and to the requests from a port of that number, and advertisements of neighbour discovery. So a
/// busy device costs little.
fn filter(is_v4: bool, id: u16) -> Vec<SockFilter> {
    let id = u32::from(id);
    let code: &[(u16, u8, u8, u32)] = match is_v4 {
        true => &[
            (BYTE, 0, 0, 9),
            (EQUAL, 0, 3, 6),
            (HEADER, 0, 0, 0),
            (HALF_AFTER, 0, 0, 2),
            (EQUAL, 6, 7, id),
            (EQUAL, 0, 6, 1),
            (HEADER, 0, 0, 0),
            (BYTE_AFTER, 0, 0, 0),
            (EQUAL, 0, 3, 0),
            (HALF_AFTER, 0, 0, 4),
            (EQUAL, 0, 1, id),
            (RESULT, 0, 0, u32::MAX),
            (RESULT, 0, 0, 0),
        ],
        false => &[
            (BYTE, 0, 0, 6),
            (EQUAL, 0, 2, 6),
            (HALF, 0, 0, 42),
            (EQUAL, 6, 7, id),
            (EQUAL, 0, 6, 58),
            (BYTE, 0, 0, 40),
            (EQUAL, 3, 0, 136),
            (EQUAL, 0, 3, 129),
            (HALF, 0, 0, 44),
            (EQUAL, 0, 1, id),
            (RESULT, 0, 0, u32::MAX),
            (RESULT, 0, 0, 0),
        ],
    };
    code.iter().map(|(code, yes, no, value)| SockFilter::new(*code, *yes, *no, *value)).collect()
}

/// What a packet socket takes and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// ARP.
    Arp,
    /// Answers over IPv4 to questions of an id.
    V4(u16),
    /// Answers over IPv6.
    V6(u16),
}

/// A packet that has come: its device, the MAC address it came from, and its bytes.
pub type Received = (u32, [u8; 6], Vec<u8>);

/// A packet socket without link layer headers, on all devices.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    protocol: u16,
}

impl PacketSocket {
    /// Opens one; answers come to it from now on.
    pub fn open(packets: Packets) -> io::Result<Self> {
        let protocol = match packets {
            Packets::Arp => libc::ETH_P_ARP,
            Packets::V4(_) => libc::ETH_P_IP,
            Packets::V6(_) => libc::ETH_P_IPV6,
        } as u16;
        // With its protocol only once it filters.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        match packets {
            Packets::Arp => {}
            Packets::V4(id) => socket.attach_filter(&filter(true, id))?,
            Packets::V6(id) => socket.attach_filter(&filter(false, id))?,
        }
        socket.set_nonblocking(true)?;
        let bypass: libc::c_int = 1;
        // SAFETY: an integer and its size. Without it, the data plane's program for what the host sends would balance the questions.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const bypass).cast(),
                size_of_val(&bypass) as u32,
            )
        };
        Errno::result(set)?;
        let opened = PacketSocket { socket, protocol };
        opened.socket.bind(&opened.address(0, None))?;
        Ok(opened)
    }

    /// The address of a host on a device's network, or of the devices that are listened at.
    fn address(&self, device: u32, mac: Option<[u8; 6]>) -> SockAddr {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage has room for this address, and any bytes are one.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = self.protocol.to_be();
        address.sll_ifindex = device as i32;
        if let Some(mac) = mac {
            address.sll_halen = 6;
            address.sll_addr[..6].copy_from_slice(&mac);
        }
        // SAFETY: the storage holds an address of that length.
        unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
    }

    /// Sends a packet to a MAC address.
    pub fn send(&self, device: u32, mac: [u8; 6], packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, &self.address(device, Some(mac))).map(drop)
    }

    /// The next packet that has come, if one has.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); LOOKED_AT];
        let (length, from) = match self.socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            // A device went down.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => return Ok(None),
            other => other?,
        };
        // SAFETY: the kernel has written so many bytes.
        let bytes = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        // SAFETY: storage for any address, which the kernel has written one of packet sockets to; any bytes are one.
        let address = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read() };
        let mut mac = [0; 6];
        mac.copy_from_slice(&address.sll_addr[..6]);
        Ok(Some((address.sll_ifindex as u32, mac, bytes)))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket for whole IP packets, which the kernel routes.
#[derive(Debug)]
pub struct RawSocket(Socket);

impl RawSocket {
    /// Of a family.
    pub fn open(is_v4: bool) -> io::Result<Self> {
        let domain = if is_v4 { Domain::IPV4 } else { Domain::IPV6 };
        Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).map(RawSocket)
    }

    /// Sends a packet.
    pub fn send(&self, to: IpAddr, packet: &[u8]) -> io::Result<()> {
        self.0.send_to(packet, &SocketAddr::new(to, 0).into()).map(drop)
    }
}
