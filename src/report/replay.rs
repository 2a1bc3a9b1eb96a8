// SPDX-License-Identifier: GPL-2.0-only
//! Recorded launches under another policy than the one that judged them.
//!
//! Each launch is judged by what its event says of it and of the cores at that moment. What other
//! launches would have come to is not gone into: the claims are those that there were.

use super::{Change, Changes, Event, Example, Fate, Outcome};
use crate::policy::{Action, Found, Policy, Rule, Scope, Selector, Verdict, effect, evaluate};

/// What `policy` would change of what became of the launches.
pub fn replay<'e>(policy: &Policy, events: impl IntoIterator<Item = &'e Event>) -> Changes {
    Changes::new(events.into_iter().map(|event| change(policy, event)))
}

fn change(policy: &Policy, event: &Event) -> Change {
    let (after, note) = match evaluate(policy, &event.launch()) {
        Found::Nothing => (outcome(None, Fate::Unmatched), None),
        Found::Rule(index) => under(policy, &policy.rules[index], event),
        Found::Unknown(index, selector) => (
            outcome(None, Fate::Unknown),
            Some(not_recorded(&policy.rules[index], selector)),
        ),
    };
    Change {
        before: outcome(Some(&event.rule), event.effect.into()),
        after,
        launches: 1,
        example: Some(Example {
            id: event.id,
            exe: event.exe.clone(),
            uid: event.uid,
        }),
        note,
    }
}

fn outcome(rule: Option<&str>, effect: Fate) -> Outcome {
    Outcome {
        rule: rule.map(str::to_owned),
        effect,
    }
}

/// What becomes of a launch that `rule` is for.
fn under(policy: &Policy, rule: &Rule, event: &Event) -> (Outcome, Option<String>) {
    if rule.action == Action::Exempt {
        return (outcome(Some(&rule.name), Fate::Exempt), None);
    }
    match verdict(rule, event) {
        Some(verdict) => {
            let effect = effect(rule, policy.mode, policy.on_unknown(), verdict);
            (outcome(Some(&rule.name), effect.into()), None)
        }
        None => (
            outcome(Some(&rule.name), Fate::Unknown),
            Some(elsewhere(rule)),
        ),
    }
}

fn not_recorded(rule: &Rule, selector: Selector) -> String {
    let why = match selector {
        Selector::Argv | Selector::Parent => {
            "It is recorded only where a rule for the program asks for it: rehearse the policy, or \
             record launches under one that does"
        }
        Selector::Cgroup | Selector::Unit => {
            "It is not recorded where the path of the cgroup is too long"
        }
        Selector::Group => "It is not recorded of a launch that has too many",
        _ => "The events do not have it",
    };
    format!(
        "Rule {:?} asks for `{selector}`, which was not recorded of some launches. {why}.",
        rule.name
    )
}

fn elsewhere(rule: &Rule) -> String {
    format!(
        "Rule {:?} does not look for its cores where the rule did that judged the launch (`scope` \
         and `own_core`), or needs more of them than were counted: rehearse the policy to know.",
        rule.name
    )
}

/// The verdict for a launch under `rule` by what was recorded; `None` if that does not tell it.
fn verdict(rule: &Rule, event: &Event) -> Option<Verdict> {
    if event.verdict == Verdict::Unknown {
        return Some(Verdict::Unknown);
    }
    let (least, most) = spare(rule, event);
    if least >= rule.cores {
        Some(Verdict::Admit)
    } else if most < rule.cores {
        Some(Verdict::Deny)
    } else {
        None
    }
}

/// At least and at most how many cores there were for `rule`: free, and owed to nobody.
fn spare(rule: &Rule, event: &Event) -> (u32, u32) {
    let (mut least, mut most) = counted(event);
    let own = (
        rule.own_core(event.hook),
        event.own_core.unwrap_or_default(),
    );
    match own {
        (true, false) => most = most.saturating_add(1),
        (false, true) => least = least.saturating_sub(1),
        _ => {}
    }
    match &event.scope {
        Some(scope) if *scope == rule.scope => {}
        Some(scope) if is_within(scope, &rule.scope, event.node) => most = u32::MAX,
        Some(scope) if is_within(&rule.scope, scope, event.node) => least = 0,
        _ => (least, most) = (0, u32::MAX),
    }
    (least, most)
}

/// How many there were for the rule that judged the launch.
fn counted(event: &Event) -> (u32, u32) {
    let admitted = event.verdict == Verdict::Admit;
    let spare = event.cores_free.saturating_sub(event.cores_claimed);
    if admitted != (spare >= event.cores_needed) {
        // The launch or a claim is confined to some CPUs: the numbers are not the whole truth.
        return match admitted {
            true => (event.cores_needed, u32::MAX),
            false => (0, event.cores_needed.saturating_sub(1)),
        };
    }
    // Of several nodes the gate looks at no more than it needs to.
    let all_were_seen = !admitted || event.scope == Some(Scope::Node);
    (spare, if all_were_seen { spare } else { u32::MAX })
}

/// Whether all cores of one scope are in the other one, for a launch from this node.
fn is_within(inner: &Scope, outer: &Scope, node: u32) -> bool {
    match (inner, outer) {
        (Scope::Node, Scope::Any) | (_, Scope::Spread) => true,
        (Scope::Node, Scope::Nodes(list)) => list.contains(&node),
        (Scope::Nodes(some), Scope::Nodes(more)) => some.iter().all(|node| more.contains(node)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
