//! Sealed messages: only who has the shared key can read them or write them, and each is received once. IPVS has nothing of the
//! kind: to its daemons, a sealed message is a malformed one.
//!
//! A sealed message is a header, a nonce, and the message in XChaCha20-Poly1305 with its tag. The header is 0, the syncid, the
//! length (2 bytes), 0, [`SEALED`], and two bytes 0; it is authenticated. The nonce is the sender's number, drawn when its daemon
//! started, the time in milliseconds since 1970, and a number that counts its messages.

use std::fs::File;
use std::io::{Read, Take};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use lvs_common::sync::Window;

use crate::dataplane::error::{Context, Result, unfit};

/// What stands where an open message has its version.
const SEALED: u8 = 0x80;
const HEADER: usize = 8;
const NONCE: usize = 24;
const TAG: usize = 16;
/// By how many bytes a sealed message is longer than what it seals.
pub const OVERHEAD: usize = HEADER + NONCE + TAG;
/// By how many milliseconds the clocks of two directors may differ.
const SKEW: u64 = 30_000;
/// Most senders that are remembered. A sender needs the key, so this is no limit that others could exhaust.
const SENDERS: usize = 256;
/// Bytes of a key, which a file has as twice as many hexadecimal digits.
const KEY: usize = 32;

/// Reads the key of a file.
fn read_key(path: &Path) -> Result<XChaCha20Poly1305> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the key in {name}"))?;
    if file.metadata().with_context(|| format!("cannot read the key in {name}"))?.mode() & 0o077 != 0 {
        return unfit(format!("others may read the key in {name}: chmod 600 {name}"));
    }
    let mut text = String::new();
    let mut start: Take<File> = file.take(2 * KEY as u64 + 2);
    start.read_to_string(&mut text).with_context(|| format!("cannot read the key in {name}"))?;
    let Some(key) = digits(text.trim()) else {
        return unfit(format!("{name} has no key, {} hexadecimal digits: openssl rand -hex {KEY} > {name}", 2 * KEY));
    };
    Ok(XChaCha20Poly1305::new(Key::from_slice(&key)))
}

/// The bytes of hexadecimal digits.
fn digits(text: &str) -> Option<[u8; KEY]> {
    let mut key = [0; KEY];
    if text.len() != 2 * KEY || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Both sides of a key.
pub struct Seal {
    /// Seals what this director sends.
    pub sealer: Sealer,
    /// Opens what it receives.
    pub opener: Opener,
}

impl Seal {
    /// With the key in a file, if messages are sealed.
    pub fn with(key: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = key else { return Ok(None) };
        let cipher = read_key(path)?;
        let sender = getrandom::u64().ok().context("the kernel gave no random numbers")?.to_be_bytes();
        let opener = Opener { cipher: cipher.clone(), senders: Vec::new() };
        Ok(Some(Seal { sealer: Sealer { cipher, sender, count: 0 }, opener }))
    }
}

/// Seals messages.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    sender: [u8; 8],
    count: u64,
}

impl Sealer {
    /// A message, sealed.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        self.seal_at(message, now())
    }

    fn seal_at(&mut self, message: &[u8], time: u64) -> Vec<u8> {
        self.count += 1;
        let [high, low] = ((message.len() + OVERHEAD) as u16).to_be_bytes();
        let syncid = message.get(1).copied().unwrap_or(0);
        let header = [0, syncid, high, low, 0, SEALED, 0, 0];
        let mut nonce = [0; NONCE];
        nonce[..8].copy_from_slice(&self.sender);
        nonce[8..16].copy_from_slice(&time.to_be_bytes());
        nonce[16..].copy_from_slice(&self.count.to_be_bytes());
        let payload = Payload { msg: message, aad: &header };
        // Encrypting fails only for messages that are longer than memory.
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), payload).unwrap_or_default();
        [&header[..], &nonce, &sealed].concat()
    }
}

/// A sender whose messages were received.
struct Sender {
    number: u64,
    window: Window,
    /// The time of its latest message.
    latest: u64,
}

/// Opens sealed messages.
pub struct Opener {
    cipher: XChaCha20Poly1305,
    senders: Vec<Sender>,
}

