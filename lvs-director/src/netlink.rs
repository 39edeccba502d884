//! Requests to the kernel's route and generic netlink (RFC 3549), each on a socket of its own.

use std::io;

use netlink_packet_core::{
    DecodeError, Emitable, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};

pub use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
pub use netlink_sys::protocols::{NETLINK_GENERIC as GENERIC, NETLINK_ROUTE as ROUTE};

/// The first number of each request; a repeated dump has the next one.
const FIRST: u32 = 1;

/// How often a dump is asked for whose table changed while the kernel wrote it.
const DUMP_TRIES: u32 = 16;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error(transparent)]
    Socket(io::Error),
    /// The kernel's answer is an error number.
    #[error(transparent)]
    Refused(io::Error),
    /// The answer is no netlink message.
    #[error("the kernel's netlink answer makes no sense: {0}")]
    Malformed(DecodeError),
    /// A table changed during every dump of it.
    #[error("the kernel's table changes faster than it can be read")]
    Unsteady,
}

/// A message's type and what follows the netlink header, undecoded: callers read only what they need of it, so unknown
/// attributes of newer kernels do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message's type.
    pub kind: u16,
    /// The fixed part of the type, then attributes.
    pub body: Vec<u8>,
}

impl Message {
    /// A message of fixed part and attributes.
    pub fn new(kind: u16, fixed: &[u8], attributes: &[impl Emitable]) -> Self {
        let mut body = fixed.to_vec();
        for attribute in attributes {
            let at = body.len();
            body.resize(at + attribute.buffer_len(), 0);
            attribute.emit(&mut body[at..]);
        }
        Message { kind, body }
    }

    /// The value of the first attribute of this type after a fixed part of so many bytes.
    pub fn attribute(&self, fixed: usize, kind: u16) -> Option<&[u8]> {
        let mut attributes = NlasIterator::new(self.body.get(fixed..)?).map_while(Result::ok);
        attributes.find(|attribute| attribute.kind() == kind).and_then(|attribute| {
            let length = attribute.length().into();
            attribute.into_inner().get(NLA_HEADER_SIZE..length)
        })
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Message { kind: header.message_type, body: payload.to_vec() })
    }
}

/// Asks the kernel to do something, with flags beside those that all requests have, and waits until it is done.
///
/// # Errors
/// [`Error::Refused`] with the kernel's error number; [`Error::Socket`] if the request cannot be sent.
pub fn act(protocol: isize, request: impl NetlinkSerializable, flags: u16) -> Result<(), Error> {
    exchange(Socket::new(protocol), request, NLM_F_ACK | flags).map(drop)
}

/// Asks the kernel for something: the messages of its answer.
///
/// # Errors
/// As [`act`].
pub fn get(protocol: isize, request: impl NetlinkSerializable) -> Result<Vec<Message>, Error> {
    exchange(Socket::new(protocol), request, NLM_F_ACK)
}

/// Asks the kernel for everything of a table. A dump during which the table changed is asked for again.
///
/// # Errors
/// As [`act`]; [`Error::Unsteady`] if the table changed during every dump.
pub fn dump(protocol: isize, request: impl NetlinkSerializable) -> Result<Vec<Message>, Error> {
    exchange(Socket::new(protocol), request, NLM_F_DUMP)
}

/// As [`dump`], but of what the request's fields name alone (`NETLINK_GET_STRICT_CHK`). The kernel looks at nothing else, however
/// large the table is.
///
/// # Errors
/// As [`dump`].
pub fn select(protocol: isize, request: impl NetlinkSerializable) -> Result<Vec<Message>, Error> {
    let socket = Socket::new(protocol).and_then(|socket| {
        socket.set_netlink_get_strict_chk(true)?;
        Ok(socket)
    });
    exchange(socket, request, NLM_F_DUMP)
}

/// Sends a request and returns the messages of the answer, up to its acknowledgement or its end.
fn exchange(socket: io::Result<Socket>, request: impl NetlinkSerializable, flags: u16) -> Result<Vec<Message>, Error> {
    let mut socket = socket.map_err(Error::Socket)?;
    socket.bind_auto().map_err(Error::Socket)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    for number in (FIRST..).take(DUMP_TRIES as usize) {
        request.header.sequence_number = number;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(Error::Socket)?;
        let mut answer = Answer { number, ..Answer::default() };
        while !answer.complete {
            let received = socket.recv_from_full();
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => answer.take(&received.map_err(Error::Socket)?.0)?,
            }
        }
        if !answer.interrupted {
            return Ok(answer.messages);
        }
    }
    Err(Error::Unsteady)
}

