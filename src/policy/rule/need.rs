// SPDX-License-Identifier: GPL-2.0-only
//! What a launch needs: how many free cores, and where.

use std::collections::BTreeSet;

use toml::de::DeValue;

use crate::policy::diagnostic::Report;
use crate::policy::document::{Section, Value, any_of, article, choose, integer, list};
use crate::policy::{Host, HostNode, Rule, Scope};

const NODES_HINT: &str = "write node numbers, such as scope = [0, 2]";

/// Reads `cores` and `scope`. `None`: they are wrong, and the report says how.
pub(super) fn need(
    section: &Section<'_>,
    host: &dyn Host,
    report: &mut Report<'_>,
) -> Option<(u32, Scope)> {
    let nodes = host.nodes();
    let scope = match section.get("scope") {
        Some(value) => scope(value, nodes, report),
        None => Some(Scope::default()),
    };
    let cores = match section.get("cores") {
        // What a wrong scope would have is not known.
        Some(value) => cores(value, scope.as_ref().zip(nodes), report),
        None => Some(Rule::DEFAULT_CORES),
    };
    Some((cores?, scope?))
}

fn scope(value: &Value<'_>, nodes: Option<&[HostNode]>, report: &mut Report<'_>) -> Option<Scope> {
    let words = any_of(Scope::WORDS);
    let choice = format!("`scope` is {words}, or a list of node numbers such as [0, 2]");
    match value.get_ref() {
        DeValue::Array(_) => node_list(value, nodes, report).map(Scope::Nodes),
        DeValue::String(_) => choose("`scope`", value, Scope::WORDS, &choice, report),
        _ => {
            let message = format!(
                "`scope` needs a word or a list, and this is {}",
                article(value)
            );
            report.error(value.span(), message, choice);
            None
        }
    }
}

fn node_list(
    value: &Value<'_>,
    nodes: Option<&[HostNode]>,
    report: &mut Report<'_>,
) -> Option<Vec<u32>> {
    let entries = list("scope", value, NODES_HINT, report)?;
    let mut numbers = BTreeSet::new();
    for entry in entries {
        let Some(number) = node(entry, nodes, report) else {
            continue;
        };
        if !numbers.insert(number) {
            let message = format!("`scope` has node {number} twice");
            report.error(entry.span(), message, "take one of them out");
        }
    }
    // What was wrong, or there before, is missing.
    (numbers.len() == entries.len()).then(|| numbers.into_iter().collect())
}

fn node(entry: &Value<'_>, nodes: Option<&[HostNode]>, report: &mut Report<'_>) -> Option<u32> {
    let given = integer("an entry of `scope`", entry, NODES_HINT, report)?;
    let number = u32::try_from(given).ok();
    let Some(nodes) = nodes else {
        if number.is_none() {
            let message = format!("no machine has a node {given}");
            report.error(entry.span(), message, "see the nodes in lscpu(1)");
        }
        return number;
    };
    let numbers = nodes.iter().map(|node| node.number);
    let found = number.filter(|number| numbers.clone().any(|other| other == *number));
    if found.is_none() {
        let message = format!("this machine has no node {given} with an online CPU");
        let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
        let hint = format!("choose from those that it has: {}", numbers.join(", "));
        report.error(entry.span(), message, hint);
    }
    found
}

/// `limit`: what the number is held against, if that is known.
fn cores(
    value: &Value<'_>,
    limit: Option<(&Scope, &[HostNode])>,
    report: &mut Report<'_>,
) -> Option<u32> {
    let hint = "write a number without quotes: cores = 1";
    let number = integer("`cores`", value, hint, report)?;
    if number < 1 {
        let message = format!("`cores` is {number}, and a launch needs at least one core");
        let hint = "write cores = 1, or remove the rule if nothing is to be checked";
        report.error(value.span(), message, hint);
        return None;
    }
    let most = limit.map_or(u32::MAX, |(scope, nodes)| scope.most_cores(nodes));
    let cores = u32::try_from(number).ok().filter(|cores| *cores <= most);
    if cores.is_none() {
        let (reason, hint) = match limit {
            Some((scope, nodes)) => too_few(number, scope, nodes),
            None => (
                "no machine has so many".into(),
                format!("write a number from 1 to {most}"),
            ),
        };
        let message = format!("`cores` is {number}, and {reason}");
        report.error(value.span(), message, hint);
    }
    cores
}

/// Why that many cores are never there in this scope, and what to do about it.
fn too_few(wanted: i128, scope: &Scope, nodes: &[HostNode]) -> (String, String) {
    let most = scope.most_cores(nodes);
    let has = match scope {
        Scope::Node | Scope::Any => "the largest node of this machine has",
        Scope::Spread => "this machine has",
        Scope::Nodes(_) => "the nodes in `scope` have",
    };
    let mut hint = format!("write a number from 1 to {most}");
    let all = Scope::Spread.most_cores(nodes);
    if wanted <= all.into() {
        hint += &format!(", or scope = \"spread\": all nodes together have {all}");
    }
    (
        format!("{has} {most}: no launch could ever be admitted"),
        hint,
    )
}
