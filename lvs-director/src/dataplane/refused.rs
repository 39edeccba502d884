//! What a driver's refusal to run XDP is kept as, for `status`, and what it mostly means.

use std::{fs, io};

use super::bpffs::Directory;
use super::devices::Link;
use super::error::{Context, Error, Result};
use super::pins::{self, pin};

/// Longest frames that fit into a page beside what drivers keep there, about. Many drivers run XDP on such frames alone.
const LONGEST_IN_A_PAGE: u32 = 3500;

/// Notes that the kernel refuses to serve a device as asked: by a directory whose name is the error's number.
pub fn note(directory: &Directory, index: u32, error: &Error) -> Result<()> {
    let note = pin(directory, "refused", index);
    pins::remove(&note)?;
    let number = error.number().unwrap_or_default();
    fs::create_dir_all(note.join(number.to_string())).context("cannot note a refusal")
}

/// Why the kernel refused to serve a device as asked, if it did.
pub fn why(directory: &Directory, link: &Link) -> Option<String> {
    let number = fs::read_dir(pin(directory, "refused", link.index)).ok()?.next()?.ok()?.file_name();
    let number = number.to_str()?.parse().ok()?;
    let error = io::Error::from_raw_os_error(number);
    Some(match meaning(number, link.mtu) {
        Some(meaning) => format!("{error}: {meaning}"),
        None => error.to_string(),
    })
}

/// What drivers mean by an error's number. Their own words go to whoever attaches by netlink, and to the kernel's log.
fn meaning(number: i32, mtu: u32) -> Option<String> {
    match number {
        libc::EBUSY => Some("another XDP program holds the device".to_owned()),
        libc::ENOSPC => Some("it has fewer receive queues than its peer has transmit queues (`ethtool -L`)".to_owned()),
        libc::ENOMEM => {
            Some("the driver lacks queues or memory for XDP; fewer channels may help (`ethtool -L`)".to_owned())
        }
        libc::ERANGE | libc::EINVAL | libc::EOPNOTSUPP if mtu > LONGEST_IN_A_PAGE => {
            Some(format!("the driver may run XDP with frames of a page only, and the MTU is {mtu}"))
        }
        libc::EOPNOTSUPP => {
            Some("the driver runs no XDP, or not with what is switched on (`ethtool -k`: LRO)".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::meaning;

    #[test]
    fn a_long_mtu_is_named_where_it_may_be_the_cause() {
        assert!(meaning(libc::ERANGE, 9000).unwrap().contains("9000"));
        assert_eq!(meaning(libc::ERANGE, 1500), None);
        assert!(meaning(libc::EOPNOTSUPP, 1500).unwrap().contains("LRO"));
    }
}
