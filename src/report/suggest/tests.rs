// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::event::tests::line;
use super::*;
use crate::policy::{Source, parse};
use crate::policy_file::ThisHost;

fn launch(exe: &str, unit: &str, pid: u32, verdict: &str) -> Event {
    let mut line = line();
    line["exe"] = exe.into();
    line["unit"] = unit.into();
    line["pid"] = pid.into();
    line["verdict"] = verdict.into();
    line["uid"] = 0.into();
    serde_json::from_value(line).unwrap()
}

/// What is written of these launches; processes from 1000 on still run.
fn policy(seen: &Seen) -> String {
    let text = seen.policy(&Watched {
        user: &|uid| (uid == 0).then(|| "root".into()),
        runs: &|pid, _| pid >= 1000,
        shells: BTreeSet::from(["/usr/bin/bash".into()]),
        time: "1m".into(),
        lost: 3,
    });
    if let Err(errors) = parse(&[Source::new("p", &text)], &ThisHost::new()) {
        panic!("{errors}\n{text}");
    }
    text
}

#[test]
fn a_policy_has_rules_for_what_stays() {
    let mut seen = Seen::default();
    for (exe, unit, pid, verdict) in [
        ("/opt/a\"b", "a.service", 1000, "deny"),
        ("/opt/a\"b", "a.service", 7, "admit"),
        ("/usr/bin/bash", "session-1.scope", 1001, "admit"),
        ("/opt/x\n*", "a\u{1}.service", 1002, "admit"),
        ("/usr/bin/ls", "session-1.scope", 8, "deny"),
        ("/usr/local/a\"b", "session-1.scope", 1003, "unknown"),
    ] {
        seen.add(&launch(exe, unit, pid, verdict));
    }
    let text = policy(&seen);
    let rules = text.split_once("mode = \"observe\"\n").unwrap().1;
    let expected = "
# By root in a.service: 2 launches, 1 of them without a free core, 1 still running.
[[rule]]
name = \"ab\"
exe = '/opt/a\"b'
user = \"root\"
unit = \"a.service\"

# By root: 1 launches, 0 of them without a free core, 1 still running.
[[rule]]
name = \"ab-2\"
exe = '/usr/local/a\"b'
user = \"root\"

# What follows most likely needs no core of its own. Take the \"#\" away where it does.

# By root: 1 launches, 0 of them without a free core, 1 still running; a rule cannot name it.
#[[rule]]
#name = \"x\"
#exe = \"/opt/x\\n*\"
#user = \"root\"

# By root: 1 launches, 0 of them without a free core, 1 still running; it is a shell.
#[[rule]]
#name = \"bash\"
#exe = \"/usr/bin/bash\"
#user = \"root\"

# By root: 1 launches, 1 of them without a free core, 0 still running; it does not stay.
#[[rule]]
#name = \"ls\"
#exe = \"/usr/bin/ls\"
#user = \"root\"
";
    assert_eq!(rules, expected);
    assert!(
        text.contains("by 6 launches that were seen in 1m.\n"),
        "{text}"
    );
    assert!(text.contains("# 3 more were not seen: "), "{text}");
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let mut seen = Seen::default();
    for number in 0..PROGRAMS + 5 {
        seen.add(&launch(&format!("/opt/{number}"), "a.service", 1, "admit"));
    }
    let text = policy(&seen);
    assert!(text.contains("# 5 of them are left out: "), "{text}");
    let more = PROGRAMS - ENDED_SHOWN;
    assert!(
        text.contains(&format!("# {more} more such programs are left out.\n")),
        "{text}"
    );
    assert!(policy(&Seen::default()).contains("# No program that was launched"));
}
