//! Names of schedulers and of their flags.

use lvs_common::abi::{SCHEDULERS, Scheduler, service_flags};

/// The flags in the order of their bits, with the name that every scheduler understands.
const FLAGS: [(u32, &str); 3] =
    [(service_flags::SCHED1, "flag-1"), (service_flags::SCHED2, "flag-2"), (service_flags::SCHED3, "flag-3")];

/// Flags with a name that one scheduler alone understands.
const OWN_FLAGS: [(Scheduler, u32, &str); 4] = [
    (Scheduler::Sh, service_flags::SCHED1, "sh-fallback"),
    (Scheduler::Sh, service_flags::SCHED2, "sh-port"),
    (Scheduler::Mh, service_flags::SCHED1, "mh-fallback"),
    (Scheduler::Mh, service_flags::SCHED2, "mh-port"),
];

/// The scheduler of that name.
pub fn scheduler_by_name(name: &str) -> Option<Scheduler> {
    SCHEDULERS.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
}

/// Its name.
pub fn scheduler_name(scheduler: Scheduler) -> &'static str {
    SCHEDULERS[scheduler as usize].0
}

/// The bit of a flag's name, and the scheduler it needs if it is not every scheduler's.
pub fn flag_by_name(name: &str) -> Option<(u32, Option<Scheduler>)> {
    let common = FLAGS.iter().find(|flag| flag.1 == name).map(|flag| (flag.0, None));
    common.or_else(|| OWN_FLAGS.iter().find(|flag| flag.2 == name).map(|flag| (flag.1, Some(flag.0))))
}

/// Names of the flags that are set.
pub fn flags_of(scheduler: Scheduler, flags: u32) -> Vec<&'static str> {
    let name =
        |bit, common| OWN_FLAGS.iter().find(|own| own.0 == scheduler && own.1 == bit).map_or(common, |own| own.2);
    FLAGS.iter().filter(|flag| flags & flag.0 != 0).map(|&(bit, common)| name(bit, common)).collect()
}

/// The same, joined by commas; empty without any.
pub fn flag_names(scheduler: Scheduler, flags: u32) -> String {
    flags_of(scheduler, flags).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_is_found_by_the_name_it_has() {
        for (index, (name, scheduler)) in SCHEDULERS.into_iter().enumerate() {
            assert_eq!(scheduler as usize, index);
            assert_eq!(scheduler_by_name(name), Some(scheduler));
            assert_eq!(scheduler_name(scheduler), name);
        }
    }

    #[test]
    fn flags_have_the_schedulers_own_names() {
        let all = service_flags::SCHED1 | service_flags::SCHED2 | service_flags::SCHED3;
        assert_eq!(flag_names(Scheduler::Rr, all), "flag-1,flag-2,flag-3");
        assert_eq!(flag_names(Scheduler::Mh, all), "mh-fallback,mh-port,flag-3");
        assert_eq!(flag_names(Scheduler::Sh, service_flags::PERSISTENT), "");
        assert_eq!(flag_by_name("sh-port"), Some((service_flags::SCHED2, Some(Scheduler::Sh))));
    }
}
