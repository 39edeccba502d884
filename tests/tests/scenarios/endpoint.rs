//! The agent's HTTP endpoint: it tells what the commands tell, to whoever may know, whatever its clients do.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::eventually;
use tests::topology::{Cluster, Layout, Namespace, VIP, VIP6, lvsadm_path};

use super::machine_readable::validator;

const LOCAL: &str = "127.0.0.1:9120";

/// An agent that listens, until the value goes.
struct Listening<'a> {
    director: &'a Namespace,
    agent: Pid,
}

impl<'a> Listening<'a> {
    fn start(director: &'a Namespace, arguments: &str, at: &str) -> Self {
        let mut agent = director.command(lvsadm_path());
        agent.arg("agent").args(arguments.split_whitespace()).stderr(Stdio::null());
        let agent = Pid::from_raw(director.adopt(&mut agent).unwrap() as i32);
        eventually("the agent listens", || director.fetch(at, "/", "").is_ok());
        Listening { director, agent }
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let _ = kill(self.agent, Signal::SIGTERM);
        let director = self.director;
        eventually("the agent has ended", || {
            director.json("status --json").is_ok_and(|status| status["agent"] == false)
        });
    }
}

/// Services without what changes by itself.
fn steady(services: Value) -> Value {
    let mut services = services;
    for service in services.as_array_mut().unwrap() {
        service["rates"] = Value::Null;
        for destination in service["destinations"].as_array_mut().unwrap() {
            destination["rates"] = Value::Null;
        }
    }
    services
}

/// The lines of metrics that do not change by themselves, nor by asking.
fn samples(metrics: &str) -> BTreeSet<&str> {
    let moves = ["#", "lvs_exit_packets_total", "lvs_table_connections"];
    let is_steady = |line: &&str| !line.contains("_per_second") && !moves.iter().any(|start| line.starts_with(start));
    metrics.lines().filter(is_steady).collect()
}

