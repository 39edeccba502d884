//! Classification rules in the maps.

use lvs_common::abi::{Address, MARK_RULES, MarkLists, MarkRule, Switch, WATCH_BITS};

use super::mapped::{field, put};
use super::plane::{Plane, staged};

/// Most addresses that all rules together have the watch filter told one by one: an eighth of its bits, as more would
/// have it know too many others.
const FEW: u64 = WATCH_BITS as u64 / 8;

/// Where rule `at` of a copy is.
fn place(copy: usize, at: u32) -> u32 {
    copy as u32 * MARK_RULES + at
}

impl Plane {
    /// The rules, in the order in which packets are compared with them.
    pub fn mark_rules(&self) -> Vec<MarkRule> {
        let lists = field!(self.settings, 0, marks);
        let copy = lists.switch.copy(self.epoch());
        (0..lists.counts[copy].min(MARK_RULES)).map(|at| self.marks.get(place(copy, at))).collect()
    }

    /// Stages other rules, at most [`MARK_RULES`], in the order in which packets are to be compared with them.
    pub fn write_mark_rules(&mut self, rules: &[MarkRule]) {
        let now = self.now();
        let mut lists = field!(self.settings, 0, marks);
        let (copy, fresh) = staged(lists.switch, now);
        for (at, rule) in (0..).zip(rules) {
            self.marks.set(place(copy, at), *rule);
        }
        lists.counts[copy] = rules.len() as u32;
        if fresh {
            lists.switch = Switch::at(now + 1, copy);
        }
        put!(self.settings, 0, marks, lists);
        self.watch_marks(rules);
    }

    /// Forgets rules that are staged at `epoch`.
    pub fn recover_mark_rules(&mut self, epoch: u64) {
        let MarkLists { switch, counts } = field!(self.settings, 0, marks);
        if switch.pending(epoch) {
            let switch = Switch::at(epoch, switch.copy(epoch));
            put!(self.settings, 0, marks, MarkLists { switch, counts });
        }
    }
}

/// The destination addresses that rules are about, each with its family; `None` if they are too many to be told one by one.
pub fn addresses(rules: &[MarkRule]) -> Option<Vec<(Address, u8)>> {
    let count = |rule: &MarkRule| 1u64.checked_shl(u32::from(rule.address_bits() - rule.destination_bits));
    let all = rules.iter().try_fold(0u64, |sum, rule| sum.checked_add(count(rule)?))?;
    if all > FEW {
        return None;
    }
    let each = |rule: &MarkRule| {
        let (first, family, v4) = (rule.destination, rule.family, rule.address_bits() == 32);
        (0..count(rule).unwrap_or(0)).map(move |n| {
            let address = if v4 {
                Address::v4((u32::from_be_bytes(first.octets4()) + n as u32).to_be_bytes())
            } else {
                Address::v6((u128::from_be_bytes(first.octets6()) + u128::from(n)).to_be_bytes())
            };
            (address, family)
        })
    };
    Some(rules.iter().flat_map(each).collect())
}

#[cfg(test)]
mod tests {
    use lvs_common::abi::{AF_INET, AF_INET6};

    use super::*;

    fn v4(octets: [u8; 4], destination_bits: u8) -> MarkRule {
        MarkRule { destination: Address::v4(octets), destination_bits, family: AF_INET, ..MarkRule::default() }
    }

    fn v6(last: u8, destination_bits: u8) -> MarkRule {
        let mut octets = [0; 16];
        (octets[0], octets[15]) = (0x20, last);
        MarkRule { destination: Address::v6(octets), destination_bits, family: AF_INET6, ..MarkRule::default() }
    }

    #[test]
    fn few_addresses_are_told_one_by_one() {
        let all = addresses(&[v4([192, 0, 2, 255], 32), v4([10, 0, 255, 254], 31), v6(0xfe, 127)]).unwrap();
        let expected = [
            (Address::v4([192, 0, 2, 255]), AF_INET),
            (Address::v4([10, 0, 255, 254]), AF_INET),
            (Address::v4([10, 0, 255, 255]), AF_INET),
            (v6(0xfe, 128).destination, AF_INET6),
            (v6(0xff, 128).destination, AF_INET6),
        ];
        assert_eq!(all, expected);
        assert_eq!(addresses(&[]), Some(Vec::new()));
    }

    #[test]
    fn many_are_not() {
        assert_eq!(addresses(&[v4([10, 0, 0, 0], 19)]).map(|all| all.len()), Some(8192));
        assert_eq!(addresses(&[v4([10, 0, 0, 0], 19), v4([192, 0, 2, 1], 32)]), None);
        for rule in [v4([0; 4], 0), v6(0, 64), v6(0, 65), v6(0, 0)] {
            assert_eq!(addresses(&[rule]), None);
        }
    }
}
