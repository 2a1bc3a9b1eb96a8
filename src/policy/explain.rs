// SPDX-License-Identifier: GPL-2.0-only
//! Why a launch has the rule that it has: what the rules up to that one say to it, selector by
//! selector.

use std::collections::HashSet;

use serde::Serialize;

use super::evaluate::{Found, Launch, Said, Step, found, steps};
use super::{ARGV_LOOKED_AT, Answer, Container, PathPattern, Policy, Rule, Selector, Word};

/// How many of the rules that were passed over are shown.
const SHOWN: usize = 8;

/// The way to the rule of a launch.
pub struct Explanation<'a> {
    policy: &'a Policy,
    launch: &'a Launch<'a>,
    steps: Vec<Step>,
}

/// What a rule says to the launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSays {
    /// Its name.
    pub rule: String,
    /// Where it stands: file:line.
    pub origin: String,
    /// What it says as a whole.
    pub answer: Answer,
    /// What each selector says that it has; what kinds of launches it watches comes first.
    pub selectors: Vec<SelectorSays>,
}

/// What one selector says to the launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelectorSays {
    /// Its key.
    pub selector: Selector,
    /// Whether it is met.
    pub answer: Answer,
    /// What it asks for: one of these; of `argv`, all.
    pub asks: Vec<String>,
    /// What the launch has; `None` if that is not known.
    pub has: Option<Vec<String>>,
}

/// What is known of a launch, by the selector that asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Its key.
    pub selector: Selector,
    /// `None` if it is not known.
    pub has: Option<Vec<String>>,
}

/// Rules that were passed over for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// The first of their selectors that is not met.
    pub selector: Selector,
    /// How many they are.
    pub rules: usize,
}

/// Says how `policy` comes to what [`super::evaluate()`] finds for `launch`.
pub fn explain<'a>(policy: &'a Policy, launch: &'a Launch<'a>) -> Explanation<'a> {
    Explanation {
        policy,
        launch,
        steps: steps(policy, launch).collect(),
    }
}

impl Explanation<'_> {
    /// The rule for the launch.
    pub fn found(&self) -> Found {
        found(self.steps.last().copied())
    }

    /// What is known of the launch.
    pub fn launch(&self) -> Vec<Fact> {
        let facts = Selector::ALL.iter().map(|selector| Fact {
            selector: *selector,
            has: has(self.launch, *selector),
        });
        facts.collect()
    }

    /// How many rules stand behind the one that decides.
    pub fn not_looked_at(&self) -> usize {
        self.policy.rules.len() - self.steps.len()
    }

    /// What the rules that were looked at say: all of them, or only the one that decides and those
    /// that are about this program or place; if there are none, those that came nearest.
    pub fn rules(&self, all: bool) -> Vec<RuleSays> {
        let shown = self.shown(all);
        shown.iter().map(|step| self.says(step)).collect()
    }

    /// Why the others were passed over, the most frequent reason first.
    pub fn others(&self, all: bool) -> Vec<PassedOver> {
        let shown: HashSet<_> = self.shown(all).iter().map(|step| step.rule).collect();
        let mut others: Vec<PassedOver> = Vec::new();
        for step in &self.steps {
            let Said::Missed(selector) = step.said else {
                continue;
            };
            if shown.contains(&step.rule) {
                continue;
            }
            match others.iter_mut().find(|other| other.selector == selector) {
                Some(other) => other.rules += 1,
                None => others.push(PassedOver { selector, rules: 1 }),
            }
        }
        others.sort_by_key(|other| std::cmp::Reverse(other.rules));
        others
    }

    fn shown(&self, all: bool) -> Vec<Step> {
        if all {
            return self.steps.clone();
        }
        let (passed_over, decides): (Vec<Step>, Vec<_>) = self
            .steps
            .iter()
            .partition(|step| matches!(step.said, Said::Missed(_)));
        let mut near: Vec<_> = passed_over
            .iter()
            .map(|step| (self.far(*step), step))
            .collect();
        // Of those that are as near, the ones that come first.
        near.sort_by_key(|(far, _)| *far);
        let least = near.first().map(|(far, _)| *far);
        let mut shown: Vec<_> = near
            .into_iter()
            .filter(|(far, _)| !far.0 || (decides.is_empty() && Some(*far) == least))
            .take(SHOWN)
            .map(|(_, step)| *step)
            .collect();
        shown.sort_by_key(|step| step.rule);
        shown.extend(decides);
        shown
    }

    /// How far a rule is from the launch: whether it is about another program and place, and how
    /// many selectors are not met.
    fn far(&self, step: Step) -> (bool, usize) {
        let rule = &self.policy.rules[step.rule];
        let said = |selector: &Selector| rule.ask(*selector, self.launch);
        let about = [Selector::Exe, Selector::Unit, Selector::Cgroup]
            .iter()
            .any(|selector| !asks(rule, *selector).is_empty() && said(selector) == Answer::Met);
        let missed = Selector::ALL
            .iter()
            .filter(|selector| said(selector) == Answer::Missed);
        (!about, missed.count())
    }

    fn says(&self, step: &Step) -> RuleSays {
        let rule = &self.policy.rules[step.rule];
        let selectors = Selector::ALL.iter().map(|selector| SelectorSays {
            selector: *selector,
            answer: rule.ask(*selector, self.launch),
            asks: asks(rule, *selector),
            has: has(self.launch, *selector),
        });
        RuleSays {
            rule: rule.name.clone(),
            origin: rule.origin.to_string(),
            answer: step.said.answer(),
            selectors: selectors.filter(|says| !says.asks.is_empty()).collect(),
        }
    }
}

