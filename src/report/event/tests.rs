// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

/// As a gate wrote it.
pub(in crate::report) fn line() -> Value {
    json!({
        "time": "2026-03-01T12:00:00.250000Z",
        "id": 17,
        "verdict": "deny",
        "effect": "denied",
        "rule": "cache",
        "origin": "/etc/coregate/policy.toml:4",
        "hook": "exec",
        "pid": 117,
        "uid": 110,
        "gid": 111,
        "groups": [4, 112],
        "comm": "sh",
        "exe": "/usr/bin/redis-check-rdb",
        "argv": ["redis", "--port"],
        "parent": null,
        "unit": "redis.service",
        "cgroup": "/system.slice/redis.service/inner",
        "container": false,
        "cpu": 5,
        "node": 1,
        "cores_needed": 1,
        "scope": "node",
        "own_core": true,
        "cores_free": 0,
        "cores_claimed": 0,
        "source": "node",
        "errno": "EAGAIN",
        "mode": "enforce",
        "generation": 1,
        "suppressed": 0,
    })
}

#[test]
fn events_are_read_as_they_are_written() {
    let event: Event = serde_json::from_value(line()).unwrap();
    assert_eq!(serde_json::to_value(&event).unwrap(), line());

    let mut newer = line();
    newer["weather"] = json!("fine");
    newer["scope"] = json!([0, 2]);
    let newer: Event = serde_json::from_value(newer).unwrap();
    assert_eq!(newer.scope, Some(Scope::Nodes(vec![0, 2])));
    for (field, value) in [("time", "noon"), ("verdict", "no"), ("scope", "here")] {
        let mut wrong = line();
        wrong[field] = json!(value);
        let error = serde_json::from_value::<Event>(wrong).unwrap_err();
        assert!(error.to_string().contains(value), "{error}");
    }
}

#[test]
fn what_was_not_recorded_is_not_known() {
    let event: Event = serde_json::from_value(line()).unwrap();
    let launch = event.launch();
    assert_eq!(launch.parent, None);
    assert_eq!(launch.argv, Some(vec![&b"redis"[..], b"--port"]));
    assert_eq!(
        (launch.gid, launch.groups),
        (Some(111), Some(&[4, 112][..]))
    );
    for field in ["groups", "argv", "cgroup", "unit"] {
        let mut less = line();
        less[field] = Value::Null;
        let event: Event = serde_json::from_value(less).unwrap();
        let launch = event.launch();
        assert_eq!(launch.groups.is_none(), field == "groups");
        assert_eq!(launch.argv.is_none(), field == "argv");
        assert_eq!(launch.cgroup.is_none(), field == "cgroup");
    }
}

#[test]
fn units_by_cgroups() {
    for (cgroup, unit) in [
        ("/", None),
        ("/kubepods/pod1", None),
        ("/system.slice", Some("system.slice")),
        ("/system.slice/a@1.service", Some("a@1.service")),
        (
            "/system.slice/docker-1.scope/inner/x",
            Some("docker-1.scope"),
        ),
        ("/user.slice/user@7.service/app.slice", Some("app.slice")),
    ] {
        assert_eq!(unit_of(cgroup), unit, "{cgroup}");
    }
}
