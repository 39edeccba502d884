//! The programs of the copy, run on packets.

use std::collections::HashMap;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use lvs_common::abi::{Bucket, Connection as Entry, DestId, EntryKind, IpAddress, NextHop};
use lvs_common::programs::entry;

use super::super::convert;
use super::super::error::{Context, Result};
use super::super::generation::Runner;
use super::super::mapped::Mapped;
use super::super::pins::{is_alive, pin};
use super::super::plane::Plane;
use super::copy::{self, Copied, Pins};
use super::entries::{bring, forget, is_of, occupied, verify};
use super::reason::Reasons;
use super::room::{Held, Near, Room};
use super::subject::Subject;
use crate::rules::{DestinationKey, Family, ServiceKey};

/// Bytes of a frame that a program may make.
const LONGEST: usize = 4096;
/// Verdicts of XDP by their numbers.
const XDP: [&str; 5] = ["aborted", "drop", "pass", "send back", "redirect"];
/// The exit of a packet whose next program is not there.
const CUT_SHORT: &str = "drop-tail-call";
/// XDP leaves the packet to the stack, and so to TC.
const PASS: u32 = 2;

/// A tier that a packet has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: &'static str,
    /// What its programs said.
    pub verdict: &'static str,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Performance {
    /// The tiers that it met.
    pub tiers: Vec<Tier>,
    /// The exits that counted it, each with its meaning.
    pub exits: Vec<(&'static str, &'static str)>,
    /// The frame as it was left.
    pub frame: Vec<u8>,
    /// Whether a connection was there before.
    pub known: bool,
    /// The service and the real server of its connection, if it has one now.
    pub server: Option<(ServiceKey, DestinationKey)>,
    /// Where it is sent, as far as the programs noted it.
    pub hop: Option<NextHop>,
    /// What gave way to its connection, of the entries that stood in its buckets.
    pub yielded: Vec<Held>,
    /// Whether the rest takes a program that sends other packets as well (fragments), which no rehearsal runs.
    pub is_cut_short: bool,
}

/// See the module.
pub struct Rehearsal {
    /// Goes first: the path is by the copy's descriptor.
    _pins: Pins,
    copy: Plane,
    /// Whether the copy has the whole connection table.
    is_whole: bool,
    secret: u64,
    runner: Runner,
    xdp: Option<Xdp>,
    ingress: SchedClassifier,
}

impl Rehearsal {
    /// Of a data plane.
    pub fn of(plane: &mut Plane) -> Result<Self> {
        let Copied { pins, plane: copy, is_whole, secret } = copy::of(plane)?;
        let path = copy.directory.path();
        let xdp = path.join(entry::XDP);
        let xdp = if xdp.exists() { Some(Xdp::from_pin(xdp, XdpAttachType::Interface)?) } else { None };
        Ok(Rehearsal {
            runner: Runner::open(&plane.directory.path(), &path, false)?,
            ingress: SchedClassifier::from_pin(path.join(entry::INGRESS)).context("cannot open a copied program")?,
            xdp,
            copy,
            is_whole,
            secret,
            _pins: pins,
        })
    }

    /// Gives the copy those templates of the data plane that a packet may meet, and if it `has_connections`, those connections.
    pub fn bring(&self, plane: &Plane, subject: &Subject, has_connections: bool) -> Result<()> {
        verify(plane, &self.copy, subject)?;
        if self.is_whole {
            if !has_connections {
                forget(&self.copy, subject);
            }
            return Ok(());
        }
        bring(plane, &self.copy, &self.runner, subject, has_connections)
    }

    /// Why the data plane would do with a packet what it would do.
    pub fn reasons(&self, subject: &Subject) -> Result<Reasons> {
        let room = if self.is_whole { self.near(subject).room() } else { Room::Left };
        Reasons::of(&self.copy, subject, room)
    }

    fn near<'a>(&'a self, subject: &'a Subject) -> Near<'a> {
        Near::of(&self.copy, subject, self.secret)
    }

