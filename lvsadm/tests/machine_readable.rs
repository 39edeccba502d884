//! JSON as docs/reference/json.md has it, and metrics as Prometheus reads them.

mod common;

use std::collections::HashSet;

use common::ipvsadm;
use common::tables::configured;
use jsonschema::Validator;
use lvs_common::abi::{Counters, Sync};
use lvs_director::dataplane::Defence;
use lvs_director::dataplane::observe::Observation;
use lvs_director::director::{Director, MemoryDirector, Wanted};
use lvs_director::rules::{AccessKind, Connection, Daemon, Family, PersistenceEngine, Protocol, Rates, Role};
use lvsadm::render::{self, AccessLists, Format, Metrics};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The documentation, whose last block of JSON is the schema.
const DOCUMENT: &str = include_str!("../../docs/reference/json.md");

/// Tables with something in them, and strategies that are not all the same.
const DEFENCE: Defence = Defence {
    held: [(Family::V4, 7), (Family::V6, 8)],
    room: 9,
    modes: [("drop_entry", "resting"), ("drop_packet", "working"), ("secure_tcp", "off")],
    drop_rate: 10,
    taken_out: 11,
};

/// Lists with something on them.
const LISTS: [(AccessKind, Family, usize); 2] =
    [(AccessKind::Block, Family::V4, 3), (AccessKind::Allow, Family::V6, 4)];

/// The blocks of JSON in the documentation.
fn blocks() -> Vec<Value> {
    let blocks = DOCUMENT.split("```json\n").skip(1);
    blocks.map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap()).collect()
}

