//! A configuration as rules, each of which is a line of a rules file, and what has to be done to get from one
//! configuration to another.

use std::collections::HashMap;
use std::net::IpAddr;

use super::access::{AccessKind, AccessRule};
use super::destination::{Destination, DestinationKey};
use super::device::Attached;
use super::mark::{Mark, Prefix, Traffic};
use super::service::{Service, ServiceKey};
use super::timeouts::Timeouts;

/// One thing that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `--set`
    Timeouts(Timeouts),
    /// `sysctl NAME=VALUE`, by its name in [`SYSCTLS`](super::sysctls::SYSCTLS).
    Sysctl(&'static str, u32),
    /// `attach`: a device that is attached.
    Device(String, Attached),
    /// `mark add`
    Mark(Mark),
    /// `--add-laddr`: the local addresses of a service, or of the default pool, which are at least one.
    Locals(Option<ServiceKey>, Vec<IpAddr>),
    /// `block` or `allow`: clients of a service, or of all services.
    Access(AccessKind, Option<ServiceKey>, AccessRule),
    /// `-A`
    Service(Service),
    /// `-a`
    Destination(ServiceKey, Destination),
}

/// What tells one rule from another: of each there is one rule at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the rules' own names")]
pub enum RuleKey {
    Timeouts,
    Sysctl(&'static str),
    Device(String),
    Mark(Traffic),
    Locals(Option<ServiceKey>),
    Access(AccessKind, Option<ServiceKey>, Prefix),
    Service(ServiceKey),
    Destination(ServiceKey, DestinationKey),
}

impl Rule {
    /// See [`RuleKey`].
    pub fn key(&self) -> RuleKey {
        match self {
            Rule::Timeouts(_) => RuleKey::Timeouts,
            Rule::Sysctl(name, _) => RuleKey::Sysctl(name),
            Rule::Device(name, _) => RuleKey::Device(name.clone()),
            Rule::Mark(mark) => RuleKey::Mark(mark.traffic),
            Rule::Locals(service, _) => RuleKey::Locals(*service),
            Rule::Access(kind, service, rule) => RuleKey::Access(*kind, *service, rule.prefix),
            Rule::Service(service) => RuleKey::Service(service.key),
            Rule::Destination(service, destination) => RuleKey::Destination(*service, destination.key),
        }
    }
}

impl Rule {
    /// The service that it is about.
    pub fn service(&self) -> Option<ServiceKey> {
        match self {
            Rule::Service(service) => Some(service.key),
            Rule::Destination(service, _) => Some(*service),
            Rule::Locals(service, _) | Rule::Access(_, service, _) => *service,
            Rule::Timeouts(_) | Rule::Sysctl(..) | Rule::Device(..) | Rule::Mark(_) => None,
        }
    }
}

/// One step from a configuration to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is no more.
    Delete(Rule),
    /// What is new.
    Add(Rule),
    /// What is another way now.
    Edit {
        /// As it was.
        from: Rule,
        /// As it is to be.
        to: Rule,
    },
}

/// What has to be done to get from one configuration to another: first the deletions, in the order of `from`, then the rest,
/// in the order of `to`. The order of rules is no difference by itself: destinations stay where they are on their
/// service's list, and new ones go to its head, as IPVS has it.
pub fn difference(from: &[Rule], to: &[Rule]) -> Vec<Change> {
    let mut before: HashMap<RuleKey, &Rule> = from.iter().map(|rule| (rule.key(), rule)).collect();
    let mut changes = Vec::new();
    for rule in to {
        match before.remove(&rule.key()) {
            Some(same) if same == rule => {}
            Some(other) => changes.push(Change::Edit { from: other.clone(), to: rule.clone() }),
            None => changes.push(Change::Add(rule.clone())),
        }
    }
    if before.is_empty() {
        return changes;
    }
    let gone = from.iter().filter(|rule| before.contains_key(&rule.key()));
    gone.map(|rule| Change::Delete(rule.clone())).chain(changes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_common::abi::{Forward, Scheduler};

    use crate::rules::service::Protocol;

    fn service(host: u8, scheduler: Scheduler) -> Rule {
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: [192, 0, 2, host].into(), port: 80 };
        Rule::Service(Service::new(key, scheduler))
    }

    fn destination(host: u8, number: u8, weight: u32) -> Rule {
        let key = ServiceKey::Address { protocol: Protocol::Tcp, address: [192, 0, 2, host].into(), port: 80 };
        let server = DestinationKey { address: [10, 0, 0, number].into(), port: 80 };
        Rule::Destination(key, Destination { weight, ..Destination::new(server, Forward::Masq) })
    }

    #[test]
    fn deletions_come_first_and_what_is_the_same_not_at_all() {
        let from = [
            Rule::Sysctl("drop_entry", 0),
            service(1, Scheduler::Rr),
            destination(1, 1, 1),
            destination(1, 2, 1),
            service(2, Scheduler::Rr),
            destination(2, 1, 1),
        ];
        let to = [
            service(3, Scheduler::Rr),
            destination(3, 1, 1),
            service(1, Scheduler::Wrr),
            destination(1, 2, 1),
            destination(1, 3, 1),
            destination(1, 1, 7),
            Rule::Sysctl("drop_entry", 1),
        ];
        let edit = |from: &Rule, to: &Rule| Change::Edit { from: from.clone(), to: to.clone() };
        assert_eq!(
            difference(&from, &to),
            [
                Change::Delete(from[4].clone()),
                Change::Delete(from[5].clone()),
                Change::Add(to[0].clone()),
                Change::Add(to[1].clone()),
                edit(&from[1], &to[2]),
                Change::Add(to[4].clone()),
                edit(&from[2], &to[5]),
                edit(&from[0], &to[6]),
            ]
        );
    }

    #[test]
    fn another_order_is_no_difference() {
        let rules = [service(1, Scheduler::Rr), destination(1, 1, 1), destination(1, 2, 1)];
        let other = [service(1, Scheduler::Rr), destination(1, 2, 1), destination(1, 1, 1)];
        assert_eq!(difference(&rules, &other), []);
    }
}
