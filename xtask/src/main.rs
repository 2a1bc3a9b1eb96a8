// SPDX-License-Identifier: GPL-2.0-only
//! What a developer types and CI runs.

#![forbid(unsafe_code)]

mod apt;
mod bench;
mod build;
mod cache;
mod command;
mod debian;
mod demo;
mod dist;
mod docs;
mod guest;
mod kernels;
mod schedulers;
mod screens;
mod setup;
mod shell;
mod test;
mod userland;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Tests, demonstrates and measures coregate in guests with Debian's kernels.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Show a real server being admitted, and refused while no core is free
    Demo,
    /// Run all tests: checks of the source, tests on this machine, tests in guests
    Test(test::Args),
    /// Count the instructions that a launch costs, in guests, against the budgets
    Bench(bench::Args),
    /// Boot a guest with coregate inside and run one shell command in it
    Guest(shell::Shell),
    /// Try the gate next to schedulers that other people make
    Schedulers(schedulers::Args),
    /// Make the pictures of docs/screens anew, of what a guest shows
    Screens {
        /// Take the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
    /// Build the packages for Debian and for distributions with RPM
    Dist(dist::Args),
    /// List the kernel series that Debian has
    Kernels,
}

fn main() -> ExitCode {
    match run(&Task::parse()) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<ExitCode> {
    match task {
        Task::Demo => demo::run().map(exit_code),
        Task::Test(args) => test::run(args).map(|ok| exit_code(i32::from(!ok))),
        Task::Bench(args) => bench::run(args).map(|ok| exit_code(i32::from(!ok))),
        Task::Schedulers(args) => schedulers::run(args).map(|()| ExitCode::SUCCESS),
        Task::Dist(args) => dist::run(args).map(|()| ExitCode::SUCCESS),
        Task::Screens { no_build } => screens::run(*no_build).map(|()| ExitCode::SUCCESS),
        Task::Guest(args) => shell::run(args).map(exit_code),
        Task::Kernels => {
            for offer in kernels::offers(&cache::Cache::open()?)? {
                println!("{:6} {}", offer.series(), offer.release());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A status that a process can have: shells tell a signal as 128 and more.
fn exit_code(status: i32) -> ExitCode {
    u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from)
}
