// SPDX-License-Identifier: GPL-2.0-only
//! The daemon ends again and again while programs start; no launch may notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Installed, SYSTEMD, UNIT, becomes, kill_daemon, property, run, status};
use crate::claims::contenders::Contenders;
use crate::claims::held_by;
use crate::gate::Gate;
use crate::launch::program;
use crate::machine::{node_cores, node_cpus, pin, wait_for};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i3_restarts_change_no_verdict",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: restarts,
    },
    Test {
        name: "i3_i7_kills_change_no_verdict_and_leave_no_claim",
        needs: Needs::Nothing,
        on: SYSTEMD,
        run: kills,
    },
];

const SERVER: &str = "/opt/server";
const CONTENDERS: u32 = 16;
const RESTARTS: u64 = 3;
const KILLS: u64 = 10;

/// After so many rounds, on average, the program that was admitted ends.
const CLEARED: u32 = 20;

/// Between two passes the other CPUs, and so the daemon, get this part of the machine's time.
const PAUSES: f64 = 0.75;

/// An installed coregate that enforces, whose daemon keeps off node 0 and is started anew at once
/// however often it ends.
pub(super) fn installed() -> Result<Installed> {
    program(SERVER)?;
    let installed = Installed::new()?;
    let cpus: Vec<_> = node_cpus(1)?.iter().map(u32::to_string).collect();
    let lines = format!(
        "CPUAffinity={}\nRestartSec=0\nRestartSteps=0",
        cpus.join(" ")
    );
    installed.drop_in("storm", &lines)?;
    installed.start(&Gate::strict(&Gate::policy("enforce", SERVER, "")))?;
    Ok(installed)
}

/// Contenders for the one core that they may use while `disturb` goes on: whenever they try at one
/// moment, at most one is admitted, and in the end one is. Nothing is held afterwards.
pub(super) fn under_storm(disturb: impl FnOnce() -> Result<()>) -> Result<()> {
    let [other, contended] = &node_cores(0)?[..] else {
        bail!("node 0 has not two cores")
    };
    pin(&contended.cpus)?;
    let mut contenders = Contenders::start(CONTENDERS, SERVER)?;
    pin(&other.cpus)?;
    let ends = AtomicBool::new(false);
    let (rounds, disturbed) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| contend(&mut contenders, &ends));
        let disturbed = disturb();
        ends.store(true, Ordering::SeqCst);
        (storm.join(), disturbed)
    });
    disturbed?;
    let rounds = rounds.map_err(|_| anyhow!("the storm panicked"))??;
    drop(contenders);
    becomes("active")?;
    let mut last = None;
    wait_for("nothing is held", Duration::from_secs(20), || {
        last = status().ok();
        last.as_ref().is_some_and(|status| {
            held_by(status).ok() == Some(0) && status["rules"][0]["claims"] == 0
        })
    })
    .with_context(|| format!("{last:?}"))?;
    eprintln!("{rounds} rounds");
    Ok(())
}

/// How many rounds there were, in each of which one program was admitted, or went on to run.
fn contend(contenders: &mut Contenders, ends: &AtomicBool) -> Result<u64> {
    let (mut rounds, mut vain) = (0, 0);
    while !ends.load(Ordering::SeqCst) || rounds == 0 {
        let start = Instant::now();
        let running = contenders.pass()?;
        std::thread::sleep(start.elapsed().mul_f64(PAUSES / (1.0 - PAUSES)));
        ensure!(running <= 1, "round {rounds}: {running} were admitted");
        if running == 1 {
            (rounds, vain) = (rounds + 1, 0);
            // Mostly it goes on, asleep, so that most of what happens to the daemon does while it
            // holds the core.
            if fastrand::u32(..CLEARED) == 0 {
                contenders.clear()?;
            }
        } else {
            vain += 1;
            ensure!(vain < 1000, "round {rounds}: nobody is ever admitted");
        }
    }
    Ok(rounds)
}

fn restarts() -> Result<()> {
    let _installed = installed()?;
    under_storm(|| {
        for restart in 0..crate::soak().unwrap_or(RESTARTS) {
            run(&["systemctl", "restart", UNIT])?;
            eprintln!("restart {restart}");
        }
        Ok(())
    })?;
    ensure!(property("NRestarts")? == "0" && property("ActiveState")? == "active");
    Ok(())
}

/// At any moment of its life: while it loads, and, in every other turn, once its gate has taken the
/// place of the one before.
fn kills() -> Result<()> {
    let installed = installed()?;
    installed.no_start_limit()?;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut kills = 0;
    under_storm(|| {
        while kills < crate::soak().unwrap_or(KILLS) {
            if kills % 2 == 0 {
                becomes("active")?;
            }
            std::thread::sleep(Duration::from_millis(rng.u64(..3000)));
            kills += u64::from(kill_daemon()?);
            eprintln!("{kills} kills");
        }
        Ok(())
    })?;
    ensure!(property("NRestarts")?.parse::<u64>()? >= kills);
    let gates = status()?["generation"].as_u64().unwrap_or(0);
    eprintln!("{gates} gates took each other's place");
    ensure!(gates > kills / 2, "{gates} gates in {kills} kills");
    Ok(())
}
