// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask bench --peers`: what coregate adds to an exec that it has nothing to do
//! with, beside what others add that watch execs. They are Debian's, as it ships them.

use std::fs;

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::{Args, Cost, Found, Machine, aligned};
use crate::guest::Image;
use crate::kernels::Kernel;
use crate::userland::Root;

pub(super) const MACHINE: Machine = Machine {
    word: "peers",
    ..super::SMALL
};

/// The modules of Debian's kernels that do not exclude each other, and BPF.
pub(super) const LSMS: &str = "lsm=landlock,lockdown,yama,apparmor,bpf";

const PROGRAMS: &[&str] = &[
    "apparmor_parser",
    "auditctl",
    "auditd",
    "fapolicyd",
    "fapolicyd-cli",
];

/// Where releases keep programs.
const FOLDERS: &[&str] = &["usr/sbin", "sbin", "usr/bin"];

/// What the programs read, as Debian ships it.
const FILES: &[&str] = &[
    "etc/apparmor/parser.conf",
    "usr/share/apparmor-features/features",
    "etc/audit/auditd.conf",
    "usr/share/fapolicyd/fapolicyd-magic.mgc",
    "usr/share/misc/magic.mgc",
];

const FAPOLICYD_CONF: &str = "etc/fapolicyd/fapolicyd.conf";

/// Its samples of rules that make up the policy `known-libs`, but for the exception for
/// dracut: it allows root all, and so ends before the rules that others are judged by.
const FAPOLICYD_RULES: &[&str] = &[
    "10-languages",
    "21-updaters",
    "30-patterns",
    "40-bad-elf",
    "41-shared-obj",
    "42-trusted-elf",
    "70-trusted-lang",
    "72-shell",
    "90-deny-execute",
    "95-allow-open",
];

const NOTHING: &str = "exec/none";
const COREGATE: &str = "exec/unmatched";

/// A line of the table.
struct Row {
    /// The name that `coregate-vm bench` prints.
    name: &'static str,
    what: &'static str,
    /// It must add more than so many times what coregate adds.
    least: Option<f64>,
}

const ROWS: &[Row] = &[
    row(NOTHING, "the failing execve itself, no program", None),
    // In the hook of forks: blocks of execs differ by more than it adds.
    row("fork/bare", "a BPF program that returns 0", None),
    row(COREGATE, "coregate, no rule matches", None),
    row(
        "exec/apparmor-idle",
        "AppArmor, no profile on the launcher",
        None,
    ),
    row(
        "exec/apparmor",
        "AppArmor, a profile on the launcher",
        Some(1.0),
    ),
    row(
        "exec/fapolicyd-permissive",
        "fapolicyd, permissive",
        Some(100.0),
    ),
    row("exec/fapolicyd", "fapolicyd, enforcing", Some(100.0)),
    row("exec/auditd", "auditd, a rule for execve", Some(1.0)),
];

const fn row(name: &'static str, what: &'static str, least: Option<f64>) -> Row {
    Row { name, what, least }
}

/// Puts the programs of `root` into `image`, and what they read.
///
/// # Errors
/// When one of them is not where Debian's packages have it.
pub(super) fn add(root: &Root, image: &mut Image) -> Result<()> {
    for program in PROGRAMS {
        let path = FOLDERS
            .iter()
            .map(|folder| format!("{folder}/{program}"))
            .find(|path| root.path(path).exists())
            .ok_or_else(|| anyhow!("Debian's packages hold no {program}"))?;
        image.program_of(root, &path)?;
    }
    for file in FILES {
        image.file(file, &root.path(file), 0o644);
    }
    // The guest's root is none of the file systems that it watches by itself.
    let conf = read(root, FAPOLICYD_CONF)?.replace("watch_fs = ", "watch_fs = rootfs,");
    image.text(FAPOLICYD_CONF, &conf, 0o644);
    let rules = FAPOLICYD_RULES
        .iter()
        .map(|name| {
            read(
                root,
                &format!("usr/share/fapolicyd/sample-rules/{name}.rules"),
            )
        })
        .collect::<Result<Vec<_>>>()?;
    image.text("etc/fapolicyd/compiled.rules", &rules.concat(), 0o644);
    Ok(())
}

fn read(root: &Root, file: &str) -> Result<String> {
    let path = root.path(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A row's cost against coregate's.
struct Standing {
    cost: Cost,
    /// None for what is no addition to anything.
    times: Option<f64>,
    /// None where nothing is required.
    met: Option<bool>,
}

impl Row {
    fn standing(&self, found: &Found) -> Result<Standing> {
        let cost = |name| {
            found
                .cost(&MACHINE, name)
                .with_context(|| format!("the guest did not measure {name}"))
        };
        let own = cost(self.name)?;
        let times = own.instructions / cost(COREGATE)?.instructions;
        Ok(Standing {
            cost: own,
            times: (self.name != NOTHING).then_some(times),
            met: self.least.map(|least| times > least),
        })
    }
}

/// Prints what was found. Returns whether to exit with success.
///
/// # Errors
/// When a row is missing.
pub(super) fn show(args: &Args, kernel: &Kernel, found: &Found) -> Result<bool> {
    let standings = ROWS
        .iter()
        .map(|row| Ok((row, row.standing(found)?)))
        .collect::<Result<Vec<_>>>()?;
    if args.json {
        let rows: Vec<_> = standings
            .iter()
            .map(|(row, standing)| {
                json!({
                    "name": row.name,
                    "what": row.what,
                    "instructions": standing.cost.instructions,
                    "spread": standing.cost.spread,
                    "times_coregate": standing.times,
                    "required": row.least,
                    "met": standing.met,
                })
            })
            .collect();
        println!("{:#}", json!({ "kernel": kernel.series, "rows": rows }));
    } else {
        println!(
            "Instructions added to an exec on {}, {}:\n",
            kernel.series, MACHINE.title
        );
        println!("{}", table(&standings));
    }
    let met = standings.iter().all(|(_, one)| one.met != Some(false));
    Ok(met || !args.check)
}

fn table(standings: &[(&Row, Standing)]) -> String {
    let head = [
        "",
        "instructions",
        "spread",
        "x coregate",
        "required",
        "met",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(standings.iter().map(|(row, standing)| {
        let (required, met) = match (row.least, standing.met) {
            (Some(least), Some(met)) => {
                let met = if met { "yes" } else { "NO" };
                (format!("> {least:.0} x"), met.to_owned())
            }
            _ => Default::default(),
        };
        [
            row.what.to_owned(),
            format!("{:.0}", standing.cost.instructions),
            format!("{:.0}", standing.cost.spread),
            standing
                .times
                .map_or_else(String::new, |times| format!("{times:.1}")),
            required,
            met,
        ]
    }));
    aligned(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(unmatched: u32, fapolicyd: u32) -> Option<bool> {
        let mut found = Found::default();
        for line in [
            format!("row exec/unmatched {unmatched} 0"),
            format!("row exec/fapolicyd {fapolicyd} 0"),
        ] {
            found.note(&MACHINE, &line).expect("a row");
        }
        let row = ROWS.iter().find(|row| row.name == "exec/fapolicyd")?;
        row.standing(&found).ok()?.met
    }

    #[test]
    fn fapolicyd_must_add_more_than_100_times_as_much() {
        assert_eq!(met(340, 105_000), Some(true));
        assert_eq!(met(340, 34_000), Some(false));
    }

    #[test]
    fn a_row_that_is_missing_is_an_error() {
        let found = Found::default();
        assert!(ROWS.iter().all(|row| row.standing(&found).is_err()));
    }
}
