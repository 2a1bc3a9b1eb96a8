// SPDX-License-Identifier: GPL-2.0-only
//! The policy: TOML → validated model → verdict of the reference evaluator.
//!
//! Nothing here reads a file, asks the system or knows of BPF, so the same
//! code answers in `check` and in the daemon, and on any machine.

#![forbid(unsafe_code)]

mod diagnostic;
mod document;
mod evaluate;
mod model;
mod rule;
mod selector;
mod words;

pub use diagnostic::{Diagnostic, Errors};
pub use document::{GATE_KEYS, RULE_KEYS};
pub use evaluate::{Decision, Effect, Idle, Launch, Verdict, evaluate, verdict};
pub use model::{
    Action, Errno, Hold, Hook, MAX_EXE, MAX_NAME, MAX_PAIRS, MAX_RULES, Mode, OnUnknown, Origin,
    Policy, Rule, Scope,
};
pub use selector::{Exe, Selectors, User};
pub use words::Word;
pub(crate) use words::words;

use diagnostic::Report;
use document::{Section, word};

/// What a policy must know of the machine that it is for.
pub trait Host {
    /// The number of the user `name`, or `None` if there is no such user.
    ///
    /// # Errors
    ///
    /// Why the lookup itself failed, in words: then it is not known whether
    /// there is such a user.
    fn uid(&self, name: &str) -> Result<Option<u32>, String>;

    /// Where the path `exe` leads once its symbolic links are resolved; `None` if that cannot
    /// be said, as for a program that is not installed yet. The gate sees resolved paths only.
    fn resolve(&self, exe: &str) -> Option<String>;

    /// The nodes that have cores, ascending by number, or `None` if the
    /// topology could not be read; then `cores` has no upper limit, and
    /// `scope` may name any node.
    fn nodes(&self) -> Option<&[HostNode]>;
}

/// A node of the machine that a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// The kernel's number of the node; numbers may have gaps.
    pub number: u32,
    /// Its cores with an online thread, at least 1.
    pub cores: u32,
}

/// Reads the policy `text`; `file` is what messages and origins call it.
///
/// # Errors
///
/// All mistakes that could be found at once. If the text is not TOML, only
/// those that make it so.
pub fn parse(file: &str, text: &str, host: &dyn Host) -> Result<Policy, Errors> {
    let mut report = Report::new(file, text);
    let Some(document) = document::parse(text, &mut report) else {
        return report.finish(Policy::default());
    };
    let (gate, sections) = document::sections(&document, &mut report);
    let mode = gate
        .as_ref()
        .map_or_else(Mode::default, |gate| word(gate, "mode", &mut report));
    let on_unknown = gate.as_ref().map_or_else(OnUnknown::default, |gate| {
        word(gate, "on_unknown", &mut report)
    });
    let rules = rules(&sections, host, &mut report);
    report.finish(Policy {
        mode,
        on_unknown,
        rules,
    })
}

fn rules(sections: &[Section<'_>], host: &dyn Host, report: &mut Report<'_>) -> Vec<Rule> {
    if let Some(first_too_many) = sections.get(MAX_RULES) {
        let message = format!(
            "{} rules, and the gate's maps hold {MAX_RULES}",
            sections.len()
        );
        let surplus = sections.len() - MAX_RULES;
        let s = if surplus == 1 { "" } else { "s" };
        let hint = format!("remove {surplus} rule{s}; this is the first that does not fit");
        report.error(first_too_many.at.clone(), message, hint);
    }
    let mut names = rule::Names::new();
    let mut pairs = 0;
    let mut rules = Vec::new();
    for section in sections.iter().take(MAX_RULES) {
        let Some(rule) = rule::rule(section, host, &mut names, report) else {
            continue;
        };
        let fitted = pairs <= MAX_PAIRS;
        pairs += rule.selectors.pairs();
        if fitted && pairs > MAX_PAIRS {
            let message = format!(
                "the rules up to this one name {pairs} pairs of a program and a user, and the \
                 gate's maps hold {MAX_PAIRS}"
            );
            let hint = "shorten the lists of `exe` and `user`";
            report.error(section.at.clone(), message, hint);
        }
        rules.push(rule);
    }
    rules
}

#[cfg(test)]
mod tests;
