//! Who has an address, asked of everybody on a network by ARP and neighbour discovery.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::packets::{advertised, arp_answer, arp_request, solicitation, solicited};
use super::probes::{PAUSES, wait};
use super::sockets::{PacketSocket, Packets};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The device on whose network it is asked.
    pub device: u32,
    /// The device's own MAC address.
    pub mac: [u8; 6],
    /// The asker's address; `None` if nobody is to note it.
    pub from: Option<IpAddr>,
    /// The address.
    pub target: IpAddr,
}

/// How long everybody who has an address is waited for, once somebody has answered.
const MORE: Duration = Duration::from_millis(60);

/// MAC addresses by device and address: those that answered, in their order.
pub type Owners = HashMap<(u32, IpAddr), Vec<[u8; 6]>>;

/// Asks all questions at once. An address without an answer is not among the answers.
pub fn who_has(questions: &[Question]) -> io::Result<Owners> {
    let (arp, six) = (PacketSocket::open(Packets::Arp)?, PacketSocket::open(Packets::V6(0))?);
    let mut owners = Owners::new();
    for pause in PAUSES {
        for question in questions.iter().filter(|question| !owners.contains_key(&(question.device, question.target))) {
            // A device that takes no frames has nobody to answer.
            let _ = ask(question, &arp, &six);
        }
        let is_open = |owners: &Owners| questions.iter().any(|q| !owners.contains_key(&(q.device, q.target)));
        wait(&[&arp, &six], pause, || {
            take(&arp, &six, &mut owners)?;
            Ok(is_open(&owners))
        })?;
        if !is_open(&owners) {
            break;
        }
    }
    wait(&[&arp, &six], MORE, || take(&arp, &six, &mut owners).map(|()| true))?;
    Ok(owners)
}

fn ask(question: &Question, arp: &PacketSocket, six: &PacketSocket) -> io::Result<()> {
    let Question { device, mac, from, target } = *question;
    match target {
        IpAddr::V4(target) => {
            let from = match from {
                Some(IpAddr::V4(from)) => from,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            arp.send(device, [0xff; 6], &arp_request(mac, from, target))
        }
        IpAddr::V6(target) => {
            let Some(IpAddr::V6(from)) = from else { return Ok(()) };
            let Some(packet) = solicitation(mac, from, target) else { return Ok(()) };
            six.send(device, solicited(target).1, &packet)
        }
    }
}

/// Takes the answers that have come.
fn take(arp: &PacketSocket, six: &PacketSocket, owners: &mut Owners) -> io::Result<()> {
    let mut add = |device, address: IpAddr, mac| {
        let all = owners.entry((device, address)).or_default();
        if !all.contains(&mac) {
            all.push(mac);
        }
    };
    while let Some((device, _, packet)) = arp.receive()? {
        if let Some((address, mac)) = arp_answer(&packet) {
            add(device, address.into(), mac);
        }
    }
    while let Some((device, sender, packet)) = six.receive()? {
        if let Some((address, mac)) = advertised(&packet) {
            add(device, address.into(), mac.unwrap_or(sender));
        }
    }
    Ok(())
}
