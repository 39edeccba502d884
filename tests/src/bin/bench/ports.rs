//! New FullNAT connections: what it takes to find a free port where few are left.

use lvs_common::byte_order::Be16;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use aya::Pod;
use aya::maps::HashMap;
use lvs_common::abi::bench::CHUNK;
use lvs_common::abi::{Address, CHUNK_PORTS, CHUNK_WORDS, CHUNKS, PortKey, Ports};
use tests::fixtures::{SERVER, Testbed, frame, vip, xdp_verdict};

use crate::connections::{forget, pinned, requests};
use crate::report::Report;
use crate::wrapper::{Wrapper, descriptor, median};

/// Local addresses: what is opened in a measurement takes a fourth of the ports that are free when nearly all are taken.
const LOCALS: u32 = 128;
/// Ports that are given out.
const FIRST: u32 = 1024;
/// How many of a thousand ports are taken already.
const LEVELS: [u32; 5] = [0, 500, 950, 999, 1000];

/// [`PortKey`] as aya takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key(PortKey);

/// [`Ports`] as aya takes them.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Taken(Ports);

// SAFETY: plain integers without padding.
unsafe impl Pod for Key {}
// SAFETY: as above.
unsafe impl Pod for Taken {}

/// Which ports of a chunk are taken: so many of a thousand, all over the chunk.
fn taken(chunk: u32, level: u32) -> Taken {
    let mut ports = Ports { taken: 0, pad: 0, bits: [0; CHUNK_WORDS as usize] };
    for at in 0..CHUNK_PORTS {
        let scattered = at.wrapping_mul(2_654_435_761) >> 8;
        if chunk * CHUNK_PORTS + at >= FIRST && scattered % 1000 < level {
            ports.bits[at as usize / 64] |= 1 << (at % 64);
            ports.taken += 1;
        }
    }
    Taken(ports)
}

/// Takes ports toward a real server away, and leaves the others free.
fn fill(real: SocketAddr, level: u32) -> Result<()> {
    let mut map = HashMap::<_, Key, Taken>::try_from(pinned("PORTS")?)?;
    let SocketAddr::V4(v4) = real else { anyhow::bail!("{real} is not IPv4") };
    for chunk in 0..CHUNKS {
        let ports = taken(chunk, level);
        for local in 1..=LOCALS {
            let key = PortKey {
                real: Address::v4(v4.ip().octets()),
                local,
                real_port: Be16::new(real.port()),
                protocol: frame::TCP,
                chunk: chunk as u8,
            };
            map.insert(Key(key), ports, 0)?;
        }
    }
    Ok(())
}

/// The cost of a connection's first packet, by how full the pool is.
pub fn new(report: &mut Report, rounds: usize) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    let (service, real) = (SocketAddr::new(vip(false), 3000), SocketAddr::new(SERVER.of(false), 3000));
    let mut rules = vec![format!("-A -t {service} -s rr"), format!("-a -t {service} -r {real} --fullnat")];
    rules.extend((1..=LOCALS).map(|host| format!("--add-laddr -z 198.51.100.{host}")));
    testbed.restore(&rules)?;
    report.section("XDP, net ns per new FullNAT connection", "");
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let (ours, nothing) = (descriptor(&programs.xdp)?, wrapper.floor("floor_drop")?);
        let mut times = vec![Vec::new(); LEVELS.len()];
        for _ in 0..rounds {
            for (level, times) in LEVELS.iter().zip(&mut times) {
                let run = requests(&testbed, service, 1 << 16)?;
                fill(real, *level)?;
                forget()?;
                let base = wrapper.time(&nothing, &run, testbed.front, CHUNK)?;
                let timing = wrapper.time(&ours, &run, testbed.front, CHUNK)?;
                let expected = if *level == 1000 { xdp_verdict::DROP } else { xdp_verdict::REDIRECT };
                ensure!(timing.verdict == expected, "{level} of a thousand: verdict {}", timing.verdict);
                times.push(timing.ns - base.ns);
            }
        }
        for (level, times) in LEVELS.iter().zip(&mut times) {
            let name = format!("{} % of the ports taken", f64::from(*level) / 10.0);
            report.add("new by fullnat", name, median(times), "ns", None);
        }
        Ok(())
    })
}
