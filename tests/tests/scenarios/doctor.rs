//! `lvsadm doctor`: set-ups that are broken in one way each, and the finding that names it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use jsonschema::Validator;
use serde_json::{Value, json};
use tests::eventually;
use tests::topology::{Cluster, Layout, Namespace, Site, VIP, VIP6, lvsadm_path};

/// What checks the output by the schema in docs/reference/json.md.
fn validator() -> Validator {
    let document = include_str!("../../../docs/reference/json.md");
    let schema = document.split("```json\n").last().and_then(|block| block.split("```").next()).unwrap();
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    schema["$ref"] = json!("#/$defs/findings");
    jsonschema::validator_for(&schema).unwrap()
}

/// Findings, and the exit status.
struct Diagnosis(Vec<Value>, i32);

impl Diagnosis {
    /// What `doctor` says in a namespace.
    fn of(director: &Namespace, arguments: &str) -> Result<Self> {
        let mut command = director.command(lvsadm_path());
        let output = command.args(["doctor", "--json"]).args(arguments.split_whitespace()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let value: Value =
            serde_json::from_str(&said).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        if let Err(error) = validator().validate(&value) {
            panic!("{} is {error}", error.instance_path());
        }
        Ok(Diagnosis(value.as_array().context("no list")?.clone(), output.status.code().context("killed")?))
    }

    /// What a check finds: levels and sentences.
    fn check(&self, name: &str) -> Vec<(&str, &str)> {
        let of = self.0.iter().filter(|finding| finding["check"] == name);
        of.map(|finding| (finding["level"].as_str().unwrap(), finding["what"].as_str().unwrap())).collect()
    }

    /// Names of the checks that failed.
    fn failures(&self) -> Vec<&str> {
        let failures = self.0.iter().filter(|finding| finding["level"] == "failure");
        failures.map(|finding| finding["check"].as_str().unwrap()).collect()
    }

    /// Asserts that a check failed, alone, with a sentence that contains this.
    fn fails(&self, check: &str, sentence: &str) {
        assert_eq!((self.failures(), self.1), (vec![check], 3), "{:#?}", self.0);
        assert!(self.check(check).iter().any(|(_, what)| what.contains(sentence)), "{:?}", self.check(check));
    }
}

/// A director with one real server, and its service on VIP and VIP6.
fn director(site: Site, options: &str) -> Result<Cluster> {
    Cluster::serving(Layout { site, servers: 1, ..Layout::default() }, options)
}

/// Has a host drop its answers to HTTP.
fn silence(host: &Namespace) -> Result<()> {
    let chain = "add chain ip f o { type filter hook output priority 0 ; }";
    ["add table ip f", chain, "add rule ip f o tcp sport 80 drop"]
        .iter()
        .try_for_each(|line| host.run(&format!("nft {line}")).map(drop))
}

/// The only real server.
fn server(cluster: &Cluster) -> &Namespace {
    &cluster.servers[0]
}

#[test]
fn direct_routing_that_works_has_no_failure_and_a_server_without_the_address_is_found() {
    let cluster = director(Site::BesideDirector, "-g").unwrap();
    let vips = format!("--vip {VIP} {VIP6}");
    server(&cluster).lvsadm(&format!("real-server --dr {vips}")).unwrap();
    let well = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!((well.failures(), well.1), (vec![], 1), "{:#?}", well.0);
    assert_eq!(well.check("agent"), [("warning", "none runs")]);
    assert_eq!(well.check("vip-on-servers"), [("ok", "real servers take packets for the virtual addresses")]);
    assert_eq!(cluster.director.lvsadm("-Lnc").unwrap().lines().count(), 2, "no question became a connection");

    // The server answers for its own address still.
    server(&cluster).lvsadm("real-server --off").unwrap();
    let without = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(without.failures(), ["vip-on-servers"; 2], "{:#?}", without.0);
    let mends: Vec<&Value> = without.0.iter().filter(|f| f["level"] == "failure").map(|f| &f["mend"]).collect();
    assert!(mends.contains(&&json!(format!("on 192.168.122.101: lvsadm real-server --dr --vip {VIP}"))), "{mends:?}");
    let text = cluster.director.command(lvsadm_path()).arg("doctor").output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("failure  vip-on-servers: real server 192.168.122.101 answers for its own address, and not for"),
        "{text}"
    );
    // With the address and without `arp_ignore`, it answers ARP for it.
    server(&cluster).ip(&[format!("addr add {VIP}/32 dev lo")]).unwrap();
    let answers = Diagnosis::of(&cluster.director, "").unwrap();
    assert!(answers.failures().contains(&"arp"), "{:#?}", answers.0);
    let quiet = Diagnosis::of(&cluster.director, "--quiet").unwrap();
    assert_eq!((quiet.failures(), quiet.check("arp")[0].0), (vec![], "ok"));
}

#[test]
fn a_firewall_that_drops_answers_and_a_server_that_does_not_run_are_found() {
    let mut cluster = director(Site::BesideDirector, "-g").unwrap();
    server(&cluster).lvsadm(&format!("real-server --dr --vip {VIP} {VIP6}")).unwrap();
    silence(server(&cluster)).unwrap();
    Diagnosis::of(&cluster.director, "")
        .unwrap()
        .fails("answers", "answers pings, and connections to 10.10.10.10:80 it does not");
    server(&cluster).run("nft flush ruleset").unwrap();
    cluster.stop(1);
    let stopped = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(stopped.failures(), ["answers"; 2], "{:#?}", stopped.0);
    assert!(stopped.check("answers")[0].1.contains("refuses connections to"));
}

