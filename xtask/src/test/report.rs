// SPDX-License-Identifier: GPL-2.0-only
//! One line for each thing tested, and the count of them all.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What was tested so far; may be shared by threads.
#[derive(Default)]
pub(super) struct Report {
    count: Mutex<Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    passed: usize,
    failed: usize,
    in_guests: usize,
}

impl Report {
    /// Says that `name` passed at `place`, such as `lint` or `6.18 numa`.
    pub(super) fn passed(&self, place: impl Display, name: &str, time: Duration) {
        let mut count = self.count();
        count.passed += 1;
        line("ok  ", place, name, time);
    }

    /// Says that `name` failed at `place`, and what it said.
    pub(super) fn failed(&self, place: impl Display, name: &str, time: Duration, said: &str) {
        let mut count = self.count();
        count.failed += 1;
        line("FAIL", place, name, time);
        for text in said.trim().lines() {
            println!("     | {text}");
        }
    }

    /// Says how `name` ended at `place`.
    pub(super) fn ended(
        &self,
        place: impl Display,
        name: &str,
        time: Duration,
        result: &anyhow::Result<()>,
    ) {
        match result {
            Ok(()) => self.passed(place, name, time),
            Err(why) => self.failed(place, name, time, &format!("{why:#}")),
        }
    }

    /// Notes that one more test reported from inside a guest.
    pub(super) fn ran_in_guest(&self) {
        self.count().in_guests += 1;
    }

    /// How many tests reported from inside a guest.
    pub(super) fn in_guests(&self) -> usize {
        self.count().in_guests
    }

    /// Prints the sums, as the last line, and tells whether there were tests
    /// and all of them passed.
    pub(super) fn close(&self) -> bool {
        let Count { passed, failed, .. } = *self.count();
        println!("{passed} passed, {failed} failed");
        failed == 0 && passed > 0
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(word: &str, place: impl Display, name: &str, time: Duration) {
    println!("{word} {place:14} {name}  {:.1}s", time.as_secs_f64());
}
