//! The order of listings.
//!
//! ipvsadm compares by 32-bit differences that wrap, so its relation is not transitive (192.168.0.0/16 sorts before
//! 10.0.0.0/8) and the result depends on the algorithm: glibc's merge sort. The standard library's sorts may panic on
//! such a relation.

use std::net::IpAddr;

use lvs_director::rules::{DestinationKey, ServiceEntry, ServiceKey};

/// Sorts services and their destinations as ipvsadm does.
pub fn sorted(services: Vec<ServiceEntry>) -> Vec<ServiceEntry> {
    let mut services = merge_sort(services, |a, b| compare_services(&a.service.key, &b.service.key));
    for entry in &mut services {
        let destinations = std::mem::take(&mut entry.destinations);
        entry.destinations =
            merge_sort(destinations, |a, b| compare_destinations(&a.destination.key, &b.destination.key));
    }
    services
}

/// glibc's merge sort: halves, the smaller first; of equals, the left one.
fn merge_sort<T>(mut items: Vec<T>, compare: fn(&T, &T) -> i32) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let right = items.split_off(items.len() / 2);
    let mut left = merge_sort(items, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        merged.extend(if compare(a, b) <= 0 { left.next() } else { right.next() });
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// The difference as ipvsadm computes it.
fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// The first that is not 0.
fn first(differences: impl IntoIterator<Item = i32>) -> i32 {
    differences.into_iter().find(|&difference| difference != 0).unwrap_or(0)
}

/// Words of an address.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => [u32::from(v4), 0, 0, 0],
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
        }
    }
}

fn compare_addresses(a: IpAddr, b: IpAddr) -> i32 {
    // If the left one is IPv4 only its one word counts; the others are 0 then or were not looked at.
    let count = if a.is_ipv4() { 1 } else { 4 };
    let (a, b) = (words(a), words(b));
    first((0..count).map(|word| difference(a[word], b[word])))
}

fn compare_destinations(a: &DestinationKey, b: &DestinationKey) -> i32 {
    first([compare_addresses(a.address, b.address), i32::from(a.port) - i32::from(b.port)])
}

/// Mark, family, protocol, address and port, as ipvsadm compares them.
fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    let mark = |key: &ServiceKey| match *key {
        ServiceKey::Fwmark { mark, .. } => mark,
        ServiceKey::Address { .. } => 0,
    };
    let by_address = match (*a, *b) {
        (
            ServiceKey::Address { protocol: a_protocol, address: a_address, port: a_port },
            ServiceKey::Address { protocol: b_protocol, address: b_address, port: b_port },
        ) => first([
            i32::from(a_protocol as u8) - i32::from(b_protocol as u8),
            compare_addresses(a_address, b_address),
            i32::from(a_port) - i32::from(b_port),
        ]),
        _ => 0,
    };
    let family = |key: &ServiceKey| i32::from(key.family().number());
    first([difference(mark(a), mark(b)), family(a) - family(b), by_address])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_wrap_and_the_order_depends_on_the_input() {
        let sort = |tens: [u8; 3]| {
            let keys = tens.map(|ten| DestinationKey { address: IpAddr::from([ten, 0, 0, 1]), port: 80 });
            merge_sort(keys.to_vec(), compare_destinations)
                .into_iter()
                .map(|key| words(key.address)[0] >> 24)
                .collect::<Vec<_>>()
        };
        assert_eq!(sort([10, 120, 192]), [10, 120, 192]);
        assert_eq!(sort([192, 120, 10]), [192, 10, 120]);
        assert_eq!(sort([120, 10, 192]), [120, 192, 10]);
    }
}
