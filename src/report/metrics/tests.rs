// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::report::{Node, Reload, Reloads, Scheduler, docs};

fn status() -> Status {
    Status {
        version: "1.2.3".into(),
        mode: "enforce".into(),
        generation: 4,
        hooks: 7,
        scheduler: Some(Scheduler {
            ops: "od\\d \"name\"\n".into(),
            per_node: true,
            tracking: false,
        }),
        source: Some("flat".into()),
        nodes: vec![Node {
            node: 2,
            cores: 4,
            free: 3,
            claimed: 1,
            owed: 0,
        }],
        rules: vec![Rule {
            name: "cache".into(),
            launches: 1 << 60,
            denied: 5,
            suppressed: 3,
            ..Rule::default()
        }],
        reload: Some(Reload {
            time: "1970-01-02T00:00:00Z".into(),
            error: Some("no".into()),
        }),
        reloads: Reloads {
            done: 1,
            refused: 2,
        },
        failures: Failures {
            claims_full: 9,
            ..Failures::default()
        },
        ..Status::default()
    }
}

#[test]
fn the_text_has_every_sample() {
    let text = text(&status());
    for line in [
        "# TYPE coregate_mode gauge",
        "coregate_mode{mode=\"enforce\"} 1",
        "coregate_mode{mode=\"observe\"} 0",
        "coregate_build_info{version=\"1.2.3\"} 1",
        "coregate_idle_source{source=\"flat\"} 1",
        "coregate_idle_source{source=\"node\"} 0",
        r#"coregate_scheduler_info{ops="od\\d \"name\"\n",per_node="true",tracking="false"} 1"#,
        "coregate_node_free_cores{node=\"2\"} 3",
        "coregate_launches_total{rule=\"cache\"} 1152921504606846976",
        "coregate_suppressed_total{rule=\"cache\"} 3",
        "coregate_mode_ordered 0",
        "coregate_denied_total{rule=\"cache\"} 5",
        "coregate_failures_total{kind=\"claims_full\"} 9",
        "coregate_reloads_total{outcome=\"refused\"} 2",
        "coregate_last_reload_successful 0",
        "coregate_last_reload_timestamp_seconds 86400",
        "coregate_rehearsal_running 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n\n{text}");
    }
}

#[test]
fn names_are_unique_and_say_their_kind() {
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    for Metric { name, kind, .. } in METRICS {
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len());
}

#[test]
fn the_documentation_has_the_table() {
    let row = |metric: &Metric| {
        let Metric {
            name,
            kind,
            help,
            labels,
            ..
        } = metric;
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
    };
    let rows: Vec<_> = METRICS.iter().map(row).collect();
    docs::hold(
        "docs/metrics.md",
        "| metric | type | labels | what it is |",
        &rows,
    );
}
