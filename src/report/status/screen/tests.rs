// SPDX-License-Identifier: GPL-2.0-only
use std::io::Write;

use anstream::StripStream;

use super::*;
use crate::report::{Events, Failures, Honour, Reload, Scheduler, Sink, Surroundings};

fn rule(name: &str) -> Rule {
    Rule {
        name: name.into(),
        origin: "/etc/coregate/policy.toml:5".into(),
        launches: 5210,
        admitted: 5100,
        denied: 110,
        claims: 1,
        honour: Honour {
            samples: 10_000,
            shared: 2,
            ..Honour::default()
        },
        isolation: "strict".into(),
        ..Rule::default()
    }
}

fn node(node: u32) -> Node {
    Node {
        node,
        cores: 32,
        free: 20,
        claimed: 3,
        owed: 1,
    }
}

/// A gate of which there is nothing to say.
fn sound() -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        mode: "enforce".into(),
        policy_mode: "enforce".into(),
        generation: 3,
        policy: "/etc/coregate".into(),
        hooks: 7,
        scheduler: Some(Scheduler {
            ops: "coregate".into(),
            per_node: true,
            tracking: true,
        }),
        source: Some("node".into()),
        nodes: vec![node(0), node(1)],
        rules: vec![rule("cache"), rule("trading")],
        events: Events {
            emitted: 5210,
            ..Events::default()
        },
        log: vec![Sink {
            name: "syslog".into(),
            place: "/dev/log".into(),
            written: 5210,
            ..Sink::default()
        }],
        ..Status::default()
    }
}

fn around() -> Surroundings {
    Surroundings {
        sched_ext: true,
        ..Surroundings::default()
    }
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut stripped = StripStream::new(Vec::new());
    stripped.write_all(text.as_bytes()).unwrap();
    String::from_utf8(stripped.into_inner()).unwrap()
}

fn shown(status: &Status, width: usize, height: usize) -> String {
    let room = Room {
        width: Some(width),
        height: Some(height),
    };
    let text = plain(&status.screen(&status.concerns(&around()), room));
    for line in text.lines() {
        assert!(line.chars().count() <= width, "{line:?}\n{text}");
        assert_eq!(line, line.trim_end(), "{text}");
    }
    text
}

#[test]
fn a_sound_gate_is_one_screen_without_concerns() {
    assert_eq!(
        shown(&sound(), 80, 24),
        "\
coregate 0.1.0  enforce  generation 3, 2 rules  40 of 64 cores free

policy     /etc/coregate
scheduler  coregate, an idle mask for each node
source     node; 7 hooks
events     5210 emitted, 0 suppressed, 0 lost
log        syslog /dev/log: 5210 written, 0 lost, 0 waiting

node  cores  free  claimed  owed
   0     32    20        3     1
   1     32    20        3     1

rule     launches  admitted  denied  would deny  unknown  claims  honoured
cache        5210      5100     110           0        0       1    99.98%
trading      5210      5100     110           0        0       1    99.98%
"
    );
}

