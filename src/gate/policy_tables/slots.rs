// SPDX-License-Identifier: GPL-2.0-only
//! A hash table as the gate reads it: an entry is in the slot of its hash, or soon after it.

use super::{MULTIPLIER, abi};

const PROBES: usize = abi::limits::PROBES.0 as usize;

/// A table of at least twice as many slots as entries, and at least one.
pub(super) struct Slots<T> {
    slots: Vec<Option<(T, u64)>>,
}

impl<T> Slots<T> {
    /// Puts entries into the slots of their hashes; of two that want one slot, the one that is
    /// farther from its own gets it, so that none is far. `None`: one is too far all the same.
    pub(super) fn new(
        entries: impl ExactSizeIterator<Item = T>,
        hash: impl Fn(&T) -> u64,
    ) -> Option<Self> {
        let size = (2 * entries.len()).next_power_of_two();
        let mut slots: Vec<Option<(T, u64)>> = Vec::new();
        slots.resize_with(size, || None);
        for entry in entries {
            let hash = hash(&entry);
            let mut moving = (entry, hash);
            let mut distance = 0;
            loop {
                let at = (own(moving.1) + distance) & (size - 1);
                let Some((_, theirs)) = &slots[at] else {
                    slots[at] = Some(moving);
                    break;
                };
                let their_distance = at.wrapping_sub(own(*theirs)) & (size - 1);
                if their_distance < distance {
                    moving = slots[at].replace(moving)?;
                    distance = their_distance;
                }
                distance += 1;
                if distance == PROBES {
                    return None;
                }
            }
        }
        Some(Self { slots })
    }

    /// What to take of a slot's number.
    pub(super) fn mask(&self) -> u32 {
        self.slots.len() as u32 - 1
    }
}

impl<T: Default> Slots<T> {
    /// By slot; an empty one has the default.
    pub(super) fn into_entries(self) -> Vec<T> {
        let entry = |slot: Option<(T, u64)>| slot.map(|(entry, _)| entry).unwrap_or_default();
        self.slots.into_iter().map(entry).collect()
    }
}

/// The slot of a hash, before the mask; `slot_near()` of `bpf/strings.bpf.h`.
pub(super) fn own(hash: u64) -> usize {
    (hash.wrapping_mul(MULTIPLIER) >> 32) as usize
}
