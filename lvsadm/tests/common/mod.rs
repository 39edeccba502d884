//! What the tests of the command line share.
#![allow(dead_code, reason = "not every test uses all of it")]

pub mod tables;

use std::net::{IpAddr, Ipv4Addr};

use lvs_director::director::MemoryDirector;
use lvs_director::rules::Protocol;
use lvsadm::names::Names;
use lvsadm::session::{Open, Outcome, Surroundings, run};

/// Names of hosts, as the machine of the recordings had them.
const HOSTS: [(&str, &[&str]); 8] = [
    ("127.0.0.1", &["localhost"]),
    ("192.0.2.10", &["vip.example", "vip"]),
    ("192.0.2.11", &["vip2.example"]),
    ("10.0.0.1", &["rs1.example", "rs1"]),
    ("10.0.0.2", &["rs2.example", "rs2"]),
    ("10.0.0.3", &["a-very-long-real-server-name.dept.example.org"]),
    ("2001:db8::10", &["vip6.example"]),
    ("2001:db8:1::1", &["rs6a.example"]),
];

/// Names of ports: those of Debian's /etc/services that the recordings came across.
const SERVICES: [(&str, u16, &[Protocol]); 21] = [
    ("tcpmux", 1, &[Protocol::Tcp]),
    ("systat", 11, &[Protocol::Tcp]),
    ("daytime", 13, &[Protocol::Tcp, Protocol::Udp]),
    ("netstat", 15, &[Protocol::Tcp]),
    ("qotd", 17, &[Protocol::Tcp]),
    ("chargen", 19, &[Protocol::Tcp, Protocol::Udp]),
    ("ftp-data", 20, &[Protocol::Tcp]),
    ("ftp", 21, &[Protocol::Tcp]),
    ("telnet", 23, &[Protocol::Tcp]),
    ("smtp", 25, &[Protocol::Tcp]),
    ("domain", 53, &[Protocol::Tcp, Protocol::Udp]),
    ("http", 80, &[Protocol::Tcp]),
    ("https", 443, &[Protocol::Tcp, Protocol::Udp]),
    ("sip", 5060, &[Protocol::Tcp, Protocol::Udp]),
    ("sip-tls", 5061, &[Protocol::Tcp, Protocol::Udp]),
    ("mdns", 5353, &[Protocol::Udp]),
    ("http-alt", 8080, &[Protocol::Tcp, Protocol::Udp]),
    ("tproxy", 8081, &[Protocol::Tcp]),
    ("amanda", 10080, &[Protocol::Tcp, Protocol::Udp]),
    ("ssh", 22, &[Protocol::Tcp]),
    ("pop3", 110, &[Protocol::Tcp]),
];

/// Names as the machine of the recordings had them.
pub struct TestNames;

impl Names for TestNames {
    fn address(&mut self, host: &str) -> Option<Ipv4Addr> {
        let (address, _) = HOSTS.iter().find(|(_, names)| names.contains(&host))?;
        address.parse().ok()
    }

    fn port(&mut self, service: &str, protocol: Protocol) -> Option<u16> {
        let found = SERVICES.iter().find(|(name, _, protocols)| *name == service && protocols.contains(&protocol))?;
        Some(found.1)
    }

    fn host(&mut self, address: IpAddr) -> Option<String> {
        let text = address.to_string();
        HOSTS.iter().find(|(address, _)| *address == text).map(|(_, names)| names[0].to_owned())
    }

    fn service(&mut self, port: u16, protocol: Protocol) -> Option<String> {
        let found = SERVICES.iter().find(|(_, number, protocols)| *number == port && protocols.contains(&protocol))?;
        Some(found.0.to_owned())
    }
}

/// Runs a command on a director in memory.
pub fn ipvsadm(director: &mut MemoryDirector, argv: &[&str], stdin: &str) -> Outcome {
    let mut input = stdin.as_bytes();
    let open: Open<'_> = Box::new(move |_, _| Ok(director));
    run(argv, Surroundings { stdin: &mut input, names: &mut TestNames, open })
}
