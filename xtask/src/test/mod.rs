// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask test`: checks of the source, tests on this machine, tests in
//! guests.

mod host;
mod libtest;
mod lint;
mod model;
mod native;
mod report;
mod vm;

use std::time::Instant;
use std::{panic, thread};

use anyhow::Result;
use clap::Args as Arguments;

use crate::guest::Topology;
use crate::{build, debian, kernels, setup};
use report::Report;

/// The topologies that a test run covers on the oldest and the newest kernel. On those between,
/// only what differs by kernel is tested.
const TOPOLOGIES: &[&str] = &["numa", "one-node", "smt-off", "smt4", "smt8"];
/// The one that it covers on each kernel.
const TOPOLOGY: &str = "numa";
/// The one that it covers on the newest kernel and on the one that comes with that system.
const SYSTEMD: &str = "systemd";
/// The one that it covers on the newest kernel and on the one that schedulers are older on.
const ICOUNT: &str = "icount";
const ICOUNT_SERIES: &str = "6.18";

/// Arguments of `cargo xtask test`.
#[derive(Arguments)]
pub(crate) struct Args {
    /// Kernel series such as 6.18, or `newest`; may be repeated [default: the supported ones]
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Topology of the guests; may be repeated [default: numa, one-node, smt-off, smt4, smt8 on
    /// the oldest and the newest kernel, numa on those between; systemd on 6.12, icount on 6.18, and
    /// both on the newest]
    #[arg(long = "topology", value_name = "TOPOLOGY")]
    topologies: Vec<Topology>,
    /// Seconds, or rounds, of the tests that can run longer than they do by default
    #[arg(long, value_name = "N")]
    soak: Option<u64>,
    /// How many guests run at the same time, or walks through the model
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// List the guest tests that would run, and where
    #[arg(long)]
    list: bool,
    /// Run only tests whose name holds this, and no checks of the source
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

impl Args {
    fn series(&self) -> Vec<String> {
        if self.kernels.is_empty() {
            return kernels::SERIES
                .iter()
                .map(|&name| name.to_owned())
                .collect();
        }
        self.kernels.clone()
    }

    /// Whether one of the series is neither the oldest nor the newest.
    fn is_between(&self, series: &str) -> bool {
        let all = self.series();
        ![all.first(), all.last()].contains(&Some(&series.to_owned()))
    }

    /// What is not tested on one of the series, in the words of the test program: on the oldest, or
    /// the only one, all is.
    fn left_out(&self, series: &str) -> Option<&'static str> {
        match self.series().first() {
            Some(first) if first == series => None,
            _ if self.is_between(series) => Some("any"),
            _ => Some("one"),
        }
    }

    /// The topologies for one of the series.
    fn topologies(&self, series: &str) -> Vec<Topology> {
        if !self.topologies.is_empty() {
            return self.topologies.clone();
        }
        let between = self.is_between(series);
        let systemd = [debian::SERIES, kernels::NEWEST].contains(&series);
        let icount = [ICOUNT_SERIES, kernels::NEWEST].contains(&series);
        TOPOLOGIES
            .iter()
            .filter(|&&name| !between || name == TOPOLOGY)
            .chain(systemd.then_some(&SYSTEMD))
            .chain(icount.then_some(&ICOUNT))
            .filter_map(|name| name.parse().ok())
            .collect()
    }
}

/// Runs all of it and prints a line for each test, the sums last. Returns
/// whether there were tests and all of them passed.
///
/// # Errors
/// When this machine lacks something that could not be installed.
pub(crate) fn run(args: &Args) -> Result<bool> {
    setup::packages()?;
    setup::components()?;
    if args.list {
        build::programs(false)?;
        vm::list(&vm::plan(args)?);
        return Ok(true);
    }
    let report = Report::default();
    let start = Instant::now();
    // What guests need is fetched while this machine compiles.
    let guests = thread::scope(|scope| {
        let guests = scope.spawn(|| vm::prepare(args));
        on_host(&report, args);
        guests
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    });
    match guests {
        Ok(guests) => guests.run(&report, args),
        Err(why) => report.failed("guests", "set-up", start.elapsed(), &format!("{why:#}")),
    }
    // A filter may name host tests only; a full run without guests proves nothing.
    if args.filter.is_none() && report.in_guests() == 0 {
        report.failed("guests", "count", start.elapsed(), "no test ran in a guest");
    }
    Ok(report.close())
}

fn on_host(report: &Report, args: &Args) {
    if args.filter.is_none() {
        lint::run(report);
    }
    host::run(report, args.filter.as_deref());
    native::run(report, args.filter.as_deref());
    model::run(report, args.filter.as_deref(), args.jobs);
}
