// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::policy::{NoHost, Reserve, Source, parse};
use crate::report;

fn policy(rule: &str) -> Policy {
    let text =
        format!("[gate]\nmode = \"enforce\"\n[[rule]]\nname = \"r\"\nexe = \"/a\"\n{rule}\n");
    parse(&[Source::new("p.toml", text)], &NoHost).unwrap()
}

/// Node 0 has one core left, node 2 three; three more are held, and their holders have them.
fn status() -> Status {
    let node = |node, free, owed| Node {
        node,
        cores: 8,
        free,
        claimed: 3,
        owed,
    };
    Status {
        mode: "enforce".into(),
        source: Some("node".into()),
        nodes: vec![node(0, 2, 1), node(2, 3, 0)],
        rules: vec![report::Rule {
            name: "r".into(),
            ..report::Rule::default()
        }],
        ..Status::default()
    }
}

fn said(rule: &str, status: &Status) -> (Vec<String>, String) {
    let policy = policy(rule);
    let rule = &policy.rules[0];
    let now = Now::of(&policy, rule, Hook::Exec, status);
    (now.lines(rule), now.conclusion(rule))
}

#[test]
fn each_node_says_for_itself() {
    let (lines, conclusion) = said("cores = 2", &status());
    let expected = [
        "On node 0: 2 free, 1 owed to claims: denied, or admitted if nothing else runs on the \
         core of the launcher.",
        "On node 2: 3 free, 0 owed to claims: admitted.",
    ];
    assert_eq!(lines, expected);
    assert_eq!(
        conclusion,
        "would be admitted now on node 2, and not on node 0"
    );
    assert_eq!(said("cores = 1", &status()).1, "would be admitted now");
    assert_eq!(said("cores = 4", &status()).1, "would be denied now");
    let log = "cores = 5\naction = \"log\"";
    assert_eq!(said(log, &status()).1, "would be logged now");
    let (lines, _) = said("cores = 2\nown_core = false", &status());
    assert_eq!(lines[0], "On node 0: 2 free, 1 owed to claims: denied.");
}

#[test]
fn scopes_take_nodes_together() {
    let conclusion = |cores: u32, scope: &str| {
        let (_, conclusion) = said(&format!("cores = {cores}\nscope = {scope}"), &status());
        conclusion
    };
    for (cores, scope, admitted) in [
        (3, "\"any\"", true),
        (4, "\"any\"", false),
        (4, "\"spread\"", true),
        (5, "\"spread\"", false),
        (1, "[0]", true),
        (3, "[0, 2]", true),
        (2, "[0]", false),
        (1, "[1]", false),
    ] {
        let now = conclusion(cores, scope);
        let is = now == "would be admitted now";
        assert_eq!(is, admitted, "{cores} of {scope}: {now}");
    }
}

/// Under the companion a node of 8 cores, of which 3 are held, has as many to give as it does not leave
/// open.
#[test]
fn what_the_companion_leaves_open_is_not_free() {
    let under = |ops: &str, rule: &str| {
        let status = Status {
            scheduler: Some(report::Scheduler {
                ops: ops.into(),
                ..report::Scheduler::default()
            }),
            ..status()
        };
        let mut policy = policy(rule);
        policy.companion.reserve = Reserve::Cores(4);
        Now::of(&policy, &policy.rules[0], Hook::Exec, &status).lines(&policy.rules[0])
    };
    let [kept, admitted] = [1, 3].map(|free| format!("On node 2: {free} free, 0 owed to claims: "));
    assert!(under(companion::NAME, "cores = 2")[1].starts_with(&(kept + "denied")));
    for (ops, rule) in [
        ("other", ""),
        (companion::NAME, "isolation = \"none\""),
        (companion::NAME, "hold = \"none\""),
    ] {
        assert_eq!(
            under(ops, rule)[1],
            format!("{admitted}admitted."),
            "{ops} {rule}"
        );
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let unknown = Status {
        source: None,
        ..status()
    };
    let (lines, conclusion) = said("cores = 1", &unknown);
    assert_eq!(
        lines[0],
        "On node 0: not known which cores are free: admitted."
    );
    assert_eq!(conclusion, "would get the verdict unknown now");
}

#[test]
fn another_policy_is_told() {
    let with = |mode: &str, rule: &str| {
        let mut status = status();
        status.mode = mode.into();
        status.rules[0].name = rule.into();
        status.generation = 7;
        said("cores = 1", &status).0.pop().unwrap()
    };
    let observing = "Note: the policy that holds now (generation 7) is in mode observe";
    assert_eq!(with("observe", "r"), observing);
    let others = "Note: the policy that holds now (generation 7) has other rules";
    assert_eq!(with("enforce", "s"), others);
    assert!(with("enforce", "r").starts_with("On node 2"));
}
