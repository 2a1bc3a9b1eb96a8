// SPDX-License-Identifier: GPL-2.0-only
//! What is told of a count that only grows.

use std::time::{Duration, Instant};

/// How often the same is told again.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What was told of one count, and when.
#[derive(Clone, Copy, Default)]
pub(super) struct Growth {
    told: u64,
    at: Option<Instant>,
}

impl Growth {
    /// By how much it has grown since that was told last, if this is to be told now: at once, but not
    /// more often than `TELL_EVERY`.
    pub(super) fn news(&mut self, count: u64, now: Instant) -> Option<u64> {
        let lately = |at| now.saturating_duration_since(at) < TELL_EVERY;
        if count <= self.told || self.at.is_some_and(lately) {
            return None;
        }
        let more = count - self.told;
        *self = Self {
            told: count,
            at: Some(now),
        };
        Some(more)
    }
}
