// SPDX-License-Identifier: GPL-2.0-only
use std::time::Duration;

use super::*;
use crate::report::docs;

#[test]
fn the_operations_manual_has_the_table() {
    let rows: Vec<_> = Failures::TABLE
        .iter()
        .map(
            |Failure {
                 name, words, then, ..
             }| format!("| `{name}` | {words} | {then} |\n"),
        )
        .collect();
    docs::hold(
        "docs/operations.md",
        "| failure | what happened | what comes of it |",
        &rows,
    );
}

#[test]
fn every_count_is_that_of_its_name() {
    for (number, failure) in (1..).zip(Failures::TABLE) {
        let json = serde_json::json!({failure.name: number});
        let mut all = serde_json::to_value(Failures::default()).expect("JSON");
        all[failure.name] = json[failure.name].clone();
        let failures = serde_json::from_value(all).expect("failures");
        assert_eq!((failure.count)(&failures), number, "{}", failure.name);
    }
}

#[test]
fn what_goes_on_is_told_once_a_minute() {
    let (mut told, start) = (Told::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut failures = Failures::default();
    assert!(told.news(&failures, at(0)).is_empty());
    failures.events_lost = 3;
    let line = "failure events_lost: 3 more events found the ring buffer full (3 in all): \
                the launch is counted, and not logged";
    assert_eq!(told.news(&failures, at(0)), [line]);
    failures.events_lost = 5;
    failures.claims_full = 1;
    let lines = told.news(&failures, at(59));
    assert!(lines.len() == 1 && lines[0].starts_with("failure claims_full: 1 more "));
    let lines = told.news(&failures, at(60));
    assert!(lines.len() == 1 && lines[0].starts_with("failure events_lost: 2 more "));
    assert!(told.news(&failures, at(200)).is_empty());
}