/// What checks output of a kind.
fn validator(kind: &str) -> Validator {
    let mut schema = blocks().pop().unwrap();
    schema["$ref"] = json!(format!("#/$defs/{kind}"));
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

/// The output of a command, which is a line of JSON of a kind.
fn checked(director: &mut MemoryDirector, arguments: &[&str], validator: &Validator) -> Value {
    let argv: Vec<&str> = ["lvsadm"].into_iter().chain(arguments.iter().copied()).chain(["--json"]).collect();
    let outcome = ipvsadm(director, &argv, "");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{argv:?}");
    assert!(outcome.stdout.ends_with('\n') && outcome.stdout.lines().count() == 1, "{}", outcome.stdout);
    let value = serde_json::from_str(&outcome.stdout).unwrap();
    if let Err(error) = validator.validate(&value) {
        panic!("{argv:?}: {} is {error}", error.instance_path());
    }
    value
}

#[test]
fn the_example_is_of_the_schema() {
    assert!(validator("services").is_valid(&blocks()[0]));
    // And the schema is one: it does not take what is not in it.
    assert!(!validator("services").is_valid(&json!([{ "protocol": "tcp" }])));
    assert!(!validator("timeouts").is_valid(&json!({ "tcp": 1, "tcp_fin": 2, "udp": 3, "sctp": 4 })));
    assert!(!validator("timeouts").is_valid(&json!({ "tcp": 1, "tcp_fin": 2, "udp": "3" })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_listing_is_of_the_schema(mut director in configured()) {
        let services = validator("services");
        for arguments in [
            &["-L"][..], &["-Ln", "--exact"], &["-L", "--stats"], &["-L", "--rate", "--nosort"],
            &["-L", "--thresholds"], &["-L", "--persistent-conn"], &["-L", "--tun-info"],
        ] {
            let listed = checked(&mut director, arguments, &services);
            prop_assert_eq!(listed.as_array().unwrap().len(), director.entries.len());
        }
        checked(&mut director, &["-L", "--timeout"], &validator("timeouts"));
        checked(&mut director, &["-L", "--daemon"], &validator("daemons"));
        checked(&mut director, &["-L", "-c"], &validator("connections"));
        let marks = director.marks().unwrap();
        let listed: Value = serde_json::from_str(&render::json::marks(&marks)).unwrap();
        prop_assert!(validator("marks").is_valid(&listed), "{}", listed);
        prop_assert_eq!(listed.as_array().unwrap().len(), marks.len());
        for kind in AccessKind::ALL {
            let services = std::iter::once(None).chain(director.entries.iter().map(|entry| Some(entry.service.key)));
            let lists: AccessLists =
                services.map(|service| (service, director.access(kind, service.as_ref()).unwrap())).collect();
            let listed: Value = serde_json::from_str(&render::json::access(kind, &lists)).unwrap();
            prop_assert!(validator("lists").is_valid(&listed), "{}", listed);
            let filled = lists.iter().filter(|(_, clients)| !clients.is_empty()).count();
            prop_assert_eq!(listed.as_array().unwrap().len(), filled);
        }
    }

    #[test]
    fn metrics_are_well_formed(director in configured()) {
        let services = director.services(Wanted { destinations: true, statistics: true, rates: true }).unwrap();
        let exits = [("nat", 7), ("drop-ttl", 0), ("evicted-closed", 12), ("drop-table-full", 13)];
        let metrics = Metrics {
            services: &services,
            total: Counters::default(),
            exits: &exits,
            defence: &DEFENCE,
            lists: &LISTS,
            fragments: (3, 4096),
            sync: &Sync::default(),
            daemons: &[],
            advertised: None,
            observed: None,
        };
        let text = metrics_text(metrics, Format::Prometheus);
        check_exposition(&text);
        // OpenMetrics has the same samples; what is said of a counter has its name without the end.
        let open = metrics_text(metrics, Format::OpenMetrics);
        let samples = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        prop_assert_eq!(samples(&open), samples(&text));
        prop_assert!(open.ends_with("\n# EOF\n"));
        for part in ["# TYPE lvs_exit_packets counter\nlvs_exit_packets_total", "# TYPE lvs_table_room gauge\nlvs_table_room"] {
            prop_assert!(open.contains(part), "{}", part);
        }
        let mut families = open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        prop_assert!(!families.any(|family| family.ends_with("_total")));
    }
}

/// A director with a service, counters and rates.
fn director() -> MemoryDirector {
    let mut director = MemoryDirector::default();
    for line in [
        "-A -t 192.0.2.10:80 -s sh -b sh-port,flag-3 -p 60 -M 255.255.255.0",
        "-a -t 192.0.2.10:80 -r 10.0.0.9 -i --tun-type gue --tun-port 6080 --tun-remcsum -w 2 -x 9 -y 3",
        "-A -f 3735928559 -6 -s wlc --pe sip",
        "-a -f 3735928559 -6 -r [2001:db8::9]:8080 -m",
        "-A -f 3735928559 -s wlc",
    ] {
        let argv: Vec<&str> = ["lvsadm"].into_iter().chain(line.split(' ')).collect();
        assert_eq!(ipvsadm(&mut director, &argv, "").stderr, "", "{line}");
    }
    let counted = Counters { conns: 1, in_packets: 2, out_packets: 3, in_bytes: 1 << 40, out_bytes: 5 };
    let entry = &mut director.entries[0];
    (entry.statistics, entry.destinations[0].active) = (counted, 12);
    entry.rates = Rates { conns: 6, in_packets: 7, out_packets: 8, in_bytes: 9, out_bytes: 10 };
    director
}

#[test]
fn numbers_are_whole_and_names_stay() {
    let mut director = director();
    let services = validator("services");
    let listed = checked(&mut director, &["-L", "-t", "192.0.2.10:80", "--stats", "--rate"], &services);
    let none = json!({ "connections": 0, "in_packets": 0, "out_packets": 0, "in_bytes": 0, "out_bytes": 0 });
    assert_eq!(
        listed,
        json!([{
            "protocol": "tcp", "address": "192.0.2.10", "port": 80, "scheduler": "sh",
            "scheduler_flags": ["sh-port", "flag-3"], "one_packet": false,
            "persistence": { "timeout": 60, "netmask": "255.255.255.0" }, "persistence_engine": null,
            "timeouts": null, "synproxy": false, "statistics": {
                "connections": 1, "in_packets": 2, "out_packets": 3, "in_bytes": 1_099_511_627_776u64, "out_bytes": 5
            },
            "rates": { "connections": 6, "in_packets": 7, "out_packets": 8, "in_bytes": 9, "out_bytes": 10 },
            "destinations": [{
                "address": "10.0.0.9", "port": 80, "forward": "tunnel",
                "tunnel": { "type": "gue", "port": 6080, "checksum": "remote" }, "weight": 2,
                "upper_threshold": 9, "lower_threshold": 3, "active_connections": 12, "inactive_connections": 0,
                "persistent_connections": 0, "statistics": none, "rates": none
            }]
        }])
    );
    let mark = checked(&mut director, &["-L", "-f", "3735928559", "-6"], &services);
    assert_eq!((&mark[0]["mark"], &mark[0]["family"]), (&json!(3_735_928_559u32), &json!("inet6")));
    assert_eq!((&mark[0]["persistence_engine"], &mark[0]["statistics"]), (&json!("sip"), &Value::Null));
    // Errors are words, not JSON.
    let absent = ipvsadm(&mut director, &["lvsadm", "-L", "-t", "192.0.2.99:80", "--json"], "");
    assert_eq!((absent.status, absent.stdout.as_str(), absent.stderr.as_str()), (1, "", "No such service\n"));
}

#[test]
fn connections_and_templates() {
    let mut director = director();
    let connection = Connection {
        protocol: Some(Protocol::Tcp),
        expires: 6001,
        state: "ESTABLISHED",
        client: ([10, 1, 0, 100].into(), 40000),
        virt: ([192, 0, 2, 10].into(), 80),
        real: ("2001:db8::9".parse().unwrap(), 80),
        engine: None,
        local: None,
    };
    let template = Connection {
        protocol: None,
        state: "NONE",
        virt: ([222, 173, 190, 239].into(), 0),
        engine: Some((PersistenceEngine::Sip, "1\"@x".to_owned())),
        ..connection.clone()
    };
    director.connections = vec![connection, template];
    let listed = checked(&mut director, &["-Lnc"], &validator("connections"));
    assert_eq!(listed[0]["virtual"], json!({ "address": "192.0.2.10", "port": 80 }));
    assert_eq!((&listed[0]["protocol"], &listed[0]["expires"]), (&json!("tcp"), &json!(6001)));
    assert_eq!((&listed[1]["protocol"], &listed[1]["mark"]), (&Value::Null, &json!(3_735_928_559u32)));
    assert_eq!(listed[1]["persistence_engine"], json!({ "name": "sip", "data": "1\"@x" }));
}

#[test]
fn ipvsadm_has_no_json() {
    let outcome = ipvsadm(&mut director(), &["ipvsadm", "-L", "--json"], "");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (255, "--json: unknown option\n"));
    let outcome = ipvsadm(&mut director(), &["lvsadm", "-S", "--json"], "");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (2, "Illegal 'json' option with the 'save' command\n"));
}

/// Checks what Prometheus demands of the text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn check_exposition(text: &str) -> prometheus_parse::Scrape {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let (mut families, mut samples, mut now) = (HashSet::new(), HashSet::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(!words.is_empty() && families.insert(name.to_owned()), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            name.clone_into(&mut now);
        } else {
            // All samples of a family are together, and none is there twice.
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(sample.split('{').next(), Some(now.as_str()), "{line}");
            assert!(samples.insert(sample.to_owned()), "twice: {line}");
            value.parse::<u64>().unwrap();
        }
    }
    let scrape = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    // What it could not read it would have left out.
    assert_eq!(scrape.samples.len(), samples.len());
    scrape
}

