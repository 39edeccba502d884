//! Persistence beyond the client's address: SIP's Call-ID.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use tests::topology::{Cluster, Layout, Namespace, Server, VIP, VIP6};

const PORT: u16 = 5060;

/// A SIP director with two real servers.
fn director() -> Result<(Cluster, Vec<Server>)> {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    let mut servers = Vec::new();
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, PORT);
        cluster.director.lvsadm(&format!("-A -u {service} -s rr -p 60 --pe sip"))?;
        for (number, namespace) in (1..).zip(&cluster.servers) {
            let (v4, v6) = cluster.server_addresses(number);
            let server = if vip.is_ipv4() { v4 } else { v6 };
            cluster.director.lvsadm(&format!("-a -u {service} -r {} -m", SocketAddr::new(server, PORT)))?;
            servers.push(Server::udp(namespace, server, PORT, &format!("rs{number}"))?);
        }
    }
    Ok((cluster, servers))
}

/// Who answers a message from a new port of the client; `None` if nobody does.
fn ask(client: &Namespace, vip: IpAddr, headers: &str) -> Option<String> {
    let message = format!("OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c\r\n{headers}CSeq: 1 OPTIONS\r\n\r\n");
    let answer = client.enter(|| {
        let socket = UdpSocket::bind(if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.set_read_timeout(Some(Duration::from_millis(if headers.is_empty() { 300 } else { 5000 })))?;
        socket.send_to(message.as_bytes(), (vip, PORT))?;
        let mut answer = [0; 64];
        let length = tests::uninterrupted(|| socket.recv(&mut answer))?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    });
    Some(answer.ok()?.split(' ').next()?.to_owned())
}

#[test]
fn a_dialog_stays_with_its_server_whatever_port_it_comes_from() {
    let (cluster, _servers) = director().unwrap();
    let client = &cluster.client;
    for vip in [VIP, VIP6] {
        let mut seen = BTreeSet::new();
        for call in ["one@client", "two@client", "three", "four@x"] {
            let first = ask(client, vip, &format!("Call-ID: {call}\r\n")).unwrap();
            for header in [format!("call-id:{call}\r\n"), format!("i : {call}\r\n")] {
                assert_eq!(ask(client, vip, &header).as_ref(), Some(&first), "{header}");
            }
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2, "dialogs are spread");
        assert_eq!(ask(client, vip, ""), None, "a message without a Call-ID is dropped");
    }
    let list = cluster.director.lvsadm("-Lcn --persistent-conn").unwrap();
    let templates: Vec<&str> = list.lines().filter(|line| line.contains(" sip ")).collect();
    assert_eq!(templates.len(), 8, "{list}");
    for call in ["one@client", "two@client", "three", "four@x"] {
        assert_eq!(templates.iter().filter(|line| line.trim_end().ends_with(call)).count(), 2, "{list}");
    }
    // Replies have passed: the templates are worth keeping.
    assert!(templates.iter().all(|line| line.contains("ASSURED")), "{list}");
    let status = cluster.director.lvsadm("status").unwrap();
    assert!(status.contains("2 drop-engine"), "{status}");
}
