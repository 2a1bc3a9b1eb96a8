// SPDX-License-Identifier: GPL-2.0-only
//! What stands in the gate's maps for a policy and a topology. Pure: nothing here touches
//! the kernel.

use std::collections::BTreeMap;

use super::abi;
use crate::policy::{Action, Exe, Hold, Hook, Mode, OnUnknown, Policy, Rule, Scope};
use crate::topology::Topology;

const FILTER_BITS: u32 = abi::limits::NAME_FILTER_BITS.0;
const EXE_MAX: usize = abi::limits::EXE_MAX.0 as usize;
const HOOKS: usize = abi::hook::HOOKS.0 as usize;
const NO_RULE: u32 = abi::limits::NO_RULE.0;
const NODES_MAX: u32 = abi::limits::NODES_MAX.0;
const CORE_CPUS_MAX: usize = abi::limits::CORE_CPUS_MAX.0 as usize;

/// The filter over names of exe files: one bit for each hash that occurs.
pub(super) type NameFilter = [u64; FILTER_BITS as usize / 64];

/// A policy as the gate reads it.
pub(super) struct PolicyTables {
    /// Mode and what an unknown verdict comes to.
    pub(super) settings: abi::settings,
    /// See [`NameFilter`].
    pub(super) name_filter: Box<NameFilter>,
    /// Hash of a path → what rules say of the exe.
    pub(super) exes: BTreeMap<u64, abi::exe>,
    /// Exe, hook and user → number of the first rule for them.
    pub(super) launches: Vec<(abi::launch_key, u32)>,
    /// The rules in file order, which is their number.
    pub(super) rules: Vec<abi::rule>,
    /// A bit for each hook that a rule watches.
    pub(super) watched: u32,
}

impl PolicyTables {
    /// Compiles a policy; `generation` is the number that it will have in events.
    pub(super) fn new(policy: &Policy, generation: u32) -> Self {
        let mut name_filter = Box::new([0; FILTER_BITS as usize / 64]);
        let mut exes: BTreeMap<&str, abi::exe> = BTreeMap::new();
        let mut launches = BTreeMap::new();
        let mut watched = 0;
        for (number, rule) in (0..).zip(&policy.rules) {
            for on in rule.on.iter().map(|&on| hook(on)) {
                watched |= 1 << on.0;
            }
            for Exe { file, .. } in &rule.selectors.exe {
                let next = exes.len() as u32;
                let exe = exes.entry(file).or_insert_with(|| new_exe(file, next));
                for on in rule.on.iter().map(|&on| hook(on).0) {
                    let any = &mut exe.any[on as usize];
                    if rule.selectors.user.is_empty() {
                        *any = number.min(*any);
                    }
                    for user in &rule.selectors.user {
                        exe.users = 1;
                        let launch = (exe.number, on, user.uid);
                        launches.entry(launch).or_insert(number);
                    }
                }
                let bit = name_bit(file.as_bytes());
                name_filter[bit as usize / 64] |= 1 << (bit % 64);
            }
        }
        let exes: Vec<_> = exes.into_values().collect();
        let (seed, exes) = by_hash(&exes);
        Self {
            settings: settings(policy, generation, seed),
            name_filter,
            exes,
            launches: launches
                .into_iter()
                .map(|((exe, hook, uid), number)| {
                    let hook = abi::hook(hook);
                    (abi::launch_key { exe, hook, uid }, number)
                })
                .collect(),
            rules: policy.rules.iter().map(compile).collect(),
            watched,
        }
    }
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
    let own_core = [Hook::Exec, Hook::Fork, Hook::Thread]
        .into_iter()
        .filter(|&on| rule.own_core(on))
        .fold(0, |bits, on| bits | 1 << hook(on).0);
    abi::rule {
        cores: rule.cores,
        action: match rule.action {
            Action::Deny => abi::action::ACTION_DENY,
            Action::Log => abi::action::ACTION_LOG,
            Action::Exempt => abi::action::ACTION_EXEMPT,
        },
        denial: -i64::from(rule.errno.number()),
        hold,
        scope,
        nodes,
        own_core,
        pad: 0,
        settle_ns: u64::try_from(settle.as_nanos()).unwrap_or(u64::MAX),
        key: rule_key(&rule.name),
    }
}