#[test]
fn a_tunnel_that_is_not_opened_and_a_path_that_is_too_narrow_are_found() {
    let cluster = director(Site::Remote, "-i").unwrap();
    let closed = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(closed.failures(), ["decapsulation"; 2], "{:#?}", closed.0);
    server(&cluster).lvsadm(&format!("real-server --tun --vip {VIP} {VIP6} --tun-type ipip")).unwrap();
    let open = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(open.failures(), [""; 0], "{:#?}", open.0);
    assert_eq!(open.check("path-mtu"), [("ok", "packets of full size arrive through the tunnels")]);
    // The way back is as wide as before; what comes is dropped without a word.
    server(&cluster).ip(&["link set eth0 mtu 1400"]).unwrap();
    let narrow = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(narrow.failures(), ["path-mtu"; 2], "{:#?}", narrow.0);
    assert!(
        narrow.check("path-mtu")[0].1.contains("those of 1400 do, with 1380 inside"),
        "{:?}",
        narrow.check("path-mtu")
    );
}

#[test]
fn a_real_server_behind_nat_with_another_gateway_is_found() {
    let cluster = director(Site::BehindDirector, "-m").unwrap();
    let answer = cluster.client().get(SocketAddr::new(VIP, 80), "/").unwrap();
    assert!(answer.starts_with("rs1"));
    let well = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(well.failures(), [""; 0], "{:#?}", well.0);
    cluster.director.lvsadm("-Z").unwrap();
    // The router's network is the client's as well, so answers reach the client, which does not know their sender.
    server(&cluster).ip(&["route replace default via 192.168.122.1"]).unwrap();
    let before = Diagnosis::of(&cluster.director, "").unwrap();
    assert_eq!(before.failures(), [""; 0], "{:#?}", before.0);
    assert_eq!(before.check("return-path")[0].0, "warning", "no client came yet");
    let client =
        cluster.client.command("curl").args(["--silent", "--max-time", "1", &format!("http://{VIP}/")]).output();
    assert!(!client.unwrap().status.success());
    let after = Diagnosis::of(&cluster.director, "").unwrap();
    after.fails(
        "return-path",
        "answers of real server 192.168.122.101 to clients do not come back through the director",
    );
    assert!(
        after.check("return-path")[0].1.contains("0 of its own came back; 1 of its 2 connections wait"),
        "{:?}",
        after.0
    );
}

#[test]
fn a_full_table_and_broken_surroundings_are_found() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.lvsadm("attach --conns 1000").unwrap();
    let service = SocketAddr::new(VIP, 80);
    director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
    director.lvsadm(&format!("-a -t {service} -r 192.168.122.101:80 -m")).unwrap();
    // Without an answer, connections stay half open for a minute.
    silence(server(&cluster)).unwrap();
    let flood = cluster.client.enter(|| fill(service, 1100)).unwrap();
    assert!(flood > 1000);
    // The sweep counts once a second.
    eventually("the table is told to be full", || {
        Diagnosis::of(director, "--quiet").unwrap().check("table-fill")[0].0 != "ok"
    });

    let explained = director.lvsadm(&format!("explain -t 10.10.10.1:40000 {service}")).unwrap();
    assert!(explained.contains("of 1008 places are taken"), "{explained}");

    director.sysctl(&["net/ipv4/conf/lo/forwarding=0"]).unwrap();
    director.lvsadm("-A -u 10.10.10.11:53 -s rr").ok();
    director.sysctl(&["net/ipv4/conf/lo/forwarding=0"]).unwrap();
    director.ip(&["link set eth0 mtu 9000"]).unwrap();
    // A manager without the preload library, and rules that were meant for a service.
    let manager = std::env::temp_dir().join(director.name()).join("keepalived");
    std::fs::create_dir_all(manager.parent().unwrap()).unwrap();
    std::fs::copy("/bin/sleep", &manager).unwrap();
    director.spawn(&format!("{} 100", manager.display())).unwrap();
    for line in [
        "add table ip f",
        "add chain ip f i { type filter hook input priority 0 ; }",
        "add rule ip f i ip daddr 10.10.10.10 tcp dport 81 drop",
    ] {
        director.run(&format!("nft {line}")).unwrap();
    }
    let process = "the program runs by its own name";
    eventually(process, || {
        !Diagnosis::of(director, "--quiet").unwrap().check("managers")[0].1.starts_with("what manages")
    });
    let broken = Diagnosis::of(director, "--quiet").unwrap();
    std::fs::remove_dir_all(manager.parent().unwrap()).unwrap();
    for check in ["forwarding", "services", "managers"] {
        assert!(broken.failures().contains(&check), "{check}: {:#?}", broken.0);
    }
    let firewall = "nftables, table ip f, chain i (input): drops packets, and names the address of a service";
    assert_eq!(broken.check("firewall"), [("warning", firewall)]);
    assert_eq!(
        broken.check("vip"),
        [("warning", "10.10.10.11 is no address of this host: its packets are left to the stack")]
    );
    assert_eq!(broken.check("mtu").len(), 1, "{:?}", broken.check("mtu"));
}

/// Opens connections that stay half open: how many requests were sent.
fn fill(service: SocketAddr, count: u16) -> Result<usize> {
    let IpAddr::V4(to) = service.ip() else { anyhow::bail!("not IPv4") };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(255.into()))?;
    let mut sent = 0;
    for port in 2000..2000 + count {
        let mut packet = Vec::new();
        let builder =
            etherparse::PacketBuilder::ipv4([10, 10, 10, 1], to.octets(), 64).tcp(port, service.port(), 1, 1024).syn();
        builder.write(&mut packet, &[])?;
        socket.send_to(&packet, &service.into())?;
        sent += 1;
    }
    Ok(sent)
}
