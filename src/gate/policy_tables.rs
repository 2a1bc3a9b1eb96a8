// SPDX-License-Identifier: GPL-2.0-only
//! What stands in the gate's maps for a policy: one half of them. Pure: nothing here touches the
//! kernel.

mod keys;
mod slots;
mod strings;

use std::time::Duration;

use super::abi;
use crate::policy::{
    Action, Hold, Hook, Isolation, LeaseEnd, Mode, OnUnknown, Pattern, Policy, Reserve, Rule,
    Scope, Word,
};
use keys::Keys;
use slots::Slots;
use strings::Strings;

const FILTER_BITS: u32 = abi::limits::NAME_FILTER_BITS.0;
const NODES_MAX: u32 = abi::claim_limits::NODES_MAX.0;

const NSEC_PER_SEC: u64 = 1_000_000_000;

/// How many seeds are tried.
const SEEDS: u64 = 100;

/// The multiplier of all hashes; `MULTIPLIER` of `bpf/strings.bpf.h`.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash with one more part; `hash_next()` of `bpf/strings.bpf.h`.
fn hash_next(hash: u64, part: u64) -> u64 {
    let hash = (hash ^ part).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 32)
}

/// The filter over names of exe files: one bit for each hash that occurs.
pub(super) type NameFilter = [u64; FILTER_BITS as usize / 64];

/// A policy as the gate reads it. Numbers of entries are those in the half that it is for.
pub(super) struct PolicyTables {
    /// What holds for all rules.
    pub(super) settings: abi::settings,
    /// See [`NameFilter`].
    pub(super) name_filter: Box<NameFilter>,
    /// See [`strings::Lengths`].
    pub(super) lengths: strings::Lengths,
    /// By hash.
    pub(super) strings: Vec<abi::string>,
    /// The bytes of strings, in words.
    pub(super) pool: Vec<u64>,
    /// What stands behind the `*` of globs.
    pub(super) suffixes: Vec<abi::suffix>,
    /// By hash.
    pub(super) keys: Vec<abi::key>,
    /// The rules of each key.
    pub(super) candidates: Vec<abi::candidate>,
    /// What must hold beside a key.
    pub(super) literals: Vec<abi::literal>,
    /// The rules in file order, which is their number.
    pub(super) rules: Vec<abi::rule>,
}

impl PolicyTables {
    /// Compiles a policy; `generation` is the number that it will have in events, and says which
    /// half it is for.
    pub(super) fn new(policy: &Policy, generation: u32) -> Self {
        let half = generation & 1;
        let mut name_filter = Box::new([0; FILTER_BITS as usize / 64]);
        let (mut watched, mut unfiltered) = (0, 0);
        let mut strings = Strings::default();
        let mut keys = Keys::default();
        for (number, rule) in (0..).zip(&policy.rules) {
            let hooks = hook_bits(rule.on.iter().copied());
            watched |= hooks;
            let exes = &rule.selectors.exe;
            if exes.is_empty() {
                unfiltered |= hooks;
            }
            for exe in exes {
                if let Pattern::Exact(path) = &exe.resolved {
                    let bit = name_bit(path.as_bytes());
                    name_filter[bit as usize / 64] |= 1 << (bit % 64);
                } else {
                    unfiltered |= hooks;
                }
            }
            keys.add(number, rule, hooks, &mut strings);
        }
        // With slots for twice as many, entries are near their own under nearly every seed.
        let (seed, by_hash, keys_by_hash) = (0..SEEDS)
            .find_map(|seed| {
                Some((
                    seed,
                    strings.slots(half, seed)?,
                    Slots::new(keys.keys(half), |key| keys::hash(key, seed))?,
                ))
            })
            .expect("no policy is made for collisions under every seed");
        let lease = policy.lease.filter(|lease| lease.end != LeaseEnd::Keep);
        let (open_cores, open_percent) = match policy.companion.reserve {
            Reserve::Cores(cores) => (u32::try_from(cores).unwrap_or(u32::MAX), 0),
            Reserve::Percent(percent) => (0, percent as u32),
        };
        Self {
            settings: abi::settings {
                mode: match policy.mode {
                    Mode::Enforce => abi::mode::MODE_ENFORCE,
                    Mode::Observe => abi::mode::MODE_OBSERVE,
                },
                on_unknown: match policy.on_unknown() {
                    OnUnknown::Deny => abi::action::ACTION_DENY,
                    OnUnknown::Admit => abi::action::ACTION_LOG,
                },
                generation,
                watched,
                unfiltered,
                shapes: keys.shapes(),
                kinds: strings.kinds(),
                string_mask: by_hash.mask(),
                key_mask: keys_by_hash.mask(),
                lease_mode: lease.map_or(abi::mode::MODE_OBSERVE, |lease| match lease.end {
                    LeaseEnd::Detach => abi::mode::MODE_OFF,
                    _ => abi::mode::MODE_OBSERVE,
                }),
                lease_ns: lease.map_or(0, |lease| lease.time.as_nanos() as u64),
                event_interval_ns: match policy.event_rate {
                    0 => 0,
                    rate => NSEC_PER_SEC / u64::from(rate),
                },
                open_cores,
                open_percent,
                seed,
            },
            name_filter,
            lengths: strings.lengths(),
            strings: by_hash.into_entries(),
            pool: strings.pool(),
            suffixes: strings.suffixes(half),
            keys: keys_by_hash.into_entries(),
            candidates: keys.candidates(half),
            literals: keys.literals,
            rules: policy.rules.iter().map(compile).collect(),
        }
    }
}

