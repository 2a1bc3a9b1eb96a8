// SPDX-License-Identifier: GPL-2.0-only
//! From a record of the gate to an event.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use super::held::HeldRule;
use crate::gate::{Record, abi};
use crate::kernel::Source;
use crate::policy::{Effect, Errno, Hook, Mode, Verdict, Word};
use crate::report::{Claim, Core, CoreState, Cpu, CpuState, Ended, Event, Held, Honour, unit_of};

/// The event that a record is, with the rule that it names.
pub(super) fn event(record: &Record, rule: Option<HeldRule<'_>>) -> Event {
    let raw = &record.event;
    let cgroup = Some(abi::text(&raw.cgroup)).filter(|path| !path.is_empty());
    let details = record.details.as_deref();
    let hook = match raw.hook {
        abi::hook::HOOK_FORK => Hook::Fork,
        abi::hook::HOOK_THREAD => Hook::Thread,
        _ => Hook::Exec,
    };
    Event {
        time: wall_time(raw.time),
        id: raw.id,
        verdict: match raw.verdict {
            abi::verdict::VERDICT_ADMIT => Verdict::Admit,
            abi::verdict::VERDICT_DENY => Verdict::Deny,
            _ => Verdict::Unknown,
        },
        effect: match raw.effect {
            abi::effect::EFFECT_ADMITTED => Effect::Admitted,
            abi::effect::EFFECT_DENIED => Effect::Denied,
            _ => Effect::Logged,
        },
        rule: rule.map_or_else(|| format!("#{}", raw.rule), |rule| rule.name.to_owned()),
        origin: rule.map(|rule| rule.origin().to_string()),
        hook,
        pid: raw.pid,
        uid: raw.uid,
        gid: raw.gid,
        groups: raw.group.get(..raw.groups as usize).map(<[_]>::to_vec),
        comm: abi::text(&raw.comm),
        exe: abi::text(&raw.exe),
        argv: details.and_then(argv),
        parent: details.and_then(parent),
        unit: cgroup.as_deref().and_then(unit_of).map(str::to_owned),
        cgroup,
        container: raw.container != 0,
        cpu: raw.cpu,
        node: raw.node,
        cores_needed: raw.cores_needed,
        scope: rule.map(|rule| rule.scope().clone()),
        own_core: rule.map(|rule| rule.own_core(hook)),
        cores_free: raw.cores_free,
        cores_claimed: raw.cores_claimed,
        source: source(raw.source),
        errno: Errno::ALL
            .iter()
            .copied()
            .find(|errno| errno.number().unsigned_abs() == raw.err),
        mode: match raw.mode {
            abi::mode::MODE_ENFORCE => Mode::Enforce,
            _ => Mode::Observe,
        },
        generation: raw.generation,
        suppressed: raw.suppressed,
    }
}

/// The end of a claim by this rule; `None`: the rule is gone.
pub(super) fn ended(raw: &abi::claim_end, rule: Option<HeldRule<'_>>) -> Ended {
    Ended {
        time: wall_time(raw.time),
        rule: rule.map_or_else(
            || format!("#{:x}", raw.rule_key),
            |rule| rule.name.to_owned(),
        ),
        pid: raw.pid,
        held: Duration::from_nanos(raw.time.saturating_sub(raw.since)),
        honour: honour(raw.honour),
    }
}

/// How claims were honoured.
pub(super) fn honour(raw: abi::honour) -> Honour {
    Honour {
        samples: raw.samples,
        shared: raw.shared,
        ran_ns: raw.ran_ns,
        shared_ns: raw.shared_ns,
    }
}

fn argv(details: &abi::details) -> Option<Vec<String>> {
    if details.read & abi::shape::NEED_ARGS.0 == 0 {
        return None;
    }
    let args = details.arg.chunks(abi::limits::ARG_MAX.0 as usize);
    Some(args.take(details.args as usize).map(abi::text).collect())
}

fn parent(details: &abi::details) -> Option<String> {
    (details.read & abi::shape::NEED_PARENT.0 != 0).then(|| abi::text(&details.parent))
}

/// When it was so many nanoseconds of `CLOCK_BOOTTIME`, by the clocks as they are now.
fn wall_time(boot_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(since_boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return now;
    };
    let age = Duration::from(since_boot).saturating_sub(Duration::from_nanos(boot_ns));
    now.checked_sub(age).unwrap_or(now)
}

pub(super) fn source(raw: abi::source) -> Option<Source> {
    match raw {
        abi::source::SOURCE_NODE => Some(Source::Node),
        abi::source::SOURCE_FLAT => Some(Source::Flat),
        abi::source::SOURCE_RUNQUEUE => Some(Source::Runqueue),
        _ => None,
    }
}

/// What a core does; `name` knows rules by their keys.
pub(super) fn core(picture: &abi::picture, name: impl Fn(u64) -> Option<String>) -> Core {
    let cpus = 0..(picture.nr_cpus as usize).min(picture.cpu.len());
    let cpus: Vec<_> = cpus
        .map(|i| {
            let state = match abi::doing(picture.cpu_doing[i]) {
                abi::doing::DOING_NOTHING | abi::doing::DOING_ANSWER => CpuState::Idle,
                abi::doing::DOING_CLAIM => CpuState::Held,
                abi::doing::DOING_OFFLINE => CpuState::Offline,
                _ => CpuState::Busy,
            };
            let held = state == CpuState::Held;
            Cpu {
                cpu: picture.cpu[i],
                state,
                rule: held.then(|| name(picture.rule[i])).flatten(),
                pid: held.then_some(picture.pid[i]),
            }
        })
        .collect();
    Core {
        node: picture.node,
        state: match picture.doing {
            abi::doing::DOING_NOTHING => CoreState::Free,
            abi::doing::DOING_CLAIM => CoreState::Held,
            abi::doing::DOING_OFFLINE => CoreState::Offline,
            _ if cpus.iter().any(|cpu| cpu.state == CpuState::Held) => CoreState::Shared,
            _ => CoreState::Busy,
        },
        cpus,
    }
}

/// A live claim; likewise.
pub(super) fn claim(raw: &abi::live_claim, name: impl Fn(u64) -> Option<String>) -> Claim {
    let held = (0..).zip(raw.held).filter(|(_, cores)| *cores > 0);
    Claim {
        rule: name(raw.rule),
        pid: raw.pid,
        tid: raw.tid,
        comm: abi::text(&raw.comm),
        holds: held
            .map(|(node, cores)| Held {
                node,
                cores: cores.into(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
