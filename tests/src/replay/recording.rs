//! The recordings: one JSON object a line. `tests/golden/README.md` tells where they come from.

use serde::Deserialize;

/// Packet vectors.
const TRAFFIC: &str = include_str!("../../golden/traffic.jsonl");
/// Packet vectors, of random rules and random packets.
const RANDOM: &str = include_str!("../../golden/random.jsonl");
/// Runs of the schedulers.
const SCHED: &str = include_str!("../../../lvs-common/tests/golden/sched.jsonl");

/// A device of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Port {
    /// Towards the clients.
    Client,
    /// Towards the servers.
    Server,
}

/// A line of `traffic.jsonl` and `random.jsonl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Step {
    /// A scenario begins.
    Start(Start),
    /// A command in the director, which succeeds and says nothing but this.
    Command {
        /// Its number in the recording.
        step: u32,
        /// Its arguments.
        arguments: String,
        /// What it printed.
        stdout: String,
        /// Counters were recorded after a pause, so that they are what they should be.
        #[serde(default)]
        exact: bool,
    },
    /// Frames into a port, and all that came out.
    Inject {
        /// See above.
        step: u32,
        /// Where they go in.
        port: Port,
        /// What they are.
        note: String,
        /// The frames.
        frames: Vec<Hex>,
        /// The frames that came out, and where.
        out: Vec<(Port, Hex)>,
    },
    /// The line of the connection that the last frame belongs to, in the list of connections.
    State {
        /// See above.
        step: u32,
        /// The packets so far.
        case: String,
        /// The line.
        line: Vec<String>,
    },
    /// A setting is changed.
    Sysctl {
        /// `NAME=VALUE`.
        setting: String,
    },
    /// Servers are started on the director: one that accepts TCP connections on port 8080, one on UDP port 5353 that sends
    /// everything back behind `re:`.
    Servers,
}

/// What a scenario begins with.
#[derive(Clone, Debug, Deserialize)]
pub struct Start {
    /// Its name.
    pub scenario: String,
    /// MTU of the network towards the clients.
    pub client_mtu: u32,
    /// MTU of the network towards the servers.
    pub server_mtu: u32,
    /// Settings, each `NAME=VALUE`.
    pub sysctls: Vec<String>,
    /// Packets from clients to 192.0.2.0/24 have mark 7.
    #[serde(default)]
    pub mark: Option<u32>,
}

/// Bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let byte = |at| u8::from_str_radix(text.get(at..at + 2).unwrap_or("?"), 16);
        (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Hex)
    }
}

/// A scenario of these.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its beginning.
    pub start: Start,
    /// What follows.
    pub steps: Vec<Step>,
}

/// All scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for line in TRAFFIC.lines().chain(RANDOM.lines()) {
        match serde_json::from_str(line).expect("a recorded step") {
            Step::Start(start) => scenarios.push(Scenario { start, steps: Vec::new() }),
            step => scenarios.last_mut().expect("a scenario begins first").steps.push(step),
        }
    }
    scenarios
}

/// A run of a scheduler: a line of `sched.jsonl`.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// `SCHEDULER[/FLAGS] …`.
    pub name: String,
    /// What the packets of a connection are: `udp`, `tcp-syn`, `tcp-estab` (three), `tcp-estab-close3` (and every third
    /// connection is reset by its client).
    pub variant: String,
    /// Commands before the first connection.
    pub commands: Vec<String>,
    /// Commands between connections, with the number of the connection that they precede.
    pub events: Vec<(usize, String)>,
    /// The connections.
    pub picks: Vec<Pick>,
    /// Address, weight, active and inactive connections of every destination at the end, as listed.
    pub r#final: Vec<(String, u32, u32, u32)>,
}

/// A connection of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Pick {
    /// Client's address and port, and the number of the server it got, if any.
    Service(std::net::IpAddr, u16, Option<u8>),
    /// The same with the virtual address, which a service of a firewall mark has not.
    Marked(std::net::IpAddr, u16, std::net::IpAddr, Option<u8>),
}

/// All runs.
pub fn runs() -> Vec<Run> {
    SCHED.lines().map(|line| serde_json::from_str(line).expect("a recorded run")).collect()
}