    /// Runs the programs on a packet. `plane` is the one that runs: it has the links to devices.
    pub fn perform(&self, plane: &Plane, subject: &Subject) -> Result<Performance> {
        let before = self.exits()?;
        let known = self.connection(subject).is_some();
        let held = if self.is_whole { self.near(subject).held() } else { Vec::new() };
        let runs_xdp = ["xdp", "generic"].iter().any(|kind| is_alive(&pin(&plane.directory, kind, subject.device)));
        let mut tiers = Vec::new();
        let mut frame = subject.frame.clone();
        let mut is_done = false;
        if let (Some(program), true) = (&self.xdp, runs_xdp) {
            let (verdict, left) = run(program, &bytes(&[0, frame.len() as u32, 0, subject.device, 0, 0]), &frame)?;
            tiers.push(Tier { name: "xdp", verdict: xdp_verdict(verdict) });
            is_done = verdict != PASS;
            if is_done {
                frame = left;
            }
        }
        if !is_done {
            let mut context = [0; 48];
            // `struct __sk_buff`: mark, ingress_ifindex, ifindex.
            (context[2], context[9], context[10]) = (subject.mark, subject.device, subject.device);
            let (verdict, left) = run(&self.ingress, &bytes(&context), &frame)?;
            tiers.push(Tier { name: "tc", verdict: tc_verdict(verdict) });
            frame = left;
        }
        let left = if self.is_whole { self.near(subject).held() } else { Vec::new() };
        let yielded = held.into_iter().filter(|held| !left.iter().any(|left| left.is(held))).collect();
        let after = self.exits()?;
        let counted =
            after.into_iter().filter(|(name, (_, count))| before.get(name).is_none_or(|(_, old)| old < count));
        let mut exits: Vec<_> = counted.map(|(name, (meaning, _))| (name, meaning)).collect();
        exits.sort_unstable();
        let is_cut_short = exits.iter().any(|(name, _)| *name == CUT_SHORT);
        exits.retain(|(name, _)| *name != CUT_SHORT);
        let (server, hop) = match self.connection(subject) {
            Some((dest, reply_hop, is_reply)) => self.server(dest, is_reply.then_some(reply_hop)),
            None => (None, None),
        };
        Ok(Performance { tiers, exits, frame, known, server, hop, yielded, is_cut_short })
    }

    /// Counters of exits.
    fn exits(&self) -> Result<HashMap<&'static str, (&'static str, u64)>> {
        Ok(self.copy.exits()?.into_iter().map(|(name, meaning, count)| (name, (meaning, count))).collect())
    }

    /// The connection of a packet: its destination, its hop for replies, and whether the packet is a reply.
    fn connection(&self, subject: &Subject) -> Option<(DestId, NextHop, bool)> {
        let copy = &self.copy;
        match subject.family() {
            Family::V4 => connection(&copy.buckets4, &copy.conns4, subject),
            Family::V6 => connection(&copy.buckets6, &copy.conns6, subject),
        }
    }

    /// The service and the real server of a destination, and where packets go.
    fn server(&self, id: DestId, reply: Option<NextHop>) -> (Option<(ServiceKey, DestinationKey)>, Option<NextHop>) {
        if id.is_none() || id.get() >= self.copy.dests.count() {
            return (None, reply);
        }
        let dest = self.copy.dests.get(id);
        let service = convert::service_key(&self.copy.services.get(dest.service));
        let hop = reply.unwrap_or(dest.hop);
        (Some((service, convert::dest_key(&dest))), (hop.ifindex != 0).then_some(hop))
    }
}

fn connection<A: IpAddress>(
    buckets: &Mapped<Bucket>,
    connections: &Mapped<Entry<A>>,
    subject: &Subject,
) -> Option<(DestId, NextHop, bool)> {
    let mut entries = occupied(buckets).map(|at| connections.get(at));
    let found = entries.find(|c| c.kind == EntryKind::CONNECTION && is_of(c, subject))?;
    let client = convert::address(subject.source.ip());
    let is_reply = found.client.widen() != client || found.client_port.get() != subject.source.port();
    Some((found.dest, found.reply_hop, is_reply))
}

/// A verdict of XDP in words.
pub fn xdp_verdict(verdict: u32) -> &'static str {
    XDP.get(verdict as usize).copied().unwrap_or("unknown")
}

/// A verdict of TC in words.
pub fn tc_verdict(verdict: u32) -> &'static str {
    match verdict as i32 {
        -1 | 0 => "pass",
        2 => "drop",
        7 => "redirect",
        4 | 5 | 8 => "kept",
        _ => "unknown",
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn run(
    program: &impl for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = aya::TestRunResult>,
    context: &[u8],
    frame: &[u8],
) -> Result<(u32, Vec<u8>)> {
    let mut out = vec![0; LONGEST];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(context),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).context("the kernel does not run the programs on this packet")?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out))
}
