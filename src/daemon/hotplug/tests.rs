// SPDX-License-Identifier: GPL-2.0-only
use nix::sys::socket::{send, socketpair};

use super::*;

/// Where uevents can be put in, and one who listens to them.
fn kernel() -> (OwnedFd, Hotplug) {
    let (kernel, listener) = socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::SOCK_NONBLOCK,
    )
    .unwrap();
    (kernel, Hotplug(listener))
}

fn put(kernel: &OwnedFd, uevent: &str) {
    send(kernel.as_raw_fd(), uevent.as_bytes(), MsgFlags::empty()).unwrap();
}

#[test]
fn only_cpus_matter() {
    let (kernel, hotplug) = kernel();
    assert!(!hotplug.happened());
    for (uevent, happened) in [
        (
            "online@/devices/system/cpu/cpu7\0ACTION=online\0SUBSYSTEM=cpu\0",
            true,
        ),
        (
            "offline@/devices/system/cpu/cpu12\0ACTION=offline\0SUBSYSTEM=cpu\0",
            true,
        ),
        (
            "add@/devices/virtual/bdi/0:40\0ACTION=add\0SUBSYSTEM=bdi\0",
            false,
        ),
        (
            "change@/devices/system/cpu\0ACTION=change\0SUBSYSTEM=cpu\0",
            false,
        ),
        ("", false),
    ] {
        put(&kernel, uevent);
        assert_eq!(hotplug.happened(), happened, "{uevent:?}");
    }
}

/// What waits is read at once, so that one look at the machine answers all of it.
#[test]
fn all_that_waits_is_read() {
    let (kernel, hotplug) = kernel();
    put(&kernel, "offline@/devices/system/cpu/cpu1\0");
    put(&kernel, "add@/devices/virtual/bdi/0:40\0");
    put(&kernel, "online@/devices/system/cpu/cpu1\0");
    assert!(hotplug.happened());
    assert!(!hotplug.happened());
}