/// What has been received of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The number of the request.
    pub number: u32,
    /// The messages so far.
    pub messages: Vec<Message>,
    /// Whether the acknowledgement or the end of a dump was among it.
    pub complete: bool,
    /// Whether the table changed during a dump (`NLM_F_DUMP_INTR`).
    pub interrupted: bool,
}

impl Answer {
    /// Takes the messages of a datagram. Messages of other requests are ignored.
    ///
    /// # Errors
    /// As [`act`]; [`Error::Malformed`] for what is no netlink message.
    pub fn take(&mut self, mut datagram: &[u8]) -> Result<(), Error> {
        while !datagram.is_empty() && !self.complete {
            let NetlinkMessage { header, payload, .. } =
                NetlinkMessage::<Message>::deserialize(datagram).map_err(Error::Malformed)?;
            datagram = datagram.get((header.length as usize).next_multiple_of(4)..).unwrap_or_default();
            if header.sequence_number != self.number {
                continue;
            }
            self.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match payload {
                NetlinkPayload::InnerMessage(message) => self.messages.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(Error::Refused(error.to_io())),
                NetlinkPayload::Error(_) => self.complete = true,
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(Error::Refused(io::Error::from_raw_os_error(-done.code)));
                }
                NetlinkPayload::Done(_) => self.complete = true,
                NetlinkPayload::Overrun(_) => {
                    return Err(Error::Socket(io::Error::from_raw_os_error(libc::ENOBUFS)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, DoneMessage, ErrorMessage};

    use super::*;

    fn datagram(number: u32, flags: u16, payload: NetlinkPayload<Message>) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        (header.sequence_number, header.flags) = (number, flags);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16) -> Message {
        Message::new(kind, &[1, 2, 3, 4], &[DefaultNla::new(3, b"eth0\0".to_vec()), DefaultNla::new(5, vec![9])])
    }

    #[test]
    fn an_answer_is_what_has_the_requests_number_up_to_its_end() {
        let mut answer = Answer { number: 7, ..Answer::default() };
        let inner = |kind| NetlinkPayload::InnerMessage(message(kind));
        let bytes = [datagram(6, 0, inner(16)), datagram(7, 0, inner(17)), datagram(7, NLM_F_DUMP_INTR, inner(18))];
        answer.take(&bytes.concat()).unwrap();
        assert_eq!(answer.messages, [message(17), message(18)]);
        assert!(answer.interrupted && !answer.complete);
        answer.take(&datagram(7, 0, NetlinkPayload::Done(DoneMessage::default()))).unwrap();
        assert!(answer.complete);
    }

    #[test]
    fn an_error_number_is_the_kernels() {
        let mut refused = ErrorMessage::default();
        refused.code = std::num::NonZeroI32::new(-libc::EEXIST);
        let answer = Answer { number: 1, ..Answer::default() }.take(&datagram(1, 0, NetlinkPayload::Error(refused)));
        assert_eq!(answer.unwrap_err().to_string(), io::Error::from_raw_os_error(libc::EEXIST).to_string());
        let short = Answer::default().take(&[16, 0, 0, 0, 2]);
        assert!(matches!(short, Err(Error::Malformed(_))));
    }

    #[test]
    fn attributes_follow_the_fixed_part() {
        let message = message(16);
        assert_eq!(message.attribute(4, 3), Some(&b"eth0\0"[..]));
        assert_eq!(message.attribute(4, 5), Some(&[9][..]));
        assert_eq!((message.attribute(4, 6), message.attribute(400, 3)), (None, None));
    }

    #[test]
    fn lo_is_among_the_kernels_links() {
        let request = Message::new(libc::RTM_GETLINK, &[0; 16], &[] as &[DefaultNla]);
        let links = dump(ROUTE, request).unwrap();
        assert!(links.iter().any(|link| link.attribute(16, libc::IFLA_IFNAME) == Some(b"lo\0")));
    }
}
