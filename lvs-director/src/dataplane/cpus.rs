//! How many CPUs the machine has, and how many it could have.

use std::fs;

use super::error::{Context, Result};

/// One more than the highest number of a CPU that is there. A virtual machine's firmware often says that a hundred more could be added.
pub fn present() -> Result<u32> {
    read("/sys/devices/system/cpu/present")
}

/// One more than the highest number of a CPU that there can be before the machine starts again.
pub fn possible() -> Result<u32> {
    read("/sys/devices/system/cpu/possible")
}

fn read(path: &str) -> Result<u32> {
    let context = || format!("cannot count the CPUs by {path}");
    end(&fs::read_to_string(path).with_context(context)?).with_context(context)
}

/// One more than the highest number in a list of ranges, as `0-3,8`.
fn end(list: &str) -> Option<u32> {
    let last = |range: &str| range.rsplit('-').next()?.parse::<u32>().ok();
    let numbers = list.trim().split(',').map(last).collect::<Option<Vec<u32>>>()?;
    numbers.into_iter().max()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::end;

    #[test]
    fn the_highest_number_counts() {
        for (list, count) in [("0\n", 1), ("0-1\n", 2), ("0-3,8-11\n", 12), ("0,2", 3)] {
            assert_eq!(end(list), Some(count), "{list}");
        }
        for list in ["", "\n", "0-", "x", "4294967295"] {
            assert_eq!(end(list), None, "{list}");
        }
    }
}
