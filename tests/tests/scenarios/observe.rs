//! `lvsadm trace` and `lvsadm capture`: what they show is what came and what left, in both tiers; a filter passes what it says; and
//! the data plane is as before in the end, also if they are killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use etherparse::SlicedPacket;
use jsonschema::Validator;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::{Value, json};
use tests::eventually;
use tests::topology::{Cluster, Layout, Namespace, Offloads, Site, VIP, VIP6, lvsadm_path};

/// What checks a line of `trace` by the schema in docs/reference/json.md.
fn validator() -> Validator {
    let document = include_str!("../../../docs/reference/json.md");
    let schema = document.split("```json\n").last().and_then(|block| block.split("```").next()).unwrap();
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    schema["$ref"] = json!("#/$defs/story");
    jsonschema::validator_for(&schema).unwrap()
}

/// A command that observes.
struct Observing(Child);

impl Observing {
    /// Begins; packets are observed when it returns.
    fn begin(director: &Namespace, arguments: &str) -> Result<Self> {
        let mut command = director.command(lvsadm_path());
        command.args(arguments.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().context("no standard error")?).read_line(&mut line)?;
        assert!(line.contains("until an interrupt"), "{line}");
        Ok(Observing(child))
    }

    /// Ends it as an interrupt does: what it printed.
    fn end(self) -> Result<String> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT)?;
        let output = self.0.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains(" 0 "), "{said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A packet of a file.
#[derive(Debug)]
struct Packet {
    device: String,
    is_out: bool,
    comment: String,
    frame: Vec<u8>,
    length: u32,
}

/// The packets of a file.
fn read(path: &Path) -> Vec<Packet> {
    let mut reader = PcapNgReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let (mut devices, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.into_iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.into_owned()),
                    _ => None,
                });
                devices.push(name.unwrap());
            }
            Block::EnhancedPacket(packet) => {
                let (mut comment, mut flags) = (String::new(), 0);
                for option in packet.options {
                    match option {
                        EnhancedPacketOption::Comment(text) => comment = text.into_owned(),
                        EnhancedPacketOption::Flags(word) => flags = word,
                        _ => {}
                    }
                }
                packets.push(Packet {
                    device: devices[packet.interface_id as usize].clone(),
                    is_out: flags & 3 == 2,
                    comment,
                    frame: packet.data.into_owned(),
                    length: packet.original_len,
                });
            }
            _ => {}
        }
    }
    packets
}

/// Source and destination of a frame's outer packet, and whether it is TCP.
fn ends(frame: &[u8]) -> (String, String, bool) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let is_tcp = matches!(sliced.transport, Some(etherparse::TransportSlice::Tcp(_)));
    match sliced.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().to_string(), ip.header().destination_addr().to_string(), is_tcp)
        }
        etherparse::NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().to_string(), ip.header().destination_addr().to_string(), is_tcp)
        }
        etherparse::NetSlice::Arp(_) => unreachable!("not captured"),
    }
}

/// A file of a test's own.
fn file(director: &Namespace) -> PathBuf {
    std::env::temp_dir().join(format!("{}.pcapng", director.name()))
}

/// A director with a real server, and a service on each VIP.
fn director(site: Site, options: &str, offloads: Offloads) -> Result<Cluster> {
    Cluster::serving(Layout { site, servers: 1, offloads, ..Layout::default() }, options)
}

/// The lines of `status` about the data plane: where it is attached, and its generation.
fn standing(director: &Namespace) -> Vec<Value> {
    let status: Value = serde_json::from_str(&director.lvsadm("status --json").unwrap()).unwrap();
    ["devices", "generation", "observed_by", "pins"].iter().map(|name| status[name].clone()).collect()
}

