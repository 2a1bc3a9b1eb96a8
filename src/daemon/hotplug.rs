// SPDX-License-Identifier: GPL-2.0-only
//! CPUs that come and go, as the kernel tells it: uevents (lib/kobject_uevent.c).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// The multicast group of the kernel's own uevents.
const KERNEL: u32 = 1;

/// Where the devices of CPUs are, in a uevent's path.
const CPUS: &[u8] = b"@/devices/system/cpu/cpu";

/// Readable when a device came or went.
pub(super) struct Hotplug(OwnedFd);

impl Hotplug {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self> {
        let listen = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let protocol = SockProtocol::NetlinkKObjectUEvent;
            let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
            Ok::<_, Errno>(fd)
        };
        listen().map(Self).context("cannot listen to uevents")
    }

    /// Whether a CPU came or went, by what waits to be read; or may have, where too much waited.
    pub(super) fn happened(&self) -> bool {
        let mut happened = false;
        let mut message = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Ok(len) => {
                    let mut words = message[..len].windows(CPUS.len());
                    happened |= words.any(|word| word == CPUS);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => happened = true,
                Err(_) => return happened,
            }
        }
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