#[test]
fn the_endpoint_tells_what_commands_tell() {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    let (service, service6) = (SocketAddr::new(VIP, 80), SocketAddr::new(VIP6, 80));
    for (service, number) in [(service, 1), (service6, 2)] {
        let (v4, v6) = cluster.server_addresses(number);
        let server = if service.is_ipv4() { v4.to_string() } else { format!("[{v6}]") };
        director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
        director.lvsadm(&format!("-a -t {service} -r {server}:80 -m")).unwrap();
    }
    director.lvsadm("mark add --mark 7 --to 192.0.2.0/24").unwrap();
    director.lvsadm("block 198.51.100.7").unwrap();
    director.lvsadm("--add-laddr -z 192.168.122.100").unwrap();
    cluster.client().spread(service, 5).unwrap();
    cluster.client().spread(service6, 3).unwrap();
    let _agent = Listening::start(director, "--listen 9120 --listen [::1]:9121", LOCAL);
    let get = |path: &str| director.fetch(LOCAL, path, "").unwrap();

    // Listings, each of its schema.
    for (name, command, kind) in [
        ("connections", "-L -c --json", "connections"),
        ("timeouts", "-L --timeout --json", "timeouts"),
        ("daemons", "-L --daemon --json", "daemons"),
        ("pools", "--get-laddr --json", "pools"),
        ("marks", "mark list --json", "marks"),
        ("block", "block --json", "lists"),
        ("allow", "allow --json", "lists"),
        ("status", "status --json", "status"),
        ("services", "-L --stats --rate --json", "services"),
    ] {
        let reply = get(&format!("/api/{name}"));
        assert_eq!((reply.status, &*reply.header["content-type"]), (200, "application/json"), "{name}");
        let (told, printed) = (reply.json().unwrap(), director.json(command).unwrap());
        assert!(validator(kind).is_valid(&told), "{name}: {told}");
        match name {
            "services" => assert_eq!(steady(told), steady(printed)),
            // Seconds go by.
            "connections" => {
                assert_eq!(told.as_array().unwrap().len(), printed.as_array().unwrap().len());
                assert_eq!(reply.header["x-total-count"], told.as_array().unwrap().len().to_string());
            }
            // Its own packets count as the host's.
            "status" => {
                for member in ["version", "layout", "generation", "counted", "tables", "lists", "devices", "agent"] {
                    assert_eq!(told[member], printed[member], "{member}");
                }
            }
            _ => assert_eq!(told, printed, "{name}"),
        }
    }
    assert_eq!(get("/api/status").json().unwrap()["counted"]["connections"], 8);
    let some = get("/api/services?filter=10.10&sort=connections&limit=1");
    assert_eq!(some.json().unwrap()[0]["address"], VIP.to_string());
    assert_eq!(some.json().unwrap()[0]["statistics"]["connections"], 5);
    let all = get("/api/services?limit=1");
    assert_eq!((all.json().unwrap().as_array().unwrap().len(), &*all.header["x-total-count"]), (1, "2"));

    // Metrics, in both formats.
    let metrics = get("/metrics");
    assert_eq!(metrics.header["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(samples(&metrics.body), samples(&director.lvsadm("metrics").unwrap()));
    assert!(metrics.body.contains("node_ipvs_connections_total 8\n"));
    let open =
        director.fetch(LOCAL, "/metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n").unwrap();
    assert!(open.header["content-type"].starts_with("application/openmetrics-text"), "{open:?}");
    assert!(open.body.ends_with("# EOF\n"));

    // The page, which runs nothing but itself.
    let page = get("/");
    let policy = &page.header["content-security-policy"];
    let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert!(nonce.len() == 16 && page.body.contains(&format!("<script nonce=\"{nonce}\"")), "{policy}");
    assert!(!get("/").header["content-security-policy"].contains(nonce));
    // Over IPv6, too.
    let reply = director.ask("[::1]:9121", "GET /api/timeouts HTTP/1.1\r\nHost: [::1]:9121\r\n\r\n").unwrap();
    assert_eq!(reply.status, 200);

    // What is refused, each with a line that says why.
    let asks = |head: &str| director.ask(LOCAL, &format!("{head}\r\n\r\n")).unwrap();
    for (head, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        ("DELETE /api/services HTTP/1.1\r\nHost: localhost", 405),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example:9120", 421),
        ("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost", 421),
        ("GET /metrics HTTP/1.0", 421),
        ("GET /api/nothing HTTP/1.1\r\nHost: localhost", 404),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: localhost", 404),
        ("GET /api/services?sort=x HTTP/1.1\r\nHost: localhost", 400),
    ] {
        let reply = asks(head);
        assert_eq!(reply.status, status, "{head}");
        assert_eq!(reply.body.lines().count(), 1, "{head}: {reply:?}");
    }
    assert_eq!(asks("nonsense").status, 400);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(64 << 10));
    // The rest of it may meet a connection that is closed already.
    assert!(director.ask(LOCAL, &format!("{long}\r\n\r\n")).map_or(true, |reply| reply.status == 431));
    assert_eq!(asks("HEAD /metrics HTTP/1.1\r\nHost: localhost").body, "");

    // Without a data plane there is nothing to tell, and it is not loaded for that.
    director.lvsadm("unload").unwrap();
    eventually("it is told that nothing is loaded", || {
        let reply = get("/api/services");
        reply.status == 503 && reply.body.starts_with("nothing is loaded in this network namespace")
    });
    director.lvsadm("-A -t 10.10.10.10:80 -s rr").unwrap();
}

/// A file with a token, gone when it is dropped.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, text: &str, mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("{name}.token"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        TokenFile(path)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn others_need_a_token_and_slow_clients_hold_nothing() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let director = Namespace::new("director").unwrap();
    // More than sockets take.
    let rules: String = (1..=4000).map(|port| format!("-A -t 192.0.2.10:{port} -s wlc\n")).collect();
    let mut restore = director.command(lvsadm_path()).arg("-R").stdin(Stdio::piped()).spawn().unwrap();
    restore.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(restore.wait().unwrap().success());

    // What makes no sense is one line, and nothing runs.
    let fails = |arguments: &str, why: &str| {
        let error = director.lvsadm(&format!("agent {arguments}")).unwrap_err().to_string();
        assert!(error.contains(why), "{arguments}: {error}");
    };
    let [token, open, short] = [("a", TOKEN, 0o600), ("b", TOKEN, 0o644), ("c", "short", 0o600)]
        .map(|(name, text, mode)| TokenFile::new(&format!("{}-{name}", director.name()), text, mode));
    fails("--listen 0.0.0.0:9120", "0.0.0.0:9120 is no loopback address: name the token");
    fails("--listen nowhere", "write PORT, ADDRESS:PORT or [ADDRESS]:PORT");
    fails("--no-token", "--listen");
    fails("--listen 192.0.2.77:9120 --no-token", "cannot listen on 192.0.2.77:9120");
    fails(&format!("--listen 9120 --token-file {}", open.0.display()), "others may read the token");
    fails(&format!("--listen 9120 --token-file {}", short.0.display()), "has no token");
    fails("--listen 9120 --token-file /nowhere", "cannot read the token in /nowhere");

    let arguments = format!("--listen 0.0.0.0:9120 --token-file {}", token.0.display());
    let _agent = Listening::start(&director, &arguments, LOCAL);
    let with = |more: &str| director.fetch(LOCAL, "/api/services?limit=1", more).unwrap();
    let bearing = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(with(&bearing).status, 200);
    for wrong in ["", "Authorization: Bearer 0123456789abcdef0123456789abcdee\r\n", "Authorization: Basic eA==\r\n"] {
        let reply = with(wrong);
        assert_eq!((reply.status, &*reply.header["www-authenticate"]), (401, "Bearer"), "{wrong}");
    }
    assert_eq!(director.fetch(LOCAL, "/metrics", "").unwrap().status, 401);
    // The page tells nothing, and asks for the token. Any name will do where others come from elsewhere.
    assert!(director.ask(LOCAL, "GET / HTTP/1.1\r\nHost: director.example\r\n\r\n").unwrap().body.contains("token"));

    // Clients that send nothing, or half a request, or never read; more than there are places for.
    let slow = director.enter(|| {
        let connect = |text: String| {
            let mut stream = TcpStream::connect(LOCAL)?;
            stream.write_all(text.as_bytes())?;
            Ok(stream)
        };
        let whole = format!("GET /api/services HTTP/1.1\r\nHost: localhost\r\n{bearing}\r\n");
        let texts = [String::new(), "GET /metrics HTTP/1.1\r\nHost: loc".to_owned()].into_iter().cycle().take(80);
        std::iter::repeat_n(whole, 5).chain(texts).map(connect).collect::<Result<Vec<_>, anyhow::Error>>()
    });
    let slow = slow.unwrap();
    // Commands do not wait for them, and after a while nobody does.
    director.lvsadm("-E -t 192.0.2.10:1 -s rr").unwrap();
    assert_eq!(with(&bearing).status, 200);
    assert_eq!(director.fetch(LOCAL, "/metrics", &bearing).unwrap().status, 200);
    drop(slow);
}
