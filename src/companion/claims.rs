// SPDX-License-Identifier: GPL-2.0-only
//! The gate's claims, as it pins them: which they are, and when they are others.

use std::os::fd::{AsFd, BorrowedFd};

use libbpf_rs::OpenMapMut;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Error;
use crate::gate::pins;

/// The maps that the scheduler shares: what it reads, and where it tells what became of claims.
const MAPS: [&str; 3] = ["claims", "holders", "honours"];

/// Looks out for the gate's claims to come, go or change place.
pub(super) struct Claims {
    /// Of these maps; `None`: the scheduler has its own, in which nothing is.
    ids: Option<[u32; 3]>,
    watch: Inotify,
}

impl Claims {
    /// Lets a scheduler that is not loaded yet read the gate's claims, if a gate is pinned.
    pub(super) fn share(maps: [&mut OpenMapMut<'_>; 3]) -> Result<Self, Error> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let watch = Inotify::init(flags).map_err(Error::system("watch the gate's claims"))?;
        let mut shared = Self { ids: None, watch };
        // First: what changes from now on is noticed.
        shared.follow();
        let [claims, holders, honours] = maps;
        let maps = [(MAPS[0], claims), (MAPS[1], holders), (MAPS[2], honours)];
        shared.ids = pins::share_claims(maps).map_err(|error| Error::Claims(error.to_string()))?;
        Ok(shared)
    }

    /// Watches the folders that are there. The gate's own may be a new one each time.
    fn follow(&self) {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        for folder in [pins::ROOT, pins::PARENT] {
            // Without a BPF file system, or a gate, there is nothing to watch yet.
            let _ = self.watch.add_watch(folder, events);
        }
    }

    /// Whether there is a gate, whose claims the scheduler reads.
    pub(super) fn are_shared(&self) -> bool {
        self.ids.is_some()
    }

    /// Takes note of what happened there. It may not be all of it yet.
    pub(super) fn stir(&self) {
        while self.watch.read_events().is_ok() {}
        self.follow();
    }

    /// Whether the gate's claims are not those that the scheduler reads any more.
    pub(super) fn are_others(&self) -> bool {
        pins::claims_ids(MAPS) != self.ids
    }
}

impl AsFd for Claims {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
