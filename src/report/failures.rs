// SPDX-License-Identifier: GPL-2.0-only
//! What the gate or the daemon did not manage to do: one table, from which the counters of
//! `coregate status`, the metric `coregate_failures_total`, the lines in the log and the table in
//! docs/operations.md come.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::growth::Growth;

/// A line of the table.
pub struct Failure {
    /// Its field in [`Failures`], and its `kind` in the metric.
    pub name: &'static str,
    /// What happened, so that a number can stand before it.
    pub words: &'static str,
    /// What the gate or the daemon does about it.
    pub then: &'static str,
    /// How often it happened.
    pub count: fn(&Failures) -> u64,
}

macro_rules! failures {
    ($($name:ident: $words:literal, $then:literal;)+) => {
        /// How often each failure happened: those of the gate since one stands, those of the daemon
        /// since it runs.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Failures {
            $(#[doc = concat!("How many ", $words, "; ", $then, ".")] pub $name: u64,)+
        }

        impl Failures {
            /// The table.
            pub const TABLE: &[Failure] = &[$(Failure {
                name: stringify!($name),
                words: $words,
                then: $then,
                count: |failures| failures.$name,
            },)+];
        }
    };
}

failures! {
    paths_unread: "paths could not be read", "the launch passes";
    args_unread: "arguments could not be read", "no rule by them matches";
    cgroups_unread: "launchers were in cgroups that could not all be read",
        "no rule by the others matches; 31 levels are looked at";
    rules_unread: "rules could not be read", "the launch passes";
    claims_full: "launches found all claims in use", "the verdict is `unknown`";
    claims_contended: "launches were overtaken too often", "the verdict is `unknown`";
    holders_lost: "tasks are not known as holders", "a core where they run is not taken for their claim's";
    timers_lost: "claims do not end in time", "they last as long as their program";
    changes_lost: "rehearsed launches differ uncounted", "the rehearsal shows fewer differences";
    unattended: "launches met the gate after its lease had ended",
        "they are judged as `on_lease_end` says";
    events_lost: "events found the ring buffer full", "the launch is counted, and not logged";
    records_unread: "records could not be read", "the launch is counted, and not logged";
    log_lines_lost: "lines were not taken by a log", "events are still remembered for `coregate events`";
    topologies_lost: "changes of the machine's CPUs could not be followed",
        "the verdict is `unknown` while there is a CPU that the gate does not know";
    clients_refused: "clients had no right to ask", "they are told so";
    clients_dropped: "clients were slow, or too many", "they are sent away, and others are answered";
    textfiles_lost: "files of metrics could not be written", "the one before stays, and the next is written in its time";
}

/// Those of which the daemon says the reason when they happen.
const TOLD_ELSEWHERE: &[&str] = &["log_lines_lost", "topologies_lost", "textfiles_lost"];

/// What was told of the failures.
pub struct Told {
    /// Of each line of the table.
    told: Vec<Growth>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            told: vec![Growth::default(); Failures::TABLE.len()],
        }
    }
}

impl Told {
    /// What is to be told of the failures now, a line for each kind that happened again: at once,
    /// but not more often than once a minute.
    pub fn news(&mut self, failures: &Failures, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for (failure, told) in Failures::TABLE.iter().zip(&mut self.told) {
            if TOLD_ELSEWHERE.contains(&failure.name) {
                continue;
            }
            let count = (failure.count)(failures);
            let Some(more) = told.news(count, now) else {
                continue;
            };
            lines.push(format!(
                "failure {}: {more} more {} ({count} in all): {}",
                failure.name, failure.words, failure.then
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests;
