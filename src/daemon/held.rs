// SPDX-License-Identifier: GPL-2.0-only
//! What the daemon goes on knowing of a policy that is in the gate. A policy of 10,000 rules takes
//! some 30 MB, most of it for whom they match, which only the gate has to know from then on.

use std::ops::Deref;

use crate::policy::{Hook, Isolation, MAX_NAME, Origin, Policy, Rule, Scope};
use crate::raw;

/// A policy without its rules, and what is to be said of these.
pub(super) struct Held {
    /// It has no rules here.
    policy: Policy,
    /// In the order of the policy.
    pub(super) rules: Box<[HeldRule]>,
}

/// A rule as far as events and the status show it.
pub(super) struct HeldRule {
    /// In place: 10,000 pieces of memory would lie scattered over what the policy took, and keep it.
    name: [u8; MAX_NAME],
    /// Where it stands.
    pub(super) origin: Origin,
    /// Where its cores may lie.
    pub(super) scope: Scope,
    /// What the companion does for them.
    pub(super) isolation: Isolation,
    own_core: [bool; HOOKS.len()],
}

const HOOKS: [Hook; 3] = [Hook::Exec, Hook::Fork, Hook::Thread];

impl From<Policy> for Held {
    fn from(mut policy: Policy) -> Self {
        let rules = policy.rules.iter().map(HeldRule::from).collect();
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

impl From<&Rule> for HeldRule {
    fn from(rule: &Rule) -> Self {
        let mut name = [0; MAX_NAME];
        for (to, from) in name.iter_mut().zip(rule.name.bytes()) {
            *to = from;
        }
        Self {
            name,
            origin: rule.origin.clone(),
            scope: rule.scope.clone(),
            isolation: rule.isolation,
            own_core: HOOKS.map(|hook| rule.own_core(hook)),
        }
    }
}

impl HeldRule {
    /// What it is called.
    pub(super) fn name(&self) -> &str {
        let name = self.name.split(|byte| *byte == 0).next();
        // A name is ASCII, without NUL.
        name.and_then(|name| str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// Whether the launcher's own core counts as free for a launch of this kind.
    pub(super) fn own_core(&self, hook: Hook) -> bool {
        self.own_core[hook as usize]
    }
}

#[cfg(test)]
mod tests;
