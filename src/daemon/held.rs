// SPDX-License-Identifier: GPL-2.0-only
//! What the daemon goes on knowing of a policy that is in the gate. A policy of 10,000 rules takes
//! some 30 MB, most of it for whom they match, which only the gate has to know from then on.

use std::ops::Deref;
use std::sync::Arc;

use crate::policy::{Hook, Isolation, Origin, Policy, Rule, Scope};
use crate::raw;

/// A policy without its rules, and what is to be said of these.
pub(super) struct Held {
    /// It has no rules here.
    policy: Policy,
    pub(super) rules: Rules,
}

/// Rules in the order of the policy. In few pieces of memory: 10,000 would lie scattered over what the
/// policy took, and keep it.
pub(super) struct Rules {
    /// Their names, one after the other.
    names: String,
    rows: Vec<Row>,
    /// What is the same of a rule and of the one before is here once.
    manners: Vec<Manner>,
}

struct Row {
    /// Where its name ends.
    name_end: u32,
    line: u32,
    manner: u32,
}

#[derive(PartialEq)]
struct Manner {
    file: Arc<str>,
    scope: Scope,
    isolation: Isolation,
    own_core: [bool; HOOKS.len()],
}

/// A rule as far as events and the status show it.
#[derive(Clone, Copy)]
pub(super) struct HeldRule<'a> {
    /// What it is called.
    pub(super) name: &'a str,
    line: u32,
    manner: &'a Manner,
}

const HOOKS: [Hook; 3] = [Hook::Exec, Hook::Fork, Hook::Thread];

impl From<Policy> for Held {
    fn from(mut policy: Policy) -> Self {
        let rules = Rules::from(&policy.rules[..]);
        policy.rules = Vec::new();
        raw::give_back_memory();
        Self { policy, rules }
    }
}

impl Deref for Held {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

impl From<&[Rule]> for Rules {
    fn from(rules: &[Rule]) -> Self {
        let mut held = Self {
            names: String::with_capacity(rules.iter().map(|rule| rule.name.len()).sum()),
            rows: Vec::with_capacity(rules.len()),
            manners: Vec::new(),
        };
        for rule in rules {
            let manner = Manner::from(rule);
            if held.manners.last() != Some(&manner) {
                held.manners.push(manner);
            }
            held.names.push_str(&rule.name);
            held.rows.push(Row {
                name_end: held.names.len() as u32,
                line: rule.origin.line as u32,
                manner: held.manners.len() as u32 - 1,
            });
        }
        held
    }
}

impl From<&Rule> for Manner {
    fn from(rule: &Rule) -> Self {
        Self {
            file: Arc::clone(&rule.origin.file),
            scope: rule.scope.clone(),
            isolation: rule.isolation,
            own_core: HOOKS.map(|hook| rule.own_core(hook)),
        }
    }
}

impl Rules {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rule with this number.
    pub(super) fn get(&self, number: usize) -> Option<HeldRule<'_>> {
        let row = self.rows.get(number)?;
        let before = number.checked_sub(1).map(|before| &self.rows[before]);
        let name_start = before.map_or(0, |row| row.name_end as usize);
        Some(HeldRule {
            name: &self.names[name_start..row.name_end as usize],
            line: row.line,
            manner: &self.manners[row.manner as usize],
        })
    }

    /// All.
    pub(super) fn iter(&self) -> impl Iterator<Item = HeldRule<'_>> {
        (0..self.len()).filter_map(|number| self.get(number))
    }
}

impl<'a> HeldRule<'a> {
    /// Where it stands.
    pub(super) fn origin(self) -> Origin {
        Origin {
            file: Arc::clone(&self.manner.file),
            line: self.line as usize,
        }
    }

    /// Where its cores may lie.
    pub(super) fn scope(self) -> &'a Scope {
        &self.manner.scope
    }

    /// What the companion does for them.
    pub(super) fn isolation(self) -> Isolation {
        self.manner.isolation
    }

    /// Whether the launcher's own core counts as free for a launch of this kind.
    pub(super) fn own_core(self, hook: Hook) -> bool {
        self.manner.own_core[hook as usize]
    }
}

#[cfg(test)]
mod tests;