#[test]
fn packets_are_captured_as_they_came_and_as_they_left_in_both_tiers() {
    let cluster = director(Site::BehindDirector, "-m", Offloads::Off).unwrap();
    let (director, path) = (&cluster.director, file(&cluster.director));
    for (tier, attach) in [("tc", "attach --mode tc"), ("xdp", "attach --dev eth0 --dev eth1 --mode native")] {
        director.lvsadm(attach).unwrap();
        let before = standing(director);
        // What the expression does not say is left out: the connection over IPv6.
        let capture = Observing::begin(director, &format!("capture -w {} tcp port 80 and ip", path.display())).unwrap();
        let during = standing(director);
        assert_eq!(during[2], capture.0.id());
        for vip in [VIP, VIP6] {
            let answer = cluster.client().get(SocketAddr::new(vip, 80), "/").unwrap();
            assert!(answer.starts_with("rs1"), "{answer}");
        }
        assert_eq!(capture.end().unwrap(), "");
        assert_eq!(standing(director), before);
        let packets = read(&path);
        for is_reply in [false, true] {
            let exit = if is_reply { "exit nat-reply: " } else { "exit nat: " };
            let of: Vec<&Packet> = packets.iter().filter(|packet| packet.comment.contains(exit)).collect();
            assert!(of.len() >= 6 && of.len().is_multiple_of(2), "{packets:#?}");
            let (client, vip, real) = ("10.10.10.1".to_owned(), VIP.to_string(), "192.168.122.101".to_owned());
            let (came, left) = if is_reply {
                ((real, client.clone(), true), (vip, client, true))
            } else {
                ((client.clone(), vip, true), (client, real, true))
            };
            let (from, to) = if is_reply { ("eth1", "eth0") } else { ("eth0", "eth1") };
            for pair in of.chunks(2) {
                let [first, second] = pair else { unreachable!("an even number") };
                assert_eq!((&*first.device, first.is_out, ends(&first.frame)), (from, false, came.clone()));
                assert_eq!((&*second.device, second.is_out, ends(&second.frame)), (to, true, left.clone()));
                assert_eq!(first.length as usize, first.frame.len());
                assert!(first.comment.starts_with(&format!("lvs: {tier}, ")), "{}", first.comment);
                assert!(first.comment.contains("tcp 10.10.10.10:80, 192.168.122.101:80, NAT"), "{}", first.comment);
            }
        }
        let made = packets.iter().filter(|packet| packet.comment.contains("connection made")).count();
        assert_eq!(made, 2, "a connection is made once: as it came, and as it left");
        assert_eq!(packets.iter().filter(|packet| packet.comment.contains(" nat")).count(), packets.len());
        let read = director.command("tcpdump").arg("-nr").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&read.stdout).into_owned();
        assert_eq!(said.lines().count(), packets.len(), "{said} {}", String::from_utf8_lossy(&read.stderr));
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn tshark_reads_a_capture_with_its_comments() {
    let cluster = director(Site::BehindDirector, "-m", Offloads::Off).unwrap();
    let (director, path) = (&cluster.director, file(&cluster.director));
    if director.command("tshark").arg("--version").output().is_err() {
        return tests::cannot_run("tshark is not installed");
    }
    for (tier, attach) in [("tc", "attach --mode tc"), ("xdp", "attach --dev eth0 --dev eth1 --mode native")] {
        director.lvsadm(attach).unwrap();
        let capture = Observing::begin(director, &format!("capture -w {} tcp port 80 and ip", path.display())).unwrap();
        assert!(cluster.client().get(SocketAddr::new(VIP, 80), "/").unwrap().starts_with("rs1"));
        assert_eq!(capture.end().unwrap(), "");
        let fields = ["frame.interface_name", "frame.packet_flags_direction", "ip.src", "ip.dst", "frame.comment"];
        let mut command = director.command("tshark");
        command.arg("-nr").arg(&path).args(["-T", "fields"]);
        let read_by = command.args(fields.iter().flat_map(|field| ["-e", field])).output().unwrap();
        assert!(read_by.status.success(), "{}", String::from_utf8_lossy(&read_by.stderr));
        let rows: Vec<String> = String::from_utf8(read_by.stdout).unwrap().lines().map(str::to_owned).collect();
        let packets = read(&path);
        assert!(packets.len() >= 12, "{packets:#?}");
        let expected = packets.iter().map(|packet| {
            let (source, destination, _) = ends(&packet.frame);
            let direction = if packet.is_out { 2 } else { 1 };
            format!("{}\t{direction}\t{source}\t{destination}\t{}", packet.device, packet.comment)
        });
        let as_numbers = |row: &String| row.replacen("0x0000000", "", 1);
        assert_eq!(rows.iter().map(as_numbers).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(rows.iter().any(|row| row.contains(&format!("lvs: {tier}, "))), "{rows:#?}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_trace_tells_the_decisions_about_chosen_packets() {
    let cluster = director(Site::Remote, "-i", Offloads::Off).unwrap();
    let director = &cluster.director;
    cluster.servers[0].lvsadm(&format!("real-server --tun --vip {VIP} {VIP6} --tun-type ipip")).unwrap();
    // The kernel passes over packets of the first one, and lvsadm over those of the second.
    for arguments in ["--client 10.10.10.2 -t 10.10.10.10:80", "-r 192.168.123.102 --exit tunnel"] {
        let trace = Observing::begin(director, &format!("trace --json {arguments}")).unwrap();
        assert!(cluster.client().get(SocketAddr::new(VIP, 80), "/").unwrap().starts_with("rs1"));
        assert_eq!(trace.end().unwrap(), "", "{arguments}");
    }
    let chosen = "--client 10.10.10.0/24 -t 10.10.10.10:80 -r 192.168.123.101:80 --exit tunnel";
    let validator = validator();
    for (tier, attach) in [("tc", "attach --mode tc"), ("xdp", "attach --dev eth0 --dev eth1 --mode native")] {
        director.lvsadm(attach).unwrap();
        let trace = Observing::begin(director, &format!("trace --json {chosen}")).unwrap();
        // Several: XDP leaves packets to TC until the neighbour is known.
        for vip in [VIP, VIP6, VIP, VIP, VIP, VIP] {
            assert!(cluster.client().get(SocketAddr::new(vip, 80), "/").unwrap().starts_with("rs1"));
        }
        let told: Vec<Value> = trace.end().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for story in &told {
            if let Err(error) = validator.validate(story) {
                panic!("{} is {error}", error.instance_path());
            }
            let (service, server) = (json!("10.10.10.10:80"), json!("192.168.123.101:80"));
            assert_eq!(
                (&story["service"], &story["real_server"], &story["exits"]),
                (&service, &server, &json!(["tunnel"]))
            );
            let steps = story["steps"].as_array().unwrap();
            let becomes = steps.iter().find(|step| step["step"] == "becomes").unwrap()["what"].as_str().unwrap();
            assert!(becomes.contains("ipip") && becomes.contains("which carries tcp 10.10.10.1:"), "{becomes}");
        }
        let what = |at: usize| told[at]["steps"][0]["what"].as_str().unwrap();
        assert!(what(0).starts_with("made, with the real server that the scheduler picked"), "{told:#?}");
        assert!(what(1).starts_with("found: tcp 10.10.10.10:80"), "{told:#?}");
        // Now and then XDP leaves a packet to TC, which confirms the neighbour.
        assert!(told.iter().any(|story| story["tier"] == tier), "{told:#?}");
    }

    // FullNAT's replies have the client in them as they leave only.
    director.lvsadm("--add-laddr -z 192.168.122.100").unwrap();
    director.lvsadm(&format!("-d -t {VIP}:80 -r 192.168.123.101:80")).unwrap();
    director.lvsadm(&format!("-a -t {VIP}:80 -r 192.168.123.101:80 --fullnat")).unwrap();
    let trace = Observing::begin(director, "trace --client 10.10.10.1 -c 2 --exit fullnat-reply").unwrap();
    assert!(cluster.client().get(SocketAddr::new(VIP, 80), "/").unwrap().starts_with("rs1"));
    let output = trace.0.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("exit         fullnat-reply").count(), 2, "{text}");
    assert!(text.contains("becomes      tcp 10.10.10.10:80 > 10.10.10.1:"), "{text}");
}

#[test]
fn the_next_packet_of_a_client_is_explained() {
    let cluster = director(Site::BehindDirector, "-m", Offloads::On).unwrap();
    let (director, service) = (&cluster.director, SocketAddr::new(VIP, 80));
    let none = director.lvsadm("explain --next 10.10.10.2 --for 1").unwrap_err().to_string();
    assert!(none.contains("no packet of 10.10.10.2 came: see whether it reaches this host"), "{none}");
    let explain = Observing::begin(director, "explain --json --next 10.10.10.1 --for 60s").unwrap();
    assert!(cluster.client().get(service, "/").unwrap().starts_with("rs1"));
    let output = explain.0.wait_with_output().unwrap();
    let accounts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (account, server) = (&accounts[0], json!("192.168.122.101:80"));
    assert_eq!(
        (&account["agrees"], &account["exits"], &account["real_server"]),
        (&json!(true), &json!(["nat"]), &server)
    );
    let steps = account["steps"].as_array().unwrap();
    let told = |step: &str| steps.iter().find(|it| it["step"] == step).map(|it| it["what"].as_str().unwrap());
    let seen = "tc; connection made, with the real server that the scheduler picked: tcp 10.10.10.10:80, 192.168.122.101:80, NAT; \
                exit nat: forwarded to a real server, destination rewritten";
    assert_eq!(told("seen"), Some(seen), "{account:#}");
    assert_eq!(told("connection"), None, "it was not there when the packet came: {account:#}");
    assert!(told("candidate").unwrap().ends_with("which the scheduler picks"), "{account:#}");
}

#[test]
fn who_observes_may_be_killed_and_one_observes_at_a_time() {
    let cluster = director(Site::BehindDirector, "-m", Offloads::On).unwrap();
    let (director, service) = (&cluster.director, SocketAddr::new(VIP, 80));
    let before = standing(director);
    let mut trace = Observing::begin(director, "trace").unwrap();
    let second = director.lvsadm("trace --for 1").unwrap_err().to_string();
    assert!(second.contains(&format!("process {} observes packets already", trace.0.id())), "{second}");
    // A rule that needs programs of its own, and an upgrade, put the data plane's own programs back: the trace goes on with the new ones.
    director.lvsadm("upgrade").unwrap();
    eventually("the trace has begun anew", || standing(director)[2] == trace.0.id());
    trace.0.kill().unwrap();
    trace.0.wait().unwrap();
    assert_eq!(standing(director)[2], trace.0.id(), "a look changes nothing");
    assert!(cluster.client().get(service, "/").unwrap().starts_with("rs1"), "packets pass meanwhile");
    director.lvsadm("-Ln").unwrap();
    let after = standing(director);
    assert_eq!((&after[0], &after[2], &after[3]), (&before[0], &before[2], &before[3]));
    assert!(cluster.client().get(service, "/").unwrap().starts_with("rs1"));
    for (arguments, sentence) in [
        ("capture -w /nowhere/f", "cannot write /nowhere/f"),
        ("capture -w /dev/null tcp prot 80", "cannot read expression `tcp prot 80'"),
        ("trace --exit nowhere", "there is no exit `nowhere'"),
    ] {
        let error = director.lvsadm(arguments).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }
    assert_eq!(standing(director)[2], Value::Null);
}
