// SPDX-License-Identifier: GPL-2.0-only
//! The state of the gate, for `coregate status` and its `--json`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the gate stands at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `observe` or `enforce`.
    pub mode: String,
    /// The generation of the policy, from 1.
    pub generation: u32,
    /// The hooks that are attached.
    pub hooks: usize,
    /// The loaded sched_ext scheduler, if any.
    pub scheduler: Option<Scheduler>,
    /// Where idleness is read now: `node`, `flat`, `runqueue`, or nowhere.
    pub source: Option<String>,
    /// The nodes that have cores, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// The rules in file order.
    pub rules: Vec<Rule>,
    /// What became of the events.
    pub events: Events,
    /// What the gate did not manage to do.
    pub failures: Failures,
}

/// The loaded sched_ext scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Its name.
    pub ops: String,
    /// Whether it keeps idle masks per node.
    pub per_node: bool,
    /// Whether it leaves idle tracking to the kernel.
    pub tracking: bool,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub node: u32,
    /// Its cores with an online thread.
    pub cores: u32,
    /// Its free cores; the core that answers the question is not one.
    pub free: u32,
    /// The cores that claims hold.
    pub claimed: u32,
}

/// A rule and its exact counts since the gate stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Where it stands: file:line.
    pub origin: String,
    /// Launches that it watched.
    pub launches: u64,
    /// Launches that went on without a word against them.
    pub admitted: u64,
    /// Launches that failed with its error.
    pub denied: u64,
    /// Launches that went on although they would be denied in enforce.
    pub would_deny: u64,
    /// Launches for which idleness could not be known; each also counts as what came of it.
    pub unknown: u64,
    /// Live claims.
    pub claims: u64,
}

/// What became of the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events that were logged.
    pub emitted: u64,
    /// Events that the rate limit held back.
    pub suppressed: u64,
    /// Events that found the ring buffer full, records that could not be read, and lines
    /// that no log daemon took.
    pub lost: u64,
}

/// What the gate did not manage to do, since it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// Execs of files whose path could not be read: they passed.
    pub paths_unread: u64,
    /// Launches whose rule could not be read: they passed.
    pub rules_unread: u64,
    /// Verdicts `unknown` as all claims were in use.
    pub claims_full: u64,
    /// Verdicts `unknown` as other launches kept changing the claims meanwhile.
    pub claims_contended: u64,
    /// Tasks of which it could not be noted for whose claim they run.
    pub holders_lost: u64,
    /// Claims that last as long as their program, as their time could not be started.
    pub timers_lost: u64,
}

impl Failures {
    /// Each with the words for it.
    fn in_words(&self) -> [(u64, &'static str); 6] {
        [
            (self.paths_unread, "paths could not be read"),
            (self.rules_unread, "rules could not be read"),
            (self.claims_full, "launches found all claims in use"),
            (self.claims_contended, "launches were overtaken too often"),
            (self.holders_lost, "tasks are not known as holders"),
            (self.timers_lost, "claims do not end in time"),
        ]
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduler = self
            .scheduler
            .as_ref()
            .map_or("none", |scheduler| &scheduler.ops);
        writeln!(f, "mode        {}", self.mode)?;
        writeln!(f, "generation  {}", self.generation)?;
        writeln!(f, "hooks       {}", self.hooks)?;
        writeln!(f, "scheduler   {scheduler}")?;
        writeln!(
            f,
            "source      {}",
            self.source.as_deref().unwrap_or("none")
        )?;
        writeln!(
            f,
            "events      {} emitted, {} suppressed, {} lost",
            self.events.emitted, self.events.suppressed, self.events.lost
        )?;
        for (count, words) in self.failures.in_words() {
            if count > 0 {
                writeln!(f, "failures    {count} {words}")?;
            }
        }
        writeln!(f, "\nnode  cores  free  claimed")?;
        for node in &self.nodes {
            writeln!(
                f,
                "{:>4}  {:>5}  {:>4}  {:>7}",
                node.node, node.cores, node.free, node.claimed
            )?;
        }
        let width = self
            .rules
            .iter()
            .map(|rule| rule.name.len())
            .max()
            .unwrap_or(0)
            .max(4);
        writeln!(
            f,
            "\n{:<width$}  launches  admitted  denied  would deny  unknown  claims  origin",
            "rule"
        )?;
        for rule in &self.rules {
            writeln!(
                f,
                "{:<width$}  {:>8}  {:>8}  {:>6}  {:>10}  {:>7}  {:>6}  {}",
                rule.name,
                rule.launches,
                rule.admitted,
                rule.denied,
                rule.would_deny,
                rule.unknown,
                rule.claims,
                rule.origin
            )?;
        }
        Ok(())
    }
}
