// SPDX-License-Identifier: GPL-2.0-only
//! The metrics of `coregate metrics` and of what Prometheus scrapes: one table, from which the text,
//! its help, and docs/metrics.md come. They are made of a [`Status`] and nothing else, so that
//! gauges cannot drift from what they are of.

use std::fmt::{Display, Write};
use std::time::{Duration, UNIX_EPOCH};

use super::{Failures, Rule, Sink, Status};
use crate::kernel::Source;
use crate::policy::{Mode, Word};

/// The type of [`text`], for HTTP: the text format that all versions of Prometheus read.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A line of the table.
pub struct Metric {
    /// Its name, as Prometheus' conventions have it.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What it is.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    samples: fn(&Status, &mut Samples<'_>),
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&Status, &mut Samples<'_>),
) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        labels,
        samples,
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&Status, &mut Samples<'_>),
) -> Metric {
    Metric {
        kind: "counter",
        ..gauge(name, help, labels, samples)
    }
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    gauge(
        "coregate_build_info",
        "1, with the version of the daemon.",
        &["version"],
        |status, to| to.add(&[&status.version], 1),
    ),
    gauge(
        "coregate_mode",
        "1 for the mode in which launches are judged, 0 for the other one.",
        &["mode"],
        |status, to| to.states::<Mode>(Some(&status.mode)),
    ),
    gauge(
        "coregate_mode_ordered",
        "Whether root ordered a mode over the head of the policy.",
        &[],
        |status, to| to.add(&[], u8::from(status.order.is_some())),
    ),
    gauge(
        "coregate_generation",
        "The number of the policy that holds.",
        &[],
        |status, to| to.add(&[], status.generation),
    ),
    gauge(
        "coregate_hooks_attached",
        "Hooks of the gate that are attached.",
        &[],
        |status, to| to.add(&[], status.hooks),
    ),
    gauge(
        "coregate_idle_source",
        "1 for where idleness is read, 0 for the others; all 0: nowhere.",
        &["source"],
        |status, to| to.states::<Source>(status.source.as_deref()),
    ),
    gauge(
        "coregate_scheduler_present",
        "Whether a sched_ext scheduler is loaded.",
        &[],
        |status, to| to.add(&[], u8::from(status.scheduler.is_some())),
    ),
    gauge(
        "coregate_scheduler_info",
        "1, with what is known of the loaded sched_ext scheduler.",
        &["ops", "per_node", "tracking"],
        |status, to| {
            if let Some(scheduler) = &status.scheduler {
                let [per_node, tracking] = [scheduler.per_node, scheduler.tracking].map(word);
                to.add(&[&scheduler.ops, per_node, tracking], 1);
            }
        },
    ),
    gauge(
        "coregate_node_cores",
        "Cores of the node with an online thread.",
        &["node"],
        |status, to| to.nodes(status, |node| node.cores),
    ),
    gauge(
        "coregate_node_free_cores",
        "Free cores of the node, without the one on which the daemon runs.",
        &["node"],
        |status, to| to.nodes(status, |node| node.free),
    ),
    gauge(
        "coregate_node_claimed_cores",
        "Cores of the node that claims hold.",
        &["node"],
        |status, to| to.nodes(status, |node| node.claimed),
    ),
    gauge(
        "coregate_node_owed_cores",
        "Of these, the ones that their holders do not have to themselves now.",
        &["node"],
        |status, to| to.nodes(status, |node| node.owed),
    ),
    counter(
        "coregate_launches_total",
        "Launches that the rule watched.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.launches),
    ),
    counter(
        "coregate_admitted_total",
        "Launches that went on without a word against them.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.admitted),
    ),
    counter(
        "coregate_denied_total",
        "Launches that failed with the rule's error.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.denied),
    ),
    counter(
        "coregate_would_deny_total",
        "Launches that went on although they would be denied in enforce.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.would_deny),
    ),
    counter(
        "coregate_unknown_total",
        "Launches for which idleness could not be known; each also counts as what came of it.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.unknown),
    ),
    counter(
        "coregate_suppressed_total",
        "Events of the rule that the rate limit held back.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.suppressed),
    ),
    gauge(
        "coregate_claims",
        "Live claims of the rule.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.claims),
    ),
    counter(
        "coregate_holder_samples_total",
        "Samples of CPUs that ran a program of the rule with a claim: about one each 10 ms.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.honour.samples),
    ),
    counter(
        "coregate_shared_samples_total",
        "Of these, the ones with something else on the same core.",
        &["rule"],
        |status, to| to.rules(status, |rule| rule.honour.shared),
    ),
    counter(
        "coregate_holder_seconds_total",
        "How long CPUs ran for programs of the rule with a claim, in seconds: exact, but only while the \
         companion is in charge.",
        &["rule"],
        |status, to| to.rules(status, |rule| seconds(rule.honour.ran_ns)),
    ),
    counter(
        "coregate_shared_seconds_total",
        "For how long of that something else ran on the same core.",
        &["rule"],
        |status, to| to.rules(status, |rule| seconds(rule.honour.shared_ns)),
    ),
    counter(
        "coregate_events_emitted_total",
        "Events that were logged.",
        &[],
        |status, to| to.add(&[], status.events.emitted),
    ),
    counter(
        "coregate_events_suppressed_total",
        "Events that the rate limit held back.",
        &[],
        |status, to| to.add(&[], status.events.suppressed),
    ),
    counter(
        "coregate_events_lost_total",
        "Events that never came to the daemon: the ring buffer was full.",
        &[],
        |status, to| to.add(&[], status.events.lost),
    ),
    counter(
        "coregate_failures_total",
        "What the gate or the daemon did not manage to do; docs/operations.md has each kind.",
        &["kind"],
        |status, to| {
            for failure in Failures::TABLE {
                to.add(&[failure.name], (failure.count)(&status.failures));
            }
        },
    ),
    counter(
        "coregate_log_written_total",
        "Lines that the sink of the log has taken.",
        &["sink"],
        |status, to| to.sinks(status, |sink| sink.written),
    ),
    counter(
        "coregate_log_lost_total",
        "Lines that it has not taken, and will not.",
        &["sink"],
        |status, to| to.sinks(status, |sink| sink.lost),
    ),
    gauge(
        "coregate_log_waiting",
        "Lines on their way to it.",
        &["sink"],
        |status, to| to.sinks(status, |sink| sink.waiting),
    ),
    counter(
        "coregate_reloads_total",
        "Attempts to let another policy hold, by what came of them.",
        &["outcome"],
        |status, to| {
            to.add(&["done"], status.reloads.done);
            to.add(&["refused"], status.reloads.refused);
        },
    ),
    gauge(
        "coregate_last_reload_successful",
        "0 if the last attempt to read the policy again was refused, else 1.",
        &[],
        |status, to| {
            let refused = status
                .reload
                .as_ref()
                .is_some_and(|last| last.error.is_some());
            to.add(&[], u8::from(!refused));
        },
    ),
    gauge(
        "coregate_last_reload_timestamp_seconds",
        "When the policy was last tried to be read again; missing if it never was.",
        &[],
        |status, to| {
            let time = status.reload.as_ref().map(|reload| &reload.time);
            let time = time.and_then(|time| humantime::parse_rfc3339(time).ok());
            if let Some(since) = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
                to.add(&[], since.as_secs());
            }
        },
    ),
    gauge(
        "coregate_rehearsal_running",
        "Whether a policy is rehearsed.",
        &[],
        |status, to| to.add(&[], u8::from(status.rehearsal.is_some())),
    ),
    gauge(
        "coregate_rehearsal_launches",
        "Launches that the rehearsed policy judged too.",
        &[],
        |status, to| {
            if let Some(rehearsal) = &status.rehearsal {
                to.add(&[], rehearsal.changes.compared);
            }
        },
    ),
    gauge(
        "coregate_rehearsal_differences",
        "Of these, the ones of which something else would have become.",
        &[],
        |status, to| {
            if let Some(rehearsal) = &status.rehearsal {
                let changed = rehearsal.changes.changed.iter();
                to.add(&[], changed.map(|change| change.launches).sum::<u64>());
            }
        },
    ),
];