fn hook_bits(hooks: impl Iterator<Item = Hook>) -> u32 {
    hooks.fold(0, |bits, on| bits | 1 << hook(on).0)
}

fn compile(rule: &Rule) -> abi::rule {
    let (hold, settle) = match rule.hold {
        Hold::Exit => (abi::hold::HOLD_EXIT, Default::default()),
        Hold::Settle(time) => (abi::hold::HOLD_SETTLE, time),
        Hold::None => (abi::hold::HOLD_NONE, Default::default()),
    };
    let (scope, nodes) = match &rule.scope {
        Scope::Node => (abi::scope::SCOPE_NODE, u64::MAX),
        Scope::Any => (abi::scope::SCOPE_ANY, u64::MAX),
        Scope::Spread => (abi::scope::SCOPE_SPREAD, u64::MAX),
        Scope::Nodes(list) => {
            let known = list.iter().filter(|&&node| node < NODES_MAX);
            let nodes = known.fold(0, |nodes, node| nodes | 1 << node);
            (abi::scope::SCOPE_SPREAD, nodes)
        }
    };
    let own_core = Hook::ALL.iter().copied().filter(|&on| rule.own_core(on));
    abi::rule {
        cores: rule.cores,
        action: match rule.action {
            Action::Deny => abi::action::ACTION_DENY,
            Action::Log => abi::action::ACTION_LOG,
            Action::Exempt => abi::action::ACTION_EXEMPT,
        },
        denial: -i64::from(rule.errno().number()),
        hold,
        scope,
        nodes,
        own_core: hook_bits(own_core),
        isolation: match rule.isolation {
            Isolation::None => abi::isolation::ISOLATION_NONE,
            Isolation::Prefer => abi::isolation::ISOLATION_PREFER,
            Isolation::Strict => abi::isolation::ISOLATION_STRICT,
        },
        settle_ns: nanoseconds(settle),
        keep_ns: nanoseconds(rule.keep),
        key: rule_key(&rule.name),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What claims know a rule by, in this policy and in later ones: FNV-1a over its name.
pub fn rule_key(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

fn hook(hook: Hook) -> abi::hook {
    match hook {
        Hook::Exec => abi::hook::HOOK_EXEC,
        Hook::Fork => abi::hook::HOOK_FORK,
        Hook::Thread => abi::hook::HOOK_THREAD,
    }
}

/// The twin of `name_bit()` in `bpf/match.bpf.h`, for the last component of a path.
fn name_bit(path: &[u8]) -> u32 {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let mut head = [0; 8];
    let len = name.len().min(8);
    head[..len].copy_from_slice(&name[..len]);
    let hash = (u64::from_le_bytes(head) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash / (u64::MAX / u64::from(FILTER_BITS) + 1)) as u32
}

#[cfg(test)]
mod tests;
