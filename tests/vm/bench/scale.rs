// SPDX-License-Identifier: GPL-2.0-only
//! What many rules of all kinds cost: a launch under them, and their reload.

use std::fmt::Write as _;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use coregate::policy::Policy;
use coregate::policy_file::{ThisHost, load};
use coregate::topology::{SYSFS, Topology};

use super::measurer::NS_PER_INSTRUCTION;
use super::{ADMITTED, Bench, policy};

pub(super) const RULES: usize = 10_000;

/// Where launches are made.
const UNIT: &str = "/sys/fs/cgroup/system.slice/bench.service";

/// The rows of this many rules of all kinds: no rule matches, and admitted.
const ROWS: [(usize, &str, &str); 2] = [
    (10, "exec/unmatched-mixed", "exec/admitted-mixed"),
    (
        RULES,
        "exec/unmatched-mixed-10000",
        "exec/admitted-mixed-10000",
    ),
];

/// All of it.
pub(super) fn all(bench: &mut Bench) -> Result<()> {
    let whole = policy("enforce", RULES)?;
    bench.between(&whole, &[], |bench, _| {
        bench.unmatched("exec/unmatched-10000")?;
        Ok(Vec::new())
    })?;
    bench.admitted("exec/admitted-10000", &whole, "runqueue")?;
    bench.enter(UNIT)?;
    for (rules, unmatched, admitted) in ROWS {
        let text = mixed(rules);
        bench.between(&text, &[], |bench, _| {
            bench.unmatched(unmatched)?;
            Ok(Vec::new())
        })?;
        bench.admitted(admitted, &text, "runqueue")?;
    }
    bench.enter("/sys/fs/cgroup")?;
    reload(bench)
}

/// The reload of a daemon: a file is read, checked, compiled and filled in, and then holds.
pub(super) fn reload(bench: &mut Bench) -> Result<()> {
    const FILE: &str = "/run/mixed.toml";
    fs::write(FILE, mixed(RULES))?;
    let read = || load(Path::new(FILE), &ThisHost::new());
    let mut storage = MaybeUninit::uninit();
    let topology = Topology::read(Path::new(SYSFS))?;
    let mut gate = coregate::gate::Gate::load(&mut storage, &Policy::default(), &topology)?;
    gate.replace(&read()?)?;
    let start = Instant::now();
    let policy = read()?;
    let checked = start.elapsed();
    gate.replace(&policy)?;
    let all = start.elapsed();
    let instructions = |time: Duration| time.as_nanos() as f64 / NS_PER_INSTRUCTION;
    bench.note("reload/read", instructions(checked));
    bench.note("reload/all", instructions(all));
    Ok(())
}

/// A policy of so many rules: of ten there is one of each kind. The last one is for our file.
pub(super) fn mixed(rules: usize) -> String {
    let mut text = String::from("[gate]\nmode = \"enforce\"\nevent_rate = 0\n");
    for i in 0..rules - 1 {
        let (unit, uid) = (i / 10, 1000 + i % 50);
        let whom = match i % 10 {
            0 => format!("exe = \"/usr/bin/{i:05}-server\""),
            1 => format!("exe = \"/opt/{i:05}/bin/server\"\nuser = {uid}"),
            2 => format!("exe = \"/srv/{i:05}/\""),
            3 => format!("exe = \"/opt/{i:05}/bin/server-*\"\nuser = [{uid}, 7]"),
            4 => format!("unit = \"{unit:04}-worker.service\""),
            5 => format!("exe = [\"/usr/lib/{i:05}/a\", \"/usr/lib/{i:05}/b\"]"),
            6 => format!("exe = \"/usr/bin/java\"\nargv = \"-Dname={i:05}\""),
            7 => format!("unit = \"{unit:04}-worker@*.service\"\ncomm = \"{i:05}\""),
            8 => format!("cgroup = \"/system.slice/{unit:04}.service\"\ngroup = [5, 6]"),
            _ => format!("exe = \"/usr/libexec/{i:05}\"\nparent = \"/usr/bin/make\""),
        };
        let _ = writeln!(text, "[[rule]]\nname = \"rule-{i}\"\n{whom}\ncores = 1");
    }
    let _ = writeln!(
        text,
        "[[rule]]\nname = \"ours\"\nexe = \"{ADMITTED}\"\nunit = \"bench.service\"\nown_core = true"
    );
    text
}
