// SPDX-License-Identifier: GPL-2.0-only
//! Whether a launch would be admitted now, by what the daemon says of the nodes.

use serde::Serialize;

use crate::companion;
use crate::daemon::{self, Question};
use crate::policy::{Action, Effect, Hook, Idle, Policy, Rule, Scope, Verdict, verdict};
use crate::report::{Node, Status};

/// How a launch would fare now.
#[derive(Serialize)]
pub(super) struct Now {
    /// Where its cores may lie; of scope `node`, by the node that it comes from.
    places: Vec<Place>,
    /// How the daemon's policy differs from the one that was asked.
    other_policy: Option<String>,
}

/// Nodes that are looked at together, and what comes of it.
#[derive(Serialize)]
struct Place {
    nodes: Vec<u32>,
    free: u32,
    owed: u32,
    verdict: Verdict,
    effect: Effect,
    /// Whether it would be admitted if nothing else ran on the core of the launcher, which is not
    /// among the free ones.
    admitted_by_own_core: bool,
}

impl Now {
    /// Asks the daemon.
    ///
    /// # Errors
    ///
    /// There is none, or it does not answer.
    pub(super) fn ask(policy: &Policy, rule: &Rule, hook: Hook) -> anyhow::Result<Self> {
        let status = daemon::ask(&Question::Status)?;
        Ok(Self::of(policy, rule, hook, &status))
    }

    fn of(policy: &Policy, rule: &Rule, hook: Hook, status: &Status) -> Self {
        let places = match &rule.scope {
            _ if rule.action == Action::Exempt => Vec::new(),
            Scope::Node | Scope::Any => status
                .nodes
                .chunks(1)
                .map(|node| node.iter().collect())
                .collect(),
            Scope::Spread => vec![status.nodes.iter().collect()],
            Scope::Nodes(list) => {
                let nodes = status.nodes.iter();
                vec![nodes.filter(|node| list.contains(&node.node)).collect()]
            }
        };
        let place = |nodes: Vec<&Node>| Place::of(policy, rule, hook, &nodes, status);
        Self {
            places: places.into_iter().map(place).collect(),
            other_policy: other_policy(policy, status),
        }
    }

    /// In sentences.
    pub(super) fn lines(&self, rule: &Rule) -> Vec<String> {
        let mut lines: Vec<_> = self.places.iter().map(Place::line).collect();
        if rule.scope == Scope::Any && self.places.len() > 1 {
            lines.push("One of these nodes is enough.".into());
        }
        lines.extend(self.other_policy.iter().map(|how| format!("Note: {how}")));
        lines
    }

    /// Where the launch would be admitted, and where not, in one sentence's end.
    pub(super) fn conclusion(&self, rule: &Rule) -> String {
        let by = |verdict: Verdict| {
            let places = self
                .places
                .iter()
                .filter(move |place| place.verdict == verdict);
            places.map(Place::name).collect::<Vec<_>>()
        };
        let (good, bad, unknown) = (by(Verdict::Admit), by(Verdict::Deny), by(Verdict::Unknown));
        let all = self.places.len();
        if all > 0 && (good.len() == all || (rule.scope == Scope::Any && !good.is_empty())) {
            return "would be admitted now".into();
        }
        if good.is_empty() && unknown.is_empty() {
            return match self.places.first() {
                Some(place) => format!("would be {} now", place.effect),
                None => "would find no core now".into(),
            };
        }
        if !unknown.is_empty() {
            return "would get the verdict unknown now".into();
        }
        format!(
            "would be admitted now on {}, and not on {}",
            good.join(" and "),
            bad.join(" and ")
        )
    }
}

impl Place {
    fn of(policy: &Policy, rule: &Rule, hook: Hook, nodes: &[&Node], status: &Status) -> Self {
        let can_hold = |node: &Node| match &status.scheduler {
            Some(scheduler) if scheduler.ops == companion::NAME && rule.is_isolated() => {
                let open = policy.companion.reserve.cores(node.cores as usize) as u32;
                node.cores.saturating_sub(open + node.claimed)
            }
            _ => u32::MAX,
        };
        let free = nodes.iter().map(|node| node.free.min(can_hold(node))).sum();
        let owed = nodes.iter().map(|node| node.owed).sum();
        let decide = |free| {
            let idle = match status.source.is_some() {
                true => Idle::Known {
                    free,
                    claimed: owed,
                },
                false => Idle::Unknown,
            };
            verdict(rule, policy.mode, policy.on_unknown(), idle)
        };
        let now = decide(free);
        Self {
            nodes: nodes.iter().map(|node| node.node).collect(),
            free,
            owed,
            verdict: now.verdict,
            effect: now.effect,
            admitted_by_own_core: now.verdict == Verdict::Deny
                && rule.own_core(hook)
                && decide(free.saturating_add(1)).verdict == Verdict::Admit,
        }
    }

    fn name(&self) -> String {
        let numbers: Vec<_> = self.nodes.iter().map(ToString::to_string).collect();
        match self.nodes.len() {
            1 => format!("node {}", numbers[0]),
            _ => format!("nodes {}", numbers.join(", ")),
        }
    }

    fn line(&self) -> String {
        let own = if self.admitted_by_own_core {
            ", or admitted if nothing else runs on the core of the launcher"
        } else {
            ""
        };
        let (free, owed, effect) = (self.free, self.owed, self.effect);
        match self.verdict {
            Verdict::Unknown => format!(
                "On {}: not known which cores are free: {effect}.",
                self.name()
            ),
            _ => format!(
                "On {}: {free} free, {owed} owed to claims: {effect}{own}.",
                self.name()
            ),
        }
    }
}

fn other_policy(policy: &Policy, status: &Status) -> Option<String> {
    let running: Vec<_> = status.rules.iter().map(|rule| rule.name.as_str()).collect();
    let asked: Vec<_> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    let what = if running != asked {
        "has other rules".into()
    } else if status.mode != policy.mode.to_string() {
        format!("is in mode {}", status.mode)
    } else {
        return None;
    };
    let generation = status.generation;
    Some(format!(
        "the policy that holds now (generation {generation}) {what}"
    ))
}

#[cfg(test)]
mod tests;
