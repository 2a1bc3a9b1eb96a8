// SPDX-License-Identifier: GPL-2.0-only
//! What is logged where systemd runs the daemon.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::libc::EAGAIN;
use serde_json::{Map, Value};

use super::{Installed, POLICY, SYSTEMD, UNIT, main_pid, run, status};
use crate::gate::{COREGATE, Gate};
use crate::launch::{fails, program};
use crate::machine::{node_cpus, pin, wait_for};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i9_journal_has_the_fields_and_each_event",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: journal,
    },
    Test {
        name: "log_file_and_audit_of_the_unit",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: file_and_audit,
    },
];

const SERVER: &str = "/opt/server";
const PATIENCE: Duration = Duration::from_secs(60);

/// Denies each launch of [`SERVER`], and logs all of them.
fn policy(log: &str) -> Result<String> {
    program(SERVER)?;
    pin(&node_cpus(0)?)?;
    let policy = Gate::denying("enforce", SERVER)?;
    Ok(format!("[log]\n{log}\n{policy}"))
}

/// The records of the journal that meet these words.
fn records(words: &[&str]) -> Result<Vec<Value>> {
    let journalctl = ["journalctl", "--output=json", "--boot", "--no-pager"];
    let said = run(&[&journalctl, words].concat())?;
    let records = said.lines().map(serde_json::from_str);
    Ok(records.collect::<Result<_, _>>()?)
}

/// What the status says of a sink, once no line waits for it.
fn sink(name: &str) -> Result<Value> {
    let mut found = Value::Null;
    wait_for("no line waits", PATIENCE, || {
        let Ok(status) = status() else { return false };
        let rows = status["log"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["name"] == name);
        found = row.unwrap_or_default();
        found["waiting"] == 0
    })
    .with_context(|| format!("{name}: {found}"))?;
    Ok(found)
}

fn journal() -> Result<()> {
    let before = records(&["COREGATE_RULE=probe"])?.len();
    let _installed = Installed::with(&policy("")?)?;
    fails(SERVER, EAGAIN)?;
    wait_for("the verdict is in the journal", PATIENCE, || {
        records(&["COREGATE_RULE=probe"]).is_ok_and(|records| records.len() == before + 1)
    })?;
    let mut found = records(&["COREGATE_RULE=probe", "COREGATE_EFFECT=denied"])?;
    let record = found.pop().context("no record")?;
    for (field, value) in [
        ("COREGATE_VERDICT", "deny"),
        ("COREGATE_EXE", SERVER),
        ("COREGATE_ERRNO", "EAGAIN"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "coregate"),
        ("_SYSTEMD_UNIT", UNIT),
        ("_TRANSPORT", "journal"),
    ] {
        ensure!(record[field] == value, "{field}: {record:#}");
    }
    // So is all else that is known of it.
    let event: Map<String, Value> = serde_json::from_str(&run(&[COREGATE, "events", "--json"])?)?;
    for (name, value) in event.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("COREGATE_{}", name.to_uppercase());
        let value = value.as_str().map_or(value.to_string(), str::to_owned);
        ensure!(record[&field] == value, "{field}={value}: {record:#}");
    }
    let invocation = super::property("InvocationID")?;
    let this = format!("_SYSTEMD_INVOCATION_ID={invocation}");
    let said = records(&[&this])?;
    let ready = said.iter().filter(|record| {
        let message = record["MESSAGE"].as_str();
        message.is_some_and(|message| message.contains("ready: "))
    });
    ensure!(ready.count() == 1, "{said:#?}");

    let launches = 300;
    for launch in 0..launches {
        if launch % 100 == 50 {
            run(&["systemctl", "restart", "systemd-journald"])?;
        }
        fails(SERVER, EAGAIN)?;
    }
    let mut emitted = 0;
    wait_for("all is told", PATIENCE, || {
        emitted = status().map_or(0, |status| {
            status["events"]["emitted"].as_u64().unwrap_or(0)
        });
        emitted == launches + 1
    })?;
    let row = sink("journal")?;
    run(&["journalctl", "--sync"])?;
    let found = records(&[&this, "COREGATE_RULE=probe"])?;
    let ids: BTreeSet<_> = found
        .iter()
        .filter_map(|record| record["COREGATE_ID"].as_str())
        .collect();
    println!(
        "{emitted} events, {} records of {}, {row}",
        found.len(),
        ids.len()
    );
    let lost = row["lost"].as_u64().context("no count")?;
    ensure!(
        ids.len() as u64 + lost == emitted,
        "{} ids: {row}",
        ids.len()
    );
    Ok(())
}

fn file_and_audit() -> Result<()> {
    const FILE: &str = "/var/log/coregate/events.json";
    let _ = fs::remove_file(FILE);
    let policy = policy(&format!("file = \"{FILE}\"\naudit = true"))?;
    let _installed = Installed::with(&policy)?;
    fails(SERVER, EAGAIN)?;
    wait_for("the verdict is told", PATIENCE, || {
        status().is_ok_and(|status| status["events"]["emitted"] == 1)
    })?;
    ensure!(sink("file")?["written"] == 1);
    let event: Value = serde_json::from_str(&fs::read_to_string(FILE)?)?;
    ensure!(event["rule"] == "probe", "{event}");
    for (path, mode) in [("/var/log/coregate", 0o750), (FILE, 0o600)] {
        let found = fs::metadata(path)?;
        ensure!(
            found.uid() == 0 && found.mode() & 0o777 == mode,
            "{found:?}"
        );
    }
    let row = sink("audit")?;
    ensure!(row["written"] == 1 && row["lost"] == 0, "{row}");
    // CAP_AUDIT_WRITE alone, of which the number is 29.
    let text = fs::read_to_string(format!("/proc/{}/status", main_pid().context("no daemon")?))?;
    ensure!(
        text.contains(&format!("CapEff:\t{:016x}", 1 << 29)),
        "{text}"
    );

    // One that was started without does not get it by a reload.
    let file = format!("file = \"{FILE}\"");
    fs::write(POLICY, self::policy(&file)?)?;
    run(&["systemctl", "restart", UNIT])?;
    fs::write(POLICY, policy)?;
    run(&["systemctl", "reload", UNIT])?;
    fails(SERVER, EAGAIN)?;
    let mut row = Value::Null;
    wait_for("the kernel has refused a record", PATIENCE, || {
        row = sink("audit").unwrap_or_default();
        row["lost"] == 1
    })
    .with_context(|| row.to_string())?;
    let error = row["error"].as_str().unwrap_or_default();
    ensure!(error.contains("not permitted"), "{row}");
    Ok(())
}
