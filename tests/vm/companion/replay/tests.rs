// SPDX-License-Identifier: GPL-2.0-only
//! The replay of logs that are written here.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Account, Beside, Event, Kind, Replay, Task, Windows};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "the_replay_lays_each_nanosecond_to_somebody",
    needs: Needs::OneKernel,
    on: NUMA,
    run,
}];

const HOLDER: i32 = 10;
const OTHER: i32 = 20;

const IDLE: Task = task(0, 0, Kind::Kernel);
const HOG: Task = task(99, 98, Kind::User);

const fn task(tid: i32, pid: i32, kind: Kind) -> Task {
    Task {
        tid,
        pid,
        kind,
        allowed: !0,
    }
}

fn thread(number: i32) -> Task {
    task(HOLDER + number, HOLDER, Kind::User)
}

fn to(cpu: usize, next: Task) -> Event {
    Event::Switch {
        cpu,
        next,
        sleeps: false,
    }
}

fn sleep(cpu: usize, next: Task) -> Event {
    Event::Switch {
        cpu,
        next,
        sleeps: true,
    }
}

/// What became of [`HOLDER`] from time 0 to `end`, on cores of the CPUs 0 and 1, and 2 and 3.
fn replayed(events: &[(u64, Event)], end: u64) -> Account {
    let mut replay = Replay::new([vec![0, 1], vec![2, 3]]);
    replay.hold(HOLDER);
    replay.hold(OTHER);
    for &(time, event) in events {
        replay.see(time, event);
    }
    replay.close(end).remove(0)
}

fn windows(account: &Account) -> Vec<(Beside, u64, u64, u64)> {
    let windows = Beside::ALL.map(|what| (what, account.beside(what)));
    let seen = windows.into_iter().filter(|(_, seen)| seen.count > 0);
    let numbers = |(what, seen): (_, Windows)| (what, seen.count, seen.total, seen.longest);
    seen.map(numbers).collect()
}

fn run() -> Result<()> {
    each_kind()?;
    taking()?;
    waits()?;
    threads()?;
    accounts()
}