/// What claims know a rule by, in this policy and in later ones: FNV-1a over its name.
pub(super) fn rule_key(name: &str) -> u64 {
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

fn new_exe(path: &str, number: u32) -> abi::exe {
    let mut exe = abi::exe {
        any: [NO_RULE; HOOKS],
        number,
        ..Default::default()
    };
    exe.path[..path.len()].copy_from_slice(path.as_bytes());
    exe
}

/// The exes by the hashes of their paths, and the first seed with which these all differ.
fn by_hash(exes: &[abi::exe]) -> (u64, BTreeMap<u64, abi::exe>) {
    (0..)
        .map(|seed| {
            let hash = |exe: &abi::exe| (path_hash(&exe.path, seed), *exe);
            (seed, exes.iter().map(hash).collect::<BTreeMap<_, _>>())
        })
        .find(|(_, map)| map.len() == exes.len())
        .unwrap_or_default()
}

/// The twin of the hash in `finish_path()` of `bpf/match.bpf.h`.
fn path_hash(path: &[u8; EXE_MAX], seed: u64) -> u64 {
    let (words, _) = path.as_chunks();
    let len = path.iter().take_while(|&&byte| byte != 0).count();
    // The last of them has the NUL.
    words.iter().take(len / 8 + 1).fold(seed, |hash, word| {
        (hash ^ u64::from_ne_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

fn settings(policy: &Policy, generation: u32, seed: u64) -> abi::settings {
    abi::settings {
        mode: match policy.mode {
            Mode::Enforce => abi::mode::MODE_ENFORCE,
            Mode::Observe => abi::mode::MODE_OBSERVE,
        },
        on_unknown: match policy.on_unknown {
            OnUnknown::Deny => abi::action::ACTION_DENY,
            OnUnknown::Admit => abi::action::ACTION_LOG,
        },
        generation,
        pad: 0,
        seed,
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

/// A topology as the gate reads it: one half of its maps.
pub(super) struct TopologyTables {
    /// By node number; a number without a node has no cores.
    pub(super) nodes: Vec<abi::node>,
    /// The cores of the nodes, one node after the other.
    pub(super) cores: Vec<abi::core>,
    /// By CPU number: that of its core plus 1; 0 if no core has it.
    pub(super) core_of: Vec<u32>,
}

impl TopologyTables {
    /// Compiles a topology.
    ///
    /// # Errors
    ///
    /// A core with more threads, or a node of a higher number, than the gate's types can hold,
    /// in words.
    pub(super) fn new(topology: &Topology) -> Result<Self, String> {
        let mut nodes = vec![abi::node::default(); node_ids(topology) as usize];
        let mut cores = Vec::new();
        let mut core_of = vec![0; topology.possible as usize];
        for node in &topology.nodes {
            let Some(entry) = nodes.get_mut(node.id as usize) else {
                return Err(format!(
                    "there is a node {}; coregate knows nodes up to {}",
                    node.id,
                    NODES_MAX - 1
                ));
            };
            *entry = abi::node {
                first_core: cores.len() as u32,
                nr_cores: node.cores.len() as u32,
            };
            for core in &node.cores {
                let mut entry = abi::core {
                    node: node.id,
                    nr_cpus: core.cpus.len() as u32,
                    cpu: [0; CORE_CPUS_MAX],
                };
                let Some(cpus) = entry.cpu.get_mut(..core.cpus.len()) else {
                    return Err(format!(
                        "the core of CPU {} has {} threads; coregate knows cores of up to {CORE_CPUS_MAX}",
                        core.cpus[0],
                        core.cpus.len(),
                    ));
                };
                cpus.copy_from_slice(&core.cpus);
                cores.push(entry);
                for &cpu in &core.cpus {
                    core_of[cpu as usize] = cores.len() as u32;
                }
            }
        }
        Ok(Self {
            nodes,
            cores,
            core_of,
        })
    }
}

/// Node numbers that the gate has room for, of those that can come.
pub(super) fn node_ids(topology: &Topology) -> u32 {
    topology.possible_nodes.clamp(1, NODES_MAX)
}

#[cfg(test)]
mod tests;
