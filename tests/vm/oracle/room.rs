// SPDX-License-Identifier: GPL-2.0-only
//! Whether there is room for a launch, by what all CPUs did at one moment and who has which
//! claim: found by trying to give each its cores. No code is shared with the gate, and it
//! does not go about it in the same way.

use std::collections::BTreeMap;

use super::{Moment, Truth};
use crate::machine::Core;

/// A live claim.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Whatever runs for it.
    pub(crate) pids: Vec<i32>,
    /// By node: how many cores it holds there.
    pub(crate) held: BTreeMap<u32, u32>,
    /// The CPUs that its program may use.
    pub(crate) allowed: Vec<u32>,
}

/// A launch, and what it needs.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) cores: u32,
    /// Where they may lie: all on one of these nodes, or anywhere on them.
    pub(crate) nodes: Vec<u32>,
    pub(crate) spread: bool,
    pub(crate) allowed: Vec<u32>,
    /// The CPU that it comes from, and whether its core is one for it.
    pub(crate) cpu: u32,
    pub(crate) own_core: bool,
}

/// Who has a core.
#[derive(Clone, Copy, PartialEq)]
enum Has {
    Nobody,
    Claim(usize),
    Others,
}

impl Truth {
    /// Whether there was room for the launch at each moment, at the least; and at some moment, at
    /// the most. The claims are those that there may have been, and those that there were for sure.
    pub(crate) fn room(
        &self,
        machine: &[Core],
        wanted: &Wanted,
        may_be: &[Claim],
        are: &[Claim],
    ) -> (bool, bool) {
        let surely = |moment: &Moment| self.has_room(moment, machine, wanted, may_be, false);
        let maybe = |moment: &Moment| self.has_room(moment, machine, wanted, are, true);
        (
            self.moments.iter().all(surely),
            self.moments.iter().any(maybe),
        )
    }

    fn has_room(
        &self,
        moment: &Moment,
        machine: &[Core],
        wanted: &Wanted,
        claims: &[Claim],
        hopeful: bool,
    ) -> bool {
        let has: Vec<Has> = machine
            .iter()
            .map(|core| self.who_has(core, moment, wanted, claims, hopeful))
            .collect();
        let owed = owed(machine, &has, claims);
        let rooms = wanted
            .nodes
            .iter()
            .map(|&node| room_on(node, machine, &has, wanted, claims, &owed));
        let room = if wanted.spread {
            rooms.sum()
        } else {
            rooms.max().unwrap_or(0)
        };
        // Each of those who may be anywhere may take one.
        let nowhere = moment.waiting.iter().filter(|(_, on)| on.is_none());
        let anywhere = moment.on_their_way + nowhere.count();
        let taken = if hopeful { 0 } else { anywhere as u32 };
        room.saturating_sub(taken) >= wanted.cores
    }

    fn who_has(
        &self,
        core: &Core,
        moment: &Moment,
        wanted: &Wanted,
        claims: &[Claim],
        hopeful: bool,
    ) -> Has {
        let of = |pid: i32| claims.iter().position(|claim| claim.pids.contains(&pid));
        let mut has = Has::Nobody;
        for &cpu in &core.cpus {
            let at = cpu as usize;
            let pid = moment.running[at];
            let mut waits = moment.waiting.iter().filter(|(_, on)| *on == Some(at));
            // Who shares a CPU only with his own has it nevertheless.
            let shared = waits.any(|&(waits, _)| {
                cpu == wanted.cpu || of(waits).is_none() || of(waits) != pid.and_then(of)
            });
            if !hopeful && (shared || moment.aims.contains(&at)) {
                return Has::Others;
            }
            let here = if cpu == wanted.cpu {
                if wanted.own_core {
                    continue;
                }
                Has::Others
            } else if pid == Some(0) {
                continue;
            } else if let Some(claim) = pid.and_then(of) {
                Has::Claim(claim)
            } else if hopeful && self.soon_idle.contains(&at) {
                continue;
            } else {
                Has::Others
            };
            if here == Has::Others || (has != Has::Nobody && has != here) {
                return Has::Others;
            }
            has = here;
        }
        // The launcher runs here itself.
        if has != Has::Nobody && core.cpus.contains(&wanted.cpu) {
            return Has::Others;
        }
        has
    }
}

/// By claim and node: the cores that it has not got. What it has on a node where it holds fewer
/// stands for what it lacks on the first other one.
fn owed(machine: &[Core], has: &[Has], claims: &[Claim]) -> Vec<BTreeMap<u32, u32>> {
    let mut owed: Vec<_> = claims.iter().map(|claim| claim.held.clone()).collect();
    let mut more = vec![0; claims.len()];
    for (core, has) in machine.iter().zip(has) {
        if let Has::Claim(claim) = *has {
            match owed[claim].get_mut(&core.node) {
                Some(cores) if *cores > 0 => *cores -= 1,
                _ => more[claim] += 1,
            }
        }
    }
    for (owed, mut more) in owed.iter_mut().zip(more) {
        for cores in owed.values_mut() {
            let met = more.min(*cores);
            *cores -= met;
            more -= met;
        }
    }
    owed
}

/// How many cores of a node the launch can have, if no claim shall find fewer for that.
fn room_on(
    node: u32,
    machine: &[Core],
    has: &[Has],
    wanted: &Wanted,
    claims: &[Claim],
    owed: &[BTreeMap<u32, u32>],
) -> u32 {
    let free: Vec<&Core> = machine
        .iter()
        .zip(has)
        .filter(|(core, has)| core.node == node && **has == Has::Nobody)
        .map(|(core, _)| core)
        .collect();
    let usable = |allowed: &[u32]| -> Vec<usize> {
        let may = |core: &Core| core.cpus.iter().any(|cpu| allowed.contains(cpu));
        (0..free.len()).filter(|&i| may(free[i])).collect()
    };
    let mut given = vec![None; free.len()];
    let mut takers = Vec::new();
    let mut serve = |allowed: &[u32]| {
        takers.push(usable(allowed));
        let mut tried = vec![false; free.len()];
        let served = give(takers.len() - 1, &takers, &mut given, &mut tried);
        if !served {
            takers.pop();
        }
        served
    };
    for (claim, owed) in claims.iter().zip(owed) {
        for _ in 0..owed.get(&node).copied().unwrap_or(0) {
            serve(&claim.allowed);
        }
    }
    let mut room = 0;
    while serve(&wanted.allowed) {
        room += 1;
    }
    room
}

/// Gives a core to a taker, and others to those who had it, if that works: one more is served then
/// and nobody less.
fn give(
    taker: usize,
    takers: &[Vec<usize>],
    given: &mut [Option<usize>],
    tried: &mut Vec<bool>,
) -> bool {
    for &core in &takers[taker] {
        if std::mem::replace(&mut tried[core], true) {
            continue;
        }
        let free = match given[core] {
            None => true,
            Some(other) => give(other, takers, given, tried),
        };
        if free {
            given[core] = Some(taker);
            return true;
        }
    }
    false
}
