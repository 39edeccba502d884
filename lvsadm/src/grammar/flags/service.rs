//! Flags of virtual services.

use lvs_common::abi::service_flags;
use lvs_common::sched::{self, SCHEDULERS};

use crate::grammar::cmd::Cmd;
use crate::grammar::command::Failure;
use crate::grammar::flag::{Flag, Form, Opt, Section, Value};
use crate::grammar::rule::Rule::{self, Exclusive, Optional, Required};
use crate::grammar::values::{self, ranged, timeout};
use lvs_director::rules::{Family, PersistenceEngine, Protocol, ServiceKey, flag_names, scheduler_name};

/// Seconds of `-p` without a value.
const DEFAULT_PERSISTENCE: u32 = 360;
/// Longest name of a scheduler.
const SCHEDULER_NAME: usize = 15;

/// The commands that give a service its settings.
pub const SETTERS: &[(Cmd, Rule)] = &[(Cmd::AddService, Optional), (Cmd::EditService, Optional)];

/// What a service is found by.
const ADDRESS: Opt = Opt {
    order: 2,
    name: "service-address",
    commands: &[
        (Cmd::AddService, Required),
        (Cmd::EditService, Required),
        (Cmd::DeleteService, Required),
        (Cmd::List, Exclusive),
        (Cmd::AddServer, Required),
        (Cmd::DeleteServer, Required),
        (Cmd::EditServer, Required),
        (Cmd::Zero, Optional),
        (Cmd::AddLocal, Optional),
        (Cmd::DeleteLocal, Optional),
        (Cmd::ListLocals, Optional),
    ],
};

/// A flag that names a service by its address.
const fn address(long: &'static str, short: &'static str) -> Flag {
    Flag::new(long, short, &["service-address is host[:port]"])
        .value("service-address")
        .within(Section::Service)
        .shares(ADDRESS)
}

/// The flags that name a service.
pub const ADDRESSES: &[Flag] = &[
    address("tcp-service", "t").takes(|draft, argument| draft.take_service(argument, Protocol::Tcp)),
    address("udp-service", "u").takes(|draft, argument| draft.take_service(argument, Protocol::Udp)),
    address("sctp-service", "").takes(|draft, argument| draft.take_service(argument, Protocol::Sctp)),
    Flag::new("fwmark-service", "f", &["fwmark is an integer greater than zero"])
        .value("fwmark")
        .within(Section::Service)
        .shares(ADDRESS)
        .takes(|draft, argument| {
            let sentence = format!("invalid fwmark value `{}' specified", argument.text());
            draft.mark = ranged(argument.text(), 1, i64::from(u32::MAX), &sentence)?;
            // Names of a real server's ports are TCP's then.
            draft.protocol = Some(Protocol::Tcp);
            Ok(())
        }),
];

/// The flags that set up a service.
pub const FLAGS: &[Flag] = &[
    Flag::new("ipv6", "6", &["fwmark entry uses IPv6"]).takes(|draft, _| {
        if draft.mark == 0 {
            // The blank line is ipvsadm's.
            return Failure::usage("-6 used before -f\n");
        }
        draft.set_family(Family::V6);
        Ok(())
    }),
    Flag::new(
        "scheduler",
        "s",
        &["one of rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh,", "the default scheduler is wlc."],
    )
    .value("scheduler")
    .words(|_| SCHEDULERS.iter().map(|entry| entry.1.name).collect())
    .option(3, SETTERS)
    .takes(|draft, argument| {
        draft.scheduler = values::cut(argument.text(), SCHEDULER_NAME).to_owned();
        Ok(())
    })
    .saved(0, |service, _| Some(scheduler_name(service.scheduler).to_owned())),
    Flag::new("pe", "", &["alternate persistence engine may be sip,", "not set by default."])
        .value("engine")
        .words(|_| vec![PersistenceEngine::Sip.name()])
        .option(22, SETTERS)
        .takes(|draft, argument| {
            draft.engine = argument.text().to_owned();
            Ok(())
        })
        .saved(3, |service, _| service.engine.map(|engine| engine.name().to_owned())),
    Flag { value: Value::Optional, ..Flag::new("persistent", "p", &["persistent service"]).value("[timeout]") }
        .option(4, SETTERS)
        .takes(|draft, argument| {
            draft.flags |= service_flags::PERSISTENT;
            draft.persistence = argument.value.map_or(Ok(DEFAULT_PERSISTENCE), |text| timeout(text, 1))?;
            Ok(())
        })
        .saved(1, |service, _| service.is_persistent().then(|| service.timeout.to_string())),
    Flag::new("netmask", "M", &["persistent granularity mask"])
        .value("netmask")
        .option(5, SETTERS)
        .takes(|draft, argument| draft.take_netmask(argument))
        // A service that is not persistent keeps its mask without effect.
        .saved(2, |service, form| {
            let saved = !service.netmask.is_full() && (service.is_persistent() || form == Form::Full);
            saved.then(|| service.netmask.to_string())
        }),
];

/// The flags that the help shows after those of listings.
pub const LATER: &[Flag] = &[
    Flag::new("ops", "o", &["one-packet scheduling"])
        .option(21, SETTERS)
        .takes(|draft, _| {
            draft.flags |= service_flags::ONE_PACKET;
            Ok(())
        })
        .demands(|named| match named.service.key {
            ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Sctp, .. } if named.service.is_one_packet() => {
                Failure::usage("One-Packet Scheduling is only for UDP virtual services")
            }
            _ => Ok(()),
        })
        .saved(4, |service, _| service.is_one_packet().then(String::new)),
    Flag::new("numeric", "n", &["numeric output of addresses and ports"])
        .option(0, &[(Cmd::List, Optional), (Cmd::Save, Optional), (Cmd::ListLocals, Optional)])
        .takes(|draft, _| {
            draft.list.numeric = true;
            Ok(())
        }),
    Flag::new("sched-flags", "b", &["scheduler flags (comma-separated)"])
        .value("flags")
        .words(|_| {
            sched::FLAGS.iter().chain(SCHEDULERS.iter().flat_map(|entry| entry.1.flags)).map(|flag| flag.1).collect()
        })
        .option(23, SETTERS)
        .takes(|draft, argument| {
            draft.sched_flags = argument.text().to_owned();
            Ok(())
        })
        .saved(5, |service, _| Some(flag_names(service.scheduler, service.flags)).filter(|names| !names.is_empty())),
];