/// The metrics of this status, in the text format of Prometheus, version 0.0.4.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric {
            name, kind, help, ..
        } = metric;
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        // Writing to a string does not fail, here and below.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let mut samples = Samples {
            metric,
            text: &mut text,
        };
        (metric.samples)(status, &mut samples);
    }
    text
}

/// Where the samples of a metric go.
struct Samples<'a> {
    metric: &'a Metric,
    text: &'a mut String,
}

impl Samples<'_> {
    /// One sample, with the values of its labels in their order.
    fn add(&mut self, values: &[&str], number: impl Display) {
        debug_assert_eq!(values.len(), self.metric.labels.len());
        let labels: Vec<_> = self
            .metric
            .labels
            .iter()
            .zip(values)
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = match &labels[..] {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{labels} {number}", self.metric.name);
    }

    /// A sample for each word, 1 for the one that holds.
    fn states<T: Word>(&mut self, holds: Option<&str>) {
        for value in T::ALL {
            let word = value.word();
            self.add(&[word], u8::from(holds == Some(word)));
        }
    }

    fn nodes(&mut self, status: &Status, number: fn(&super::Node) -> u32) {
        for node in &status.nodes {
            self.add(&[&node.node.to_string()], number(node));
        }
    }

    fn sinks(&mut self, status: &Status, number: fn(&Sink) -> u64) {
        for sink in &status.log {
            self.add(&[&sink.name], number(sink));
        }
    }

    fn rules<T: Display>(&mut self, status: &Status, number: fn(&Rule) -> T) {
        for rule in &status.rules {
            self.add(&[&rule.name], number(rule));
        }
    }
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

fn word(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// The value of a label, between its quotes.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests;