fn expect(account: &Account, expected: &[(Beside, u64, u64, u64)]) -> Result<()> {
    let found = windows(account);
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

/// A sibling that runs one of each kind, and another core that nobody asks about.
fn each_kind() -> Result<()> {
    let confined = Task {
        allowed: 0b0011,
        ..HOG
    };
    let elsewhere = Task {
        allowed: 0b0110,
        ..HOG
    };
    let account = replayed(
        &[
            (0, to(0, thread(0))),
            (10, to(1, IDLE)),
            (20, to(1, HOG)),
            (25, to(1, elsewhere)),
            (30, to(1, confined)),
            (40, to(1, task(7, 7, Kind::RealTime))),
            (42, to(3, HOG)),
            (45, to(1, task(8, 0, Kind::Kernel))),
            (50, to(1, task(OTHER, OTHER, Kind::User))),
            (60, to(1, thread(1))),
            (70, to(1, HOG)),
            (75, to(0, IDLE)),
            (90, to(1, IDLE)),
        ],
        100,
    );
    expect(
        &account,
        &[
            (Beside::Idle, 1, 10, 10),
            // Beside each of the two threads.
            (Beside::Own, 2, 20, 10),
            (Beside::Foreign, 2, 15, 10),
            (Beside::Holder, 1, 10, 10),
            (Beside::Confined, 1, 10, 10),
            (Beside::RealTime, 1, 5, 5),
            (Beside::Kernel, 1, 5, 5),
            (Beside::Unknown, 1, 10, 10),
        ],
    )?;
    ensure!(account.on == [75, 10, 0, 0], "{:?}", account.on);
    Ok(())
}

/// Wakes beside a hog that leaves at this time, after a kernel thread; sleeps at the other.
fn woken_beside_a_hog(alone: u64, end: u64) -> Account {
    let mut events = vec![
        (0, to(1, HOG)),
        (0, to(0, thread(0))),
        (0, sleep(0, IDLE)),
        (100, Event::Wake(HOLDER)),
        (110, to(0, thread(0))),
        (alone - 5, to(1, task(8, 0, Kind::Kernel))),
        (alone, to(1, IDLE)),
        (end, sleep(0, IDLE)),
    ];
    events.sort_by_key(|(time, _)| *time);
    replayed(&events, end + 1)
}

fn taking() -> Result<()> {
    expect(
        &woken_beside_a_hog(130, 1000),
        &[
            (Beside::Idle, 1, 870, 870),
            (Beside::Taking, 1, 15, 15),
            (Beside::Kernel, 1, 5, 5),
        ],
    )?;
    // Who goes to sleep before it is alone never had its core,
    expect(
        &woken_beside_a_hog(2000, 1000),
        &[(Beside::Foreign, 1, 890, 890)],
    )?;
    // nor is a long time a taking.
    let long = 2_000_000;
    expect(
        &woken_beside_a_hog(long, long + 10),
        &[
            (Beside::Idle, 1, 10, 10),
            (Beside::Foreign, 1, long - 115, long - 115),
            (Beside::Kernel, 1, 5, 5),
        ],
    )?;
    // Who was alone once has taken its core; a turn that somebody else had is no wake-up.
    let account = replayed(
        &[
            (0, to(1, IDLE)),
            (0, to(0, thread(0))),
            (0, sleep(0, IDLE)),
            (5, Event::Wake(HOLDER)),
            (10, to(0, thread(0))),
            (20, to(1, HOG)),
            (30, to(0, task(8, 0, Kind::Kernel))),
            (40, to(0, thread(0))),
            (50, to(1, IDLE)),
        ],
        60,
    );
    expect(
        &account,
        &[(Beside::Idle, 2, 20, 10), (Beside::Foreign, 2, 20, 10)],
    )
}

fn waits() -> Result<()> {
    let account = replayed(
        &[
            (0, to(0, thread(0))),
            // Woken while it runs, and it never went to sleep.
            (5, Event::Wake(HOLDER)),
            (10, to(0, IDLE)),
            (20, to(0, thread(0))),
            (30, sleep(0, IDLE)),
            (40, Event::Wake(HOLDER)),
            (47, to(2, thread(0))),
            // Woken just before its CPU has left it.
            (60, Event::Wake(HOLDER)),
            (61, sleep(2, IDLE)),
            (63, to(0, thread(0))),
            // Woken while it runs, and then it went to sleep after all.
            (70, Event::Wake(HOLDER)),
            (80, sleep(0, IDLE)),
            (90, Event::Wake(HOLDER)),
            (99, to(0, thread(0))),
        ],
        100,
    );
    ensure!(account.waits == [7, 3, 9], "{:?}", account.waits);
    ensure!(account.wait(0.5) == Duration::from_nanos(7));
    ensure!(account.wait(1.0) == Duration::from_nanos(9));
    ensure!(account.wakeups() == 3);
    Ok(())
}

/// The turn of each thread is a window of its own.
fn threads() -> Result<()> {
    let account = replayed(
        &[
            (0, to(1, HOG)),
            (0, to(0, thread(0))),
            (10, to(0, thread(1))),
            (30, to(2, thread(0))),
            (30, to(0, IDLE)),
            (40, to(3, IDLE)),
        ],
        50,
    );
    expect(
        &account,
        &[
            (Beside::Idle, 1, 10, 10),
            (Beside::Foreign, 2, 30, 20),
            (Beside::Unknown, 1, 10, 10),
        ],
    )?;
    ensure!(account.on == [30, 0, 20, 0], "{:?}", account.on);
    Ok(())
}

/// What is under way counts in the account that is closed and in the next one.
fn accounts() -> Result<()> {
    let mut replay = Replay::new([vec![0, 1]]);
    replay.hold(HOLDER);
    replay.see(0, to(1, HOG));
    replay.see(10, to(0, thread(0)));
    let first = replay.close(30).remove(0);
    expect(&first, &[(Beside::Foreign, 1, 20, 20)])?;
    replay.see(35, to(1, IDLE));
    let second = replay.close(40).remove(0);
    expect(
        &second,
        &[(Beside::Idle, 1, 5, 5), (Beside::Foreign, 1, 5, 5)],
    )?;
    ensure!((first.ran(), second.ran()) == (20, 10));
    ensure!(second.share(Beside::Foreign) == 0.5);
    Ok(())
}
