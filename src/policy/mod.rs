// SPDX-License-Identifier: GPL-2.0-only
//! The policy: TOML → validated model → verdict of the reference evaluator.
//!
//! Nothing here reads a file, asks the system or knows of BPF, so the same
//! code answers in `check` and in the daemon, and on any machine.

#![forbid(unsafe_code)]

mod companion;
mod diagnostic;
mod document;
mod evaluate;
mod explain;
mod gate;
mod keys;
mod limits;
mod log;
mod metrics;
mod model;
mod rule;
mod schema;
mod selector;
mod words;

pub use companion::{Companion, Reserve};
pub use diagnostic::{Diagnostic, Errors};
pub use evaluate::{Decision, Effect, Found, Idle, Launch, Verdict, effect, evaluate, verdict};
pub use explain::{Explanation, Fact, PassedOver, RuleSays, SelectorSays, explain};
pub use keys::{COMPANION_KEYS, GATE_KEYS, Key, LOG_KEYS, METRICS_KEYS, RULE_KEYS, SELECTOR_KEYS};
pub use limits::{
    ARGV_LOOKED_AT, MAX_ARG, MAX_COMM, MAX_GLOBS, MAX_KEYS, MAX_NAME, MAX_OTHERS,
    MAX_OTHERS_OF_RULE, MAX_PATTERN, MAX_RULES, MAX_RULES_OF_KEY, MAX_SAME_BEGINNING, MAX_SOCKET,
    MAX_STRING_BYTES, MAX_STRINGS,
};
pub use log::{Log, MAX_LOG_FILE, SystemLog};
pub use metrics::{Listen, Metrics};
pub use model::{
    Action, Errno, Hold, Hook, Isolation, Lease, LeaseEnd, Mode, OnUnknown, Origin, Policy, Rule,
    Scope,
};
pub use schema::schema;
pub use selector::{Answer, Container, Group, PathPattern, Pattern, Selector, Selectors, User};
pub use words::Word;
pub(crate) use words::words;

use serde::{Deserialize, Serialize};

use diagnostic::Report;
use document::Section;

/// What a policy must know of the machine that it is for.
pub trait Host {
    /// The number of the user `name`, or `None` if there is no such user.
    ///
    /// # Errors
    ///
    /// Why the lookup itself failed, in words: then it is not known whether
    /// there is such a user.
    fn uid(&self, name: &str) -> Result<Option<u32>, String>;

    /// The same for the number of the group `name`.
    ///
    /// # Errors
    ///
    /// As for a user.
    fn gid(&self, name: &str) -> Result<Option<u32>, String>;

    /// Where the absolute `path` leads once its symbolic links are resolved; `None` if that cannot
    /// be said, as for a program that is not installed yet. The gate sees resolved paths only.
    fn resolve(&self, path: &str) -> Option<String>;

    /// The nodes that have cores, ascending by number, or `None` if the
    /// topology could not be read; then `cores` has no upper limit, and
    /// `scope` may name any node.
    fn nodes(&self) -> Option<&[HostNode]>;
}

/// A machine of which nothing is known: it has no users and groups, no links, and no topology that
/// could be read. For tests, here and in guests.
pub struct NoHost;

impl Host for NoHost {
    fn uid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(None)
    }

    fn gid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(None)
    }

    fn resolve(&self, _: &str) -> Option<String> {
        None
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        None
    }
}

/// A node of the machine that a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// The kernel's number of the node; numbers may have gaps.
    pub number: u32,
    /// Its cores with an online thread, at least 1.
    pub cores: u32,
}

/// One text of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What messages and origins call it: a file's path.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl Source {
    /// The source that is called `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// Reads the sources of one policy: its policy file, and its drop-ins in their order.
///
/// # Errors
///
/// All mistakes that could be found at once. Of a source that is not TOML, only
/// those that make it so.
pub fn parse(sources: &[Source], host: &dyn Host) -> Result<Policy, Errors> {
    let mut policy = Policy::default();
    let mut before = Before::default();
    let mut errors = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let mut report = Report::new(source);
        if let Some(document) = document::parse(&source.text, &mut report) {
            let sections = document::sections(&document, &mut report);
            let settings = [
                &sections.gate,
                &sections.log,
                &sections.metrics,
                &sections.companion,
            ];
            if index > 0 {
                for section in settings.into_iter().flatten() {
                    refuse(section, &mut report);
                }
            } else {
                if let Some(section) = &sections.gate {
                    gate::gate(section, &mut policy, &mut report);
                }
                if let Some(section) = &sections.log {
                    policy.log = log::log(section, &mut report);
                }
                if let Some(section) = &sections.metrics {
                    policy.metrics = metrics::metrics(section, &mut report);
                }
                if let Some(section) = &sections.companion {
                    policy.companion = companion::companion(section, &mut report);
                }
            }
            let rules = rules(&sections.rules, host, &mut before, &mut report);
            policy.rules.extend(rules);
        }
        errors.extend(report.finish());
    }
    if errors.is_empty() {
        Ok(policy)
    } else {
        Err(Errors(errors))
    }
}

/// What the rules so far have, in all sources.
#[derive(Default)]
struct Before {
    /// How many they are, the wrong ones too.
    rules: usize,
    names: rule::Names,
    room: limits::Room,
}

/// Whoever ships a drop-in must not decide whether anything is denied, nor who learns of it.
fn refuse(section: &Section<'_>, report: &mut Report<'_>) {
    let title = section.title;
    let message = format!("{title} stands in the policy file only, and this is a drop-in");
    let hint = "take it out, or move its keys to the policy file";
    report.error(section.at.clone(), message, hint);
}

fn rules(
    sections: &[Section<'_>],
    host: &dyn Host,
    before: &mut Before,
    report: &mut Report<'_>,
) -> Vec<Rule> {
    let fit = MAX_RULES.saturating_sub(before.rules);
    before.rules += sections.len();
    if let Some(first_too_many) = sections.get(fit) {
        let message = format!(
            "{} rules, and the gate's maps hold {MAX_RULES}",
            before.rules
        );
        let surplus = sections.len() - fit;
        let s = if surplus == 1 { "" } else { "s" };
        let hint = format!("remove {surplus} rule{s}; this is the first that does not fit");
        report.error(first_too_many.at.clone(), message, hint);
    }
    let mut rules = Vec::new();
    for section in sections.iter().take(fit) {
        let Some(rule) = rule::rule(section, host, &mut before.names, report) else {
            continue;
        };
        before.room.take(&rule.selectors, &section.at, report);
        rules.push(rule);
    }
    before.room.finish(report);
    rules
}

#[cfg(test)]
mod tests;
