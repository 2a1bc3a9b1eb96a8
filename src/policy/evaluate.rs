// SPDX-License-Identifier: GPL-2.0-only
//! The reference evaluator: what the policy means, without a kernel. The gate
//! in the kernel is tested against it.

use super::words::words;
use super::{Action, Errno, Hook, Mode, OnUnknown, Policy, Rule};

words! {
    /// Whether the cores that a launch needs are there.
    #[must_use]
    pub enum Verdict {
        /// They are.
        Admit = "admit",
        /// They are not.
        Deny = "deny",
        /// Idleness could not be known.
        Unknown = "unknown",
    }
}

words! {
    /// What became of the launch.
    #[must_use]
    pub enum Effect {
        /// It started, and nothing was held against it.
        Admitted = "admitted",
        /// It failed with the rule's errno.
        Denied = "denied",
        /// It started, and that it should not have is logged.
        Logged = "logged",
    }
}

/// What a rule can see of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch<'a> {
    /// What kind of launch it is.
    pub hook: Hook,
    /// A resolved path. Of an exec, the file that was asked for: of a script,
    /// not of its interpreter. Of a fork or a new thread, the program that the
    /// launcher runs: of a script, its interpreter.
    pub exe: &'a [u8],
    /// The effective user id of the launcher in the initial user namespace,
    /// before a set-user-id bit of the file takes effect.
    pub uid: u32,
}

/// What is known of the cores in the rule's scope that a launch may use; of
/// `any`, those of the node on which most are left for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// The counts are the truth.
    Known {
        /// Cores all of whose online threads are idle, and the launcher's own
        /// if the rule counts it ([`Rule::own_core`]) and nothing else runs
        /// there.
        free: u32,
        /// How many of them earlier claims are still owed.
        claimed: u32,
    },
    /// No source could be trusted.
    Unknown,
}

/// The answer to one launch that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Whether the cores are there.
    pub verdict: Verdict,
    /// What becomes of the launch.
    pub effect: Effect,
    /// The error that the launcher sees: there if, and only if, the effect is
    /// [`Effect::Denied`].
    pub errno: Option<Errno>,
}

/// The index in `policy.rules` of the rule for this launch: the first, in file
/// order, all of whose selectors match.
pub fn evaluate(policy: &Policy, launch: &Launch<'_>) -> Option<usize> {
    policy.rules.iter().position(|rule| matches(rule, launch))
}

fn matches(rule: &Rule, launch: &Launch<'_>) -> bool {
    rule.on.contains(&launch.hook) && rule.selectors.meet(launch)
}

/// What `rule` says to a launch that it matches, given what is known of the
/// cores that the launch may use.
pub fn verdict(rule: &Rule, mode: Mode, on_unknown: OnUnknown, idle: Idle) -> Decision {
    let verdict = match idle {
        Idle::Unknown => Verdict::Unknown,
        Idle::Known { free, claimed } if free.saturating_sub(claimed) >= rule.cores => {
            Verdict::Admit
        }
        Idle::Known { .. } => Verdict::Deny,
    };
    let passes = match verdict {
        Verdict::Admit => true,
        Verdict::Deny => false,
        Verdict::Unknown => on_unknown == OnUnknown::Admit,
    };
    let effect = if passes {
        Effect::Admitted
    } else if mode == Mode::Enforce && rule.action == Action::Deny {
        Effect::Denied
    } else {
        Effect::Logged
    };
    let errno = (effect == Effect::Denied).then_some(rule.errno);
    Decision {
        verdict,
        effect,
        errno,
    }
}

#[cfg(test)]
mod tests;
