//! A pair of directors that loses the active one again and again.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use tests::topology::{Failure, Member, Pair, Site, Transfers, VIP, VIP6};
use tests::{eventually, kernel_has_ipvs};

use crate::work::{ECHO, echo};

/// Streams of each round, which a failure and the return must not end.
const STREAMS: usize = 20;

/// What came of it.
#[derive(Default)]
pub struct Failovers {
    rounds: usize,
    whole: usize,
    /// What was not as it should be.
    pub faults: Vec<String>,
}

impl Failovers {
    /// That of a thread that panicked: standard error has the reason.
    pub fn panicked() -> Self {
        Failovers { faults: vec!["the pair's thread panicked".to_owned()], ..Failovers::default() }
    }

    /// Fails and returns until then.
    pub fn run(until: Instant) -> Self {
        let mut all = Failovers::default();
        if kernel_has_ipvs() {
            all.faults.push("the pair needs a kernel without IPVS: its daemon has the port".to_owned());
            return all;
        }
        if let Err(error) = all.soak(until) {
            all.faults.push(format!("the pair: {error:#}"));
        }
        all
    }

    fn soak(&mut self, until: Instant) -> Result<()> {
        let mut rules = Vec::new();
        for (vip, servers) in [
            (VIP, [101, 102].map(|host| format!("192.168.122.{host}:{ECHO}"))),
            (VIP6, [101, 102].map(|host| format!("[2001:db8:b::{host}]:{ECHO}"))),
        ] {
            let service = SocketAddr::new(vip, ECHO);
            rules.push(format!("-A -t {service} -s rr"));
            rules.extend(servers.iter().map(|server| format!("-a -t {service} -r {server} -m")));
        }
        let mut pair = Pair::new(Site::BehindDirector, &rules, "")?;
        while Instant::now() < until {
            let failure = [Failure::Links, Failure::Processes, Failure::Power][self.rounds % 3];
            becomes(&pair, Member::First, "master");
            becomes(&pair, Member::Second, "backup");
            let transfers = Transfers::begin(&pair.cluster.client, &echo(), STREAMS)?;
            transfers.have_gone_on();
            pair.fail(failure)?;
            transfers.have_gone_on();
            becomes(&pair, Member::Second, "master");
            pair.repair(failure)?;
            becomes(&pair, Member::First, "master");
            transfers.have_gone_on();
            let outcome = transfers.end()?;
            self.rounds += 1;
            self.whole += outcome.complete;
            ensure!(outcome.lost.is_empty(), "{failure:?}: {}", outcome.lost.join(", "));
        }
        Ok(())
    }
}

fn becomes(pair: &Pair, member: Member, role: &str) {
    eventually(&format!("the {member:?} is {role}; {}", pair.log(member)), || pair.runs(member, role));
}

impl Display for Failovers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Pair: {} failures and returns, {} of {} streams whole",
            self.rounds,
            self.whole,
            self.rounds * STREAMS
        )
    }
}
