// SPDX-License-Identifier: GPL-2.0-only
//! The reference evaluator: what the policy means, without a kernel. The gate
//! in the kernel is tested against it.

use super::selector::Answer;
use super::words::words;
use super::{Action, Errno, Hook, Mode, OnUnknown, Policy, Rule, Selector, Word};

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

/// What a rule can see of a launch. `None`: it is not known, as of a launch that was recorded for
/// a policy that did not ask for it. What the gate could not read is empty, and meets no selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch<'a> {
    /// What kind of launch it is.
    pub hook: Hook,
    /// A resolved path, from the launcher's root directory on. Of an exec, the file that was
    /// asked for: of a script, not of its interpreter. Of a fork or a new thread, the program
    /// that the launcher runs: of a script, its interpreter.
    pub exe: Option<&'a [u8]>,
    /// The path of the launcher's cgroup in the unified hierarchy, `/` for its root.
    pub cgroup: Option<&'a [u8]>,
    /// The names on that path that rules may ask for, where it is not known itself.
    pub units: Option<Vec<&'a [u8]>>,
    /// The effective user id of the launcher in the initial user namespace,
    /// before a set-user-id bit of the file takes effect.
    pub uid: Option<u32>,
    /// Its effective group id, likewise.
    pub gid: Option<u32>,
    /// Its supplementary ones.
    pub groups: Option<&'a [u32]>,
    /// Its name, `comm` of proc_pid_comm(5).
    pub comm: Option<&'a [u8]>,
    /// The arguments of an exec, as the launcher's memory has them.
    pub argv: Option<Vec<&'a [u8]>>,
    /// The program that the launcher runs: a path from its root directory on.
    pub parent: Option<&'a [u8]>,
    /// Whether it passes for a container's; see [`super::Container`].
    pub container: Option<bool>,
}

impl<'a> Launch<'a> {
    /// A launch of which nothing else is known.
    pub fn unknown(hook: Hook) -> Self {
        Self {
            hook,
            exe: None,
            cgroup: None,
            units: None,
            uid: None,
            gid: None,
            groups: None,
            comm: None,
            argv: None,
            parent: None,
            container: None,
        }
    }
}

/// What a policy has for a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Found {
    /// The rule with this index in `policy.rules`.
    Rule(usize),
    /// No rule: the launch is never touched.
    Nothing,
    /// That is not known: the rule with this index would match, but for what it asks for here.
    Unknown(usize, Selector),
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

/// What a rule as a whole says to a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// All its selectors are met.
    Met,
    /// This one, the first of its kind, is not.
    Missed(Selector),
    /// None is missed, and of this one it is not known.
    Unknown(Selector),
}

impl Said {
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Met => Answer::Met,
            Self::Missed(_) => Answer::Missed,
            Self::Unknown(_) => Answer::Unknown,
        }
    }
}

/// One rule that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Its index in `policy.rules`.
    pub(super) rule: usize,
    pub(super) said: Said,
}

impl Rule {
    fn say(&self, launch: &Launch<'_>) -> Said {
        let first = |sought: Answer| {
            let mut selectors = Selector::ALL.iter().copied();
            selectors.find(|selector| self.ask(*selector, launch) == sought)
        };
        match (first(Answer::Missed), first(Answer::Unknown)) {
            (Some(selector), _) => Said::Missed(selector),
            (None, Some(selector)) => Said::Unknown(selector),
            (None, None) => Said::Met,
        }
    }
}

/// The rules in file order up to the first that is not missed: that one decides.
pub(super) fn steps(policy: &Policy, launch: &Launch<'_>) -> impl Iterator<Item = Step> {
    let mut decided = false;
    let steps = policy.rules.iter().enumerate().map(|(rule, r)| Step {
        rule,
        said: r.say(launch),
    });
    steps.take_while(move |step| {
        let decides = !matches!(step.said, Said::Missed(_));
        !std::mem::replace(&mut decided, decides)
    })
}

/// What follows from the last of the steps.
pub(super) fn found(last: Option<Step>) -> Found {
    match last {
        Some(Step {
            rule,
            said: Said::Met,
        }) => Found::Rule(rule),
        Some(Step {
            rule,
            said: Said::Unknown(selector),
        }) => Found::Unknown(rule, selector),
        _ => Found::Nothing,
    }
}

/// The rule for this launch: the first, in file order, all of whose selectors match.
pub fn evaluate(policy: &Policy, launch: &Launch<'_>) -> Found {
    found(steps(policy, launch).last())
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
    let effect = effect(rule, mode, on_unknown, verdict);
    let errno = (effect == Effect::Denied).then_some(rule.errno());
    Decision {
        verdict,
        effect,
        errno,
    }
}

/// What becomes of a launch that `rule` matches, given the verdict.
pub fn effect(rule: &Rule, mode: Mode, on_unknown: OnUnknown, verdict: Verdict) -> Effect {
    let passes = match verdict {
        Verdict::Admit => true,
        Verdict::Deny => false,
        Verdict::Unknown => on_unknown == OnUnknown::Admit,
    };
    if passes {
        Effect::Admitted
    } else if mode == Mode::Enforce && rule.action == Action::Deny {
        Effect::Denied
    } else {
        Effect::Logged
    }
}

#[cfg(test)]
mod tests;