/// Metrics as a text.
fn metrics_text(metrics: Metrics<'_>, format: Format) -> String {
    let mut text = String::new();
    render::metrics(metrics, format, &mut text).unwrap();
    text
}

#[test]
fn metrics_have_node_exporters_names() {
    let director = director();
    let services = director.services(Wanted { destinations: true, statistics: true, rates: true }).unwrap();
    let total = Counters { conns: 11, in_packets: 22, out_packets: 33, in_bytes: 44, out_bytes: 55 };
    let exits = [("nat", 7), ("drop-ttl", 0), ("evicted-closed", 12), ("drop-table-full", 13)];
    let fragments = (3, 4096);
    let metrics = Metrics {
        services: &services,
        total,
        exits: &exits,
        defence: &DEFENCE,
        lists: &LISTS,
        fragments,
        sync: &Sync { lost: 77, ..Sync::default() },
        daemons: &[Daemon::new(Role::Backup)],
        advertised: None,
        observed: Some(Observation { process: 7, lost: 88 }),
    };
    let text = metrics_text(metrics, Format::Prometheus);
    let scrape = check_exposition(&text);
    assert_eq!(scrape.docs["node_ipvs_connections_total"], "The total number of connections made.");
    for line in [
        "node_ipvs_connections_total 11",
        "lvs_observers 1",
        "lvs_observer_lost_packets 88",
        "lvs_sync_running{state=\"master\"} 0",
        "lvs_sync_running{state=\"backup\"} 1",
        "lvs_sync_lost_total 77",
        "lvs_sync_malformed_total 0",
        "node_ipvs_incoming_packets_total 22",
        "node_ipvs_outgoing_packets_total 33",
        "node_ipvs_incoming_bytes_total 44",
        "node_ipvs_outgoing_bytes_total 55",
        "node_ipvs_backend_connections_active{local_address=\"192.0.2.10\",local_port=\"80\",proto=\"TCP\",local_mark=\"\",\
         remote_address=\"10.0.0.9\",remote_port=\"80\"} 12",
        "node_ipvs_backend_weight{local_address=\"\",local_port=\"0\",proto=\"FWM\",local_mark=\"DEADBEEF\",\
         remote_address=\"2001:db8::9\",remote_port=\"8080\"} 1",
        "lvs_service_incoming_bytes_total{local_address=\"192.0.2.10\",local_port=\"80\",proto=\"TCP\",local_mark=\"\",\
         family=\"inet\"} 1099511627776",
        "lvs_list_clients{list=\"block\",family=\"inet\"} 3",
        "lvs_service_connections_per_second{local_address=\"192.0.2.10\",local_port=\"80\",proto=\"TCP\",local_mark=\"\",\
         family=\"inet\"} 6",
        "lvs_exit_packets_total{exit=\"nat\"} 7",
        "lvs_table_connections{family=\"inet6\"} 8",
        "lvs_table_room{family=\"inet6\"} 9",
        "lvs_fragment_cells_waiting 3",
        "lvs_fragment_cells 4096",
        "lvs_table_evictions_total{kind=\"closed\"} 12",
        "lvs_table_refusals_total 13",
        "lvs_defence_working{strategy=\"drop_entry\"} 0",
        "lvs_defence_working{strategy=\"drop_packet\"} 1",
        "lvs_defence_drop_rate 10",
        "lvs_defence_entries_dropped_total 11",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
}
