//! JSON and metrics of a data plane that has something to tell.

use std::net::SocketAddr;

use jsonschema::Validator;
use serde_json::{Value, json};
use tests::topology::{Cluster, Layout, VIP, VIP6};

/// What checks output of a kind by the schema in docs/reference/json.md.
pub fn validator(kind: &str) -> Validator {
    let document = include_str!("../../../docs/reference/json.md");
    let schema = document.split("```json\n").last().and_then(|block| block.split("```").next()).unwrap();
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    schema["$ref"] = json!(format!("#/$defs/{kind}"));
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

#[test]
fn what_is_told_is_of_the_schema_and_true() {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    let (service, service6) = (SocketAddr::new(VIP, 80), SocketAddr::new(VIP6, 80));
    for (service, persistence) in [(service, ""), (service6, " -p 60")] {
        director.lvsadm(&format!("-A -t {service} -s rr{persistence}")).unwrap();
    }
    director.lvsadm("-A -f 7 -s wlc").unwrap();
    for number in 1..=2 {
        let (v4, v6) = cluster.server_addresses(number);
        director.lvsadm(&format!("-a -t {service} -r {v4}:80 -m")).unwrap();
        director.lvsadm(&format!("-a -t {service6} -r [{v6}]:80 -m")).unwrap();
    }
    cluster.client().spread(service, 4).unwrap();
    cluster.client().spread(service6, 3).unwrap();

    let json = |arguments: &str, kind: &str| -> Value {
        let value = serde_json::from_str(&director.lvsadm(arguments).unwrap()).unwrap();
        if let Err(error) = validator(kind).validate(&value) {
            panic!("{arguments}: {} is {error}", error.instance_path());
        }
        value
    };
    let services = json("-L --stats --rate --json", "services");
    let of = |address: &str| services.as_array().unwrap().iter().find(|s| s["address"] == address).unwrap();
    assert_eq!(of("10.10.10.10")["statistics"]["connections"], 4);
    assert_eq!(of("2001:db8:a::10")["statistics"]["connections"], 3);
    assert_eq!(of("2001:db8:a::10")["persistence"], json!({ "timeout": 60, "prefix_length": 128 }));
    let templates = of("2001:db8:a::10")["destinations"].as_array().unwrap();
    assert_eq!(templates.iter().map(|d| d["persistent_connections"].as_u64().unwrap()).sum::<u64>(), 1);
    for arguments in ["-L --json", "-Ln --thresholds --json", "-L --tun-info --persistent-conn --json"] {
        assert_eq!(json(arguments, "services").as_array().unwrap().len(), 3);
    }
    let connections = json("-L -c --json", "connections");
    let client = |c: &&Value| c["client"]["address"] == "10.10.10.1" && c["virtual"]["port"] == 80;
    assert_eq!(connections.as_array().unwrap().iter().filter(client).count(), 4);
    assert_eq!(json("-L --timeout --json", "timeouts"), json!({ "tcp": 900, "tcp_fin": 120, "udp": 300 }));
    json("-L --daemon --json", "daemons");
    assert_eq!(json("mark list --json", "marks"), json!([]));
    director.lvsadm("mark add --mark 7 --to 192.0.2.0/24 --protocol tcp --dport 80").unwrap();
    let everything = json!({ "address": "0.0.0.0", "prefix_length": 0 });
    assert_eq!(
        json("mark list --json", "marks"),
        json!([{
            "mark": 7, "family": "inet", "protocol": "tcp", "to": { "address": "192.0.2.0", "prefix_length": 24 },
            "from": everything, "first_port": 80, "last_port": 80
        }])
    );
    assert_eq!(json("block --json", "lists"), json!([]));
    director.lvsadm(&format!("allow -t {service} 10.0.0.0/8")).unwrap();
    let clients = json!([{ "address": "10.0.0.0", "prefix_length": 8, "seconds_left": null, "packets": 0 }]);
    assert_eq!(json("allow --json", "lists")[0]["clients"], clients);
    assert_eq!(json("--get-laddr --json", "pools"), json!([]));
    for pool in [format!(" -t {service}"), " -f 7".to_owned(), String::new()] {
        director.lvsadm(&format!("--add-laddr -z 192.168.122.100{pool}")).unwrap();
    }
    assert_eq!(json("--get-laddr --json", "pools").as_array().unwrap().len(), 3);
    let status = json("status --json", "status");
    let nat = status["packets"].as_array().unwrap().iter().find(|exit| exit["exit"] == "nat").unwrap();
    assert!(nat["packets"].as_u64().unwrap() > 7 * 3, "{nat}");

    let file = std::env::temp_dir().join(format!("{}.prom", director.name()));
    for _ in 0..2 {
        assert_eq!(director.lvsadm(&format!("metrics --output {}", file.display())).unwrap(), "");
    }
    let metrics = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for line in [
        "node_ipvs_connections_total 7",
        "node_ipvs_backend_weight{local_address=\"10.10.10.10\",local_port=\"80\",proto=\"TCP\",local_mark=\"\",\
         remote_address=\"192.168.122.101\",remote_port=\"80\"} 1",
        "lvs_service_connections_total{local_address=\"2001:db8:a::10\",local_port=\"80\",proto=\"TCP\",local_mark=\"\",\
         family=\"inet6\"} 3",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} in\n{metrics}");
    }
    assert!(metrics.contains("lvs_exit_packets_total{exit=\"nat\"} "), "{metrics}");
    // What was counted stays counted in the total, whatever is deleted.
    director.lvsadm("-C").unwrap();
    assert!(director.lvsadm("metrics").unwrap().contains("node_ipvs_connections_total 7\n"));
    let nowhere = director.lvsadm("metrics --output /proc/nowhere/x.prom").unwrap_err().to_string();
    assert!(nowhere.contains("cannot write /proc/nowhere/x.prom"), "{nowhere}");
}

#[test]
fn a_page_of_top_is_printed_for_scripts() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    let nothing = director.lvsadm("top --once").unwrap_err().to_string();
    assert!(nothing.contains("nothing is loaded in this network namespace"), "{nothing}");
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    director.lvsadm("-A -t 10.10.10.10:80 -s rr").unwrap();
    director.lvsadm("-a -t 10.10.10.10:80 -r 192.168.122.101:80 -m").unwrap();
    director.lvsadm("-A -t 10.10.10.10:81 -s rr").unwrap();
    cluster.client().spread(SocketAddr::new(VIP, 80), 3).unwrap();
    let text = director.lvsadm("top --once --interval 1 --sort connections").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(" 2 services "), "{text}");
    assert!(lines[3].starts_with(" SERVICE "), "{text}");
    let served = lines.iter().find(|line| line.starts_with(" TCP 10.10.10.10:80 ")).expect(&text);
    assert_eq!(served.split_whitespace().nth(2), Some("1/1"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("!TCP 10.10.10.10:81 ")), "{text}");
    // Without an escape for colours or anything else.
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let filtered = director.lvsadm("top --once --interval 1 --filter :81").unwrap();
    assert_eq!(filtered.lines().count(), 5, "{filtered}");
    assert!(director.lvsadm("top --once --interval 1 --page exits").unwrap().contains("\n nat "));
    let error = director.lvsadm("top").unwrap_err().to_string();
    assert!(error.contains("there is no terminal: `lvsadm top --once` prints a page as text"), "{error}");
}