impl Opener {
    /// The message in a datagram; `None` if it is not sealed with the key, was received before, or is too old.
    pub fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.open_at(datagram, now())
    }

    fn open_at(&mut self, datagram: &[u8], now: u64) -> Option<Vec<u8>> {
        let (header, rest) = datagram.split_at_checked(HEADER)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE)?;
        let number = |at: usize| Some(u64::from_be_bytes(*nonce.get(at..)?.first_chunk()?));
        let (sender, time, count) = (number(0)?, number(8)?, number(16)?);
        if header.get(5) != Some(&SEALED) || time.abs_diff(now) > SKEW {
            return None;
        }
        let payload = Payload { msg: sealed, aad: header };
        let message = self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok()?;
        self.is_new(sender, time, count, now).then_some(message)
    }

    /// Whether an authentic message was not received before.
    fn is_new(&mut self, number: u64, time: u64, count: u64, now: u64) -> bool {
        // Whoever replays messages of a sender that is forgotten finds them too old.
        self.senders.retain(|sender| sender.latest.abs_diff(now) <= 2 * SKEW);
        let at = self.senders.iter().position(|sender| sender.number == number);
        let at = at.or_else(|| {
            let is_room = self.senders.len() < SENDERS;
            is_room.then(|| self.senders.push(Sender { number, window: Window::default(), latest: time }))?;
            Some(self.senders.len() - 1)
        });
        let Some(sender) = at.and_then(|at| self.senders.get_mut(at)) else { return false };
        sender.latest = sender.latest.max(time);
        sender.window.note(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pair(keys: [u8; 2]) -> (Sealer, Opener) {
        let [cipher, other] = keys.map(|key| XChaCha20Poly1305::new(Key::from_slice(&[key; KEY])));
        (Sealer { cipher, sender: [7; 8], count: 0 }, Opener { cipher: other, senders: Vec::new() })
    }

    #[test]
    fn a_sealed_message_is_opened_once() {
        let (mut sealer, mut opener) = pair([1, 1]);
        let message = [0, 9, 0, 8, 0, 1, 0, 0];
        let (first, second) = (sealer.seal_at(&message, 5000), sealer.seal_at(&message, 5000));
        assert_eq!((first.len(), first[1]), (message.len() + OVERHEAD, 9));
        // In any order, and each once.
        assert_eq!(opener.open_at(&second, 5001).as_deref(), Some(&message[..]));
        assert_eq!(opener.open_at(&first, 5001).as_deref(), Some(&message[..]));
        assert!(opener.open_at(&first, 5001).is_none() && opener.open_at(&second, 5001).is_none());
    }

    #[test]
    fn what_is_changed_old_or_of_another_key_is_not_opened() {
        let (mut sealer, mut opener) = pair([1, 1]);
        let sealed = sealer.seal_at(b"message", 1_000_000);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(opener.open_at(&changed, 1_000_000).is_none(), "byte {at}");
            assert!(opener.open_at(&sealed[..at], 1_000_000).is_none(), "{at} bytes");
        }
        for now in [1_000_000 + SKEW + 1, 1_000_000 - SKEW - 1] {
            assert!(opener.open_at(&sealed, now).is_none());
        }
        assert!(opener.open_at(&sealed, 1_000_000 + SKEW).is_some());
        let (mut sealer, mut other) = pair([1, 2]);
        assert!(other.open_at(&sealer.seal_at(b"message", 5), 5).is_none());
    }

    #[test]
    fn a_senders_messages_are_not_received_again_after_it_is_forgotten() {
        let (mut sealer, mut opener) = pair([1, 1]);
        let sealed = sealer.seal_at(b"message", 100_000);
        assert!(opener.open_at(&sealed, 100_000).is_some());
        for now in (100_000..200_000).step_by(5000) {
            assert!(opener.open_at(&sealed, now).is_none(), "at {now}");
        }
    }

    #[test]
    fn a_key_is_in_a_file_of_ones_own() {
        let path = std::env::temp_dir().join(format!("lvs-key-{}", std::process::id()));
        let refused = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read_key(&path).err().map(|error| error.to_string())
        };
        let key = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
        assert_eq!(refused(&format!("{key}\n"), 0o600), None);
        assert!(refused(&key, 0o640).unwrap().contains("chmod 600"));
        for text in ["", &key[1..], &format!("{key}0"), &key.replace('0', "x")] {
            assert!(refused(text, 0o600).unwrap().contains("openssl rand -hex 32"), "{text}");
        }
        fs::remove_file(&path).unwrap();
        assert!(read_key(&path).err().unwrap().to_string().contains("cannot read the key"));
    }
}