#[test]
fn a_wide_terminal_shows_where_rules_stand() {
    let text = shown(&sound(), 120, 24);
    assert!(
        text.contains("99.98%  /etc/coregate/policy.toml:5\n"),
        "{text}"
    );
    // Nobody said how much room there is.
    let text = plain(&sound().screen(&[], Room::default()));
    assert!(
        text.contains("99.98%  /etc/coregate/policy.toml:5\n"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_comes_first_with_what_mends_it() {
    let mut status = sound();
    status.mode = "observe".into();
    status.policy_mode = "observe".into();
    status.rules[0].would_deny = 4;
    status.scheduler = None;
    status.failures = Failures {
        claims_full: 9,
        log_lines_lost: 38,
        ..Failures::default()
    };
    status.log[0] = Sink {
        name: "file".into(),
        place: "/var/log/coregate/events.json".into(),
        written: 5210,
        lost: 38,
        error: Some("No space left on device (os error 28)".into()),
        ..Sink::default()
    };
    status.reload = Some(Reload {
        time: "2026-03-01T12:00:00Z".into(),
        error: Some("/etc/coregate/policy.toml:7:1: unknown key `mod`".into()),
    });
    let text = shown(&status, 80, 40);
    let expected = "
wrong      the policy was refused at 2026-03-01T12:00:00Z, and generation 3
           stays: /etc/coregate/policy.toml:7:1: unknown key `mod`
           coregate check /etc/coregate; coregate reload
wrong      the log file /var/log/coregate/events.json has lost 38 lines: No
           space left on device (os error 28)
           df -h /var/log/coregate; ls -ld /var/log/coregate
wrong      9 launches found all claims in use: the verdict is `unknown`
           journalctl -u coregate -p err
note       mode observe: nothing is denied; 4 launches would have been in mode
           enforce
           coregate mode enforce --confirm 5m
note       no sched_ext scheduler is loaded: nothing keeps the cores whole that
           programs hold
           systemctl enable --now coregate-companion

policy     ";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn each_concern_is_told_when_it_is_one_and_not_else() {
    type Change = fn(&mut Status);
    let cases: &[(Change, &str)] = &[
        (|status| status.source = None, "coregate doctor"),
        (
            |status| status.version = "0.0.9".into(),
            "systemctl restart",
        ),
        (|status| status.failures.unattended = 2, "journalctl"),
        (|status| status.failures.clients_refused = 2, "journalctl"),
        (
            |status| status.order = Some("observe; by root at 2026: \"x\"".into()),
            "coregate mode policy",
        ),
        (|status| status.rules[1].unknown = 2, "verdict=unknown"),
        (|status| status.rules.clear(), "$EDITOR /etc/coregate"),
        (|status| status.rules[0].honour.shared = 200, "taskset"),
        (
            |status| status.scheduler.as_mut().unwrap().ops = "bpfland".into(),
            "stop it",
        ),
        (
            |status| status.rehearsal = Some(Default::default()),
            "promote",
        ),
    ];
    assert_eq!(sound().concerns(&around()), []);
    for (change, mend) in cases {
        let mut status = sound();
        change(&mut status);
        let concerns = status.concerns(&around());
        assert_eq!(concerns.len(), 1, "{mend}: {concerns:?}");
        assert!(concerns[0].mend.contains(mend), "{concerns:?}");
    }
}

#[test]
fn long_names_and_large_numbers_stay_within_the_width() {
    let mut status = sound();
    status.rules[0].name = "n".repeat(63);
    status.rules[0].origin = format!("/etc/coregate/policy.d/{}.toml:1234", "f".repeat(50));
    status.rules[1].launches = u64::MAX;
    status.rules[1].denied = u64::MAX;
    status.policy = format!("/etc/{}", "p".repeat(200));
    for width in [80, 100, 120, 200] {
        let text = shown(&status, width, 24);
        assert!(
            text.contains("nnn") && text.contains("18446744073709551615"),
            "{text}"
        );
    }
}

#[test]
fn many_rules_and_nodes_stay_on_one_screen() {
    let mut status = sound();
    status.nodes = (0..64).map(node).collect();
    status.rules = (0..10_000).map(|n| rule(&format!("rule-{n}"))).collect();
    for rule in &mut status.rules {
        rule.denied = 0;
    }
    status.rules[5000].denied = 1;
    for (width, height) in [(80, 24), (120, 40), (200, 50)] {
        let text = shown(&status, width, height);
        assert!(text.lines().count() < height, "{width} {text}");
        assert!(
            text.contains("rule-5000") && text.contains("more rules"),
            "{text}"
        );
        let shows_last = text
            .lines()
            .any(|line| line.ends_with("63     32    20        3     1"));
        assert_eq!(shows_last, !text.contains("more nodes"), "{text}");
    }
    let all = plain(&status.screen(&[], Room::default()));
    assert!(all.lines().count() > 10_064 && all.contains("rule-9999"));
}

/// Lines of a terminal that is too narrow are cut by it; nothing else comes of it.
#[test]
fn any_size_is_shown() {
    let mut status = sound();
    status.nodes = (0..8).map(node).collect();
    status.rules = (0..8).map(|n| rule(&format!("rule-{n}"))).collect();
    let concerns = status.concerns(&around());
    for (width, height) in (0..100).flat_map(|width| (0..30).map(move |height| (width, height))) {
        let room = Room {
            width: Some(width),
            height: Some(height),
        };
        let text = plain(&status.screen(&concerns, room));
        assert!(text.contains("rule-0"), "{width} {height} {text}");
    }
}
