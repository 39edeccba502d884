//! Names of schedulers and of their flags.

use lvs_common::abi::Scheduler;
use lvs_common::sched::{self, FLAGS, SCHEDULERS, Traits};

/// The scheduler of that name.
pub fn scheduler_by_name(name: &str) -> Option<Scheduler> {
    SCHEDULERS.iter().find(|entry| entry.1.name == name).map(|entry| entry.0)
}

/// The scheduler of that number.
pub fn scheduler_by_number(number: u8) -> Option<Scheduler> {
    SCHEDULERS.iter().find(|entry| entry.0 as u8 == number).map(|entry| entry.0)
}

/// What a scheduler is.
pub fn traits(scheduler: Scheduler) -> &'static Traits {
    SCHEDULERS.iter().find(|entry| entry.0 == scheduler).map_or(&sched::none::TRAITS, |entry| &entry.1)
}

/// Its name.
pub fn scheduler_name(scheduler: Scheduler) -> &'static str {
    traits(scheduler).name
}

/// The bit of a flag's name, and the scheduler it needs if it is not every scheduler's.
pub fn flag_by_name(name: &str) -> Option<(u32, Option<Scheduler>)> {
    let common = FLAGS.iter().find(|flag| flag.1 == name).map(|flag| (flag.0, None));
    let mut own = SCHEDULERS
        .iter()
        .flat_map(|(scheduler, traits)| traits.flags.iter().map(|&(bit, name)| (name, (bit, Some(*scheduler)))));
    common.or_else(|| own.find(|own| own.0 == name).map(|own| own.1))
}

/// Names of the flags that are set.
pub fn flags_of(scheduler: Scheduler, flags: u32) -> Vec<&'static str> {
    let traits = traits(scheduler);
    FLAGS.iter().filter(|flag| flags & flag.0 != 0).map(|&(bit, common)| traits.flag_name(bit, common)).collect()
}

/// The same, joined by commas; empty without any.
pub fn flag_names(scheduler: Scheduler, flags: u32) -> String {
    flags_of(scheduler, flags).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_common::abi::service_flags;

    #[test]
    fn every_scheduler_is_found_by_the_name_it_has() {
        for (scheduler, traits) in SCHEDULERS {
            assert_eq!(scheduler_by_name(traits.name), Some(*scheduler));
            assert_eq!(scheduler_by_number(*scheduler as u8), Some(*scheduler));
            assert_eq!(scheduler_name(*scheduler), traits.name);
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
