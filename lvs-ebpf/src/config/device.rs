//! Devices as the command that attached them left them.

use crate::maps::DEVICES;
use lvs_common::abi::{DEVICE_SLOTS, Device};

/// What is known of a device, if it is attached.
#[inline(always)]
pub fn device(ifindex: u32) -> Option<&'static Device> {
    DEVICES.get(ifindex % DEVICE_SLOTS).filter(|d| d.ifindex == ifindex)
}