/// What a selector of a rule asks for; nothing if it is not given.
fn asks(rule: &Rule, selector: Selector) -> Vec<String> {
    let s = &rule.selectors;
    let id = |id: u32, name: &Option<String>| match name {
        Some(name) => format!("{id} ({name})"),
        None => id.to_string(),
    };
    match selector {
        Selector::On => words(&rule.on),
        Selector::Exe => paths(&s.exe),
        Selector::Unit => s.unit.iter().map(ToString::to_string).collect(),
        Selector::Cgroup => s.cgroup.clone(),
        Selector::User => s.user.iter().map(|user| id(user.uid, &user.name)).collect(),
        Selector::Group => s
            .group
            .iter()
            .map(|group| id(group.gid, &group.name))
            .collect(),
        Selector::Comm => s.comm.clone(),
        Selector::Argv => s.argv.clone(),
        Selector::Parent => paths(&s.parent),
        Selector::Container => match s.container {
            Container::Any => Vec::new(),
            Container::Host => vec!["host".into()],
            Container::Only => vec!["container".into()],
        },
    }
}

fn words<T: Word>(list: &[T]) -> Vec<String> {
    list.iter().map(|value| value.word().into()).collect()
}

/// As the policy has them, and where links lead.
fn paths(patterns: &[PathPattern]) -> Vec<String> {
    let path = |pattern: &PathPattern| {
        let resolved = pattern.resolved.to_string();
        match resolved == pattern.text {
            true => resolved,
            false => format!("{} -> {resolved}", pattern.text),
        }
    };
    patterns.iter().map(path).collect()
}

/// What is known of what a selector asks for.
fn has(launch: &Launch<'_>, selector: Selector) -> Option<Vec<String>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = |bytes: Option<&[u8]>| bytes.map(|bytes| vec![text(bytes)]);
    match selector {
        Selector::On => Some(words(&[launch.hook])),
        Selector::Exe => one(launch.exe),
        Selector::Unit => Some(launch.names()?.map(text).collect()),
        Selector::Cgroup => one(launch.cgroup),
        Selector::User => launch.uid.map(|uid| vec![uid.to_string()]),
        Selector::Group => {
            let known = launch.gid.is_some() || launch.groups.is_some();
            let all = launch.gid.iter().chain(launch.groups.unwrap_or_default());
            known.then(|| all.map(ToString::to_string).collect())
        }
        Selector::Comm => one(launch.comm),
        Selector::Argv => {
            let first = launch.argv.as_ref()?.iter().take(ARGV_LOOKED_AT);
            Some(first.map(|arg| text(arg)).collect())
        }
        Selector::Parent => one(launch.parent),
        Selector::Container => launch.container.map(|inside| {
            let place = if inside { "container" } else { "host" };
            vec![place.into()]
        }),
    }
}

#[cfg(test)]
mod tests;
