// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A verdict of a user who tries to forge what others read.
pub(super) fn event() -> Event {
    let mut event = crate::report::event::tests::line();
    event["comm"] = json!("a\nb\"]' c");
    event["exe"] = json!("/usr/bin/redis-server");
    event["argv"] = Value::Null;
    event["cgroup"] = json!("/system.slice/redis.service");
    serde_json::from_value(event).unwrap()
}

fn to_file(path: &Path) -> Log {
    Log {
        system: SystemLog::None,
        file: Some(path.to_str().unwrap().into()),
        audit: false,
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn written(sinks: &Sinks, name: &str) -> u64 {
    let late = Instant::now() + Duration::from_secs(600);
    for sink in &sinks.active {
        sink.queue.finish(late);
    }
    let status = sinks.status();
    let sink = status.iter().find(|sink| sink.name == name);
    sink.map_or(0, |sink| sink.written)
}

#[test]
fn a_reload_keeps_the_counts_of_the_sinks_that_stay() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    let mut sinks = Sinks::new(&to_file(&first));
    sinks.event(&event());
    sinks.message(Severity::LOG_NOTICE, "not for a file");
    assert_eq!(written(&sinks, "file"), 1);

    sinks.apply(&to_file(&first));
    sinks.event(&event());
    assert_eq!(written(&sinks, "file"), 2);

    sinks.apply(&to_file(&second));
    sinks.event(&event());
    assert_eq!(written(&sinks, "file"), 1);
    assert_eq!(written(&sinks, "removed"), 2);
    assert_eq!((lines(&first).len(), lines(&second).len()), (2, 1));
    assert_eq!(lines(&second), [serde_json::to_value(event()).unwrap()]);
    sinks.apply(&Log {
        file: None,
        ..to_file(&first)
    });
    assert_eq!(written(&sinks, "removed"), 3);
    let status = sinks.status();
    assert_eq!(
        status
            .iter()
            .map(|sink| sink.name.as_str())
            .collect::<Vec<_>>(),
        ["stderr", "removed"]
    );
}

#[test]
fn what_is_lost_is_told_to_the_others_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut sinks = Sinks::new(&to_file(&dir.path().join("no/folder")));
    let messages = written(&sinks, "stderr");
    for _ in 0..3 {
        sinks.event(&event());
        assert_eq!(written(&sinks, "file"), 0);
    }
    sinks.message(Severity::LOG_NOTICE, "something else");
    assert_eq!(written(&sinks, "stderr"), messages + 2);
    let status = sinks.status();
    let file = status.iter().find(|sink| sink.name == "file").unwrap();
    assert_eq!(file.lost, 3);
    assert!(file.error.as_ref().unwrap().contains("No such file"));
}

#[test]
fn the_end_waits_for_the_last_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let mut sinks = Sinks::new(&to_file(&path));
    for _ in 0..500 {
        sinks.event(&event());
    }
    drop(sinks);
    assert_eq!(lines(&path).len(), 500);
}

#[test]
fn every_field_has_its_name_and_value() {
    let fields = event().fields();
    let value = |name: &str| {
        let field = fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    };
    assert_eq!(value("rule"), Some("cache"));
    assert_eq!(value("id"), Some("17"));
    assert_eq!(value("groups"), Some("[4,112]"));
    assert_eq!(value("comm"), Some("a\nb\"]' c"));
    assert_eq!(value("argv"), None);
    assert_eq!(value("container"), Some("false"));
}
