//! Packets as a file of pcapng.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use lvs_director::dataplane::observe::Sight;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};

use super::frame::{came_bare, framed, left_bare};
use super::story::Story;

/// Time stamps are in nanoseconds: ten to the power of minus so many seconds.
const NANOSECONDS: u8 = 9;
/// Flags of a packet that came in, and of one that went out.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Bytes of the Ethernet header that a packet without one gets.
const HEADER: u32 = 14;

/// A file, written as it comes.
pub struct File<W: Write> {
    writer: PcapNgWriter<BufWriter<W>>,
    /// The numbers of the interfaces, by their names.
    interfaces: HashMap<String, u32>,
    snaplen: u32,
    expression: String,
}

/// A packet of the file.
struct Record<'a> {
    device: &'a str,
    time: Duration,
    length: u32,
    frame: &'a [u8],
    flags: u32,
    comment: String,
}

impl<W: Write> File<W> {
    /// A file of packets of these devices, and of others that will be there.
    pub fn new(to: W, devices: &[String], snaplen: u32, expression: String) -> Result<Self> {
        let writer = PcapNgWriter::new(BufWriter::new(to)).context("cannot write")?;
        let mut file = File { writer, interfaces: HashMap::new(), snaplen, expression };
        // A file without interfaces is none that tcpdump reads.
        devices.iter().try_for_each(|device| file.interface(device).map(drop))?;
        Ok(file)
    }

    /// The number of an interface. All have the same link type and length, as libpcap reads no others.
    fn interface(&mut self, device: &str) -> Result<u32> {
        if let Some(number) = self.interfaces.get(device) {
            return Ok(*number);
        }
        let name = InterfaceDescriptionOption::IfName(Cow::Owned(device.to_owned()));
        let mut options = vec![name, InterfaceDescriptionOption::IfTsResol(NANOSECONDS)];
        if !self.expression.is_empty() {
            // 0: an expression of libpcap's.
            let filter = [&[0], self.expression.as_bytes()].concat();
            options.push(InterfaceDescriptionOption::IfFilter(Cow::Owned(filter)));
        }
        let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: self.snaplen, options };
        self.writer.write_pcapng_block(block).context("cannot write")?;
        let number = self.interfaces.len() as u32;
        self.interfaces.insert(device.to_owned(), number);
        Ok(number)
    }

    /// Writes a packet as it came, and as it left if it did. Without `came`, only its first bytes are known of how it came.
    pub fn write(
        &mut self,
        came: Option<&Sight>,
        left: &Sight,
        story: &Story,
        time: impl Fn(u64) -> Duration,
    ) -> Result<()> {
        let report = &left.report;
        let head = report.head.get(..report.head_length as usize).unwrap_or_default();
        let (bytes, at) = came.map_or((head, report.time), |came| (&came.bytes[..], came.report.time));
        let before = framed(came_bare(report), &bytes[..bytes.len().min(self.snaplen as usize)]);
        let reasons = reasons(story);
        let is_sent = matches!(story.verdict, "redirect" | "send back" | "kept");
        self.put(Record {
            device: &story.device,
            time: time(at),
            length: length(came_bare(report), report.came_length),
            frame: &before,
            flags: INBOUND,
            comment: format!("lvs: {}, {reasons}", story.tier),
        })?;
        let after = framed(left_bare(report), &left.bytes);
        // What goes to the host's stack unchanged, and what is dropped, is there already.
        let is_changed = !after.starts_with(&before[..before.len().min(after.len())]);
        if story.verdict == "drop" || !is_sent && !is_changed {
            return Ok(());
        }
        let (device, by) = match &story.leaves_by {
            Some(device) => (device.as_str(), format!("sent by {device}")),
            None if is_sent => (story.device.as_str(), "sent by a device that the kernel chose".to_owned()),
            None => (story.device.as_str(), "left to the host's stack".to_owned()),
        };
        self.put(Record {
            device,
            time: time(report.time),
            length: length(left_bare(report), report.length),
            frame: &after,
            flags: OUTBOUND,
            comment: format!("lvs: {by}, came on {}, {reasons}", story.device),
        })
    }

    fn put(&mut self, record: Record<'_>) -> Result<()> {
        let interface_id = self.interface(record.device)?;
        let options =
            vec![EnhancedPacketOption::Comment(Cow::Owned(record.comment)), EnhancedPacketOption::Flags(record.flags)];
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: record.time,
            original_len: record.length.max(record.frame.len() as u32),
            data: Cow::Borrowed(record.frame),
            options,
        };
        self.writer.write_pcapng_block(block).map(drop).context("cannot write")
    }

    /// Has readers see what was written.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.get_mut().flush().context("cannot write")
    }
}

/// The length of a packet's frame.
fn length(is_bare: bool, length: u32) -> u32 {
    length + if is_bare { HEADER } else { 0 }
}

/// What is said of a packet: its exits, and whose it was.
fn reasons(story: &Story) -> String {
    let steps = story.steps.iter().filter(|step| matches!(step.step, "exit" | "connection" | "service" | "mark"));
    let said: Vec<String> = steps.map(|step| format!("{} {}", step.step, step.what)).collect();
    format!("verdict {}; {}", story.verdict, said.join("; "))
}
