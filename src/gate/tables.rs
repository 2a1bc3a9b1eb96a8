// SPDX-License-Identifier: GPL-2.0-only
//! What stands in the gate's maps for a policy and a topology. Pure: nothing here touches
//! the kernel.

use std::collections::BTreeMap;

use super::abi;
use crate::policy::{Action, Mode, OnUnknown, Policy};
use crate::topology::Topology;

const FILTER_BITS: u32 = abi::limits::NAME_FILTER_BITS.0;
const EXE_MAX: usize = abi::limits::EXE_MAX.0 as usize;
const CORE_CPUS_MAX: usize = abi::limits::CORE_CPUS_MAX.0 as usize;

/// The filter over names of exe files: one bit for each hash that occurs.
pub(super) type NameFilter = [u64; FILTER_BITS as usize / 64];

/// A policy as the gate reads it.
pub(super) struct PolicyTables {
    /// Mode and what an unknown verdict comes to.
    pub(super) settings: abi::settings,
    /// See [`NameFilter`].
    pub(super) name_filter: Box<NameFilter>,
    /// Path → number of the exe, from 0.
    pub(super) exes: Vec<(abi::exe_key, u32)>,
    /// Exe and user → number of the first rule for both.
    pub(super) launches: Vec<(abi::launch_key, u32)>,
    /// The rules in file order, which is their number.
    pub(super) rules: Vec<abi::rule>,
}

impl PolicyTables {
    /// Compiles a policy; `generation` is the number that it will have in events.
    pub(super) fn new(policy: &Policy, generation: u32) -> Self {
        let mut name_filter = Box::new([0; FILTER_BITS as usize / 64]);
        let mut exes = BTreeMap::new();
        let mut launches = BTreeMap::new();
        for (number, rule) in (0..).zip(&policy.rules) {
            let next = exes.len() as u32;
            let exe = *exes.entry(rule.file.as_str()).or_insert(next);
            let uid = rule
                .user
                .as_ref()
                .map_or(abi::limits::ANY_UID.0, |user| user.uid);
            launches.entry((exe, uid)).or_insert(number);
            let bit = name_bit(rule.file.as_bytes());
            name_filter[bit as usize / 64] |= 1 << (bit % 64);
        }
        Self {
            settings: settings(policy, generation),
            name_filter,
            exes: exes
                .into_iter()
                .map(|(path, number)| (exe_key(path), number))
                .collect(),
            launches: launches
                .into_iter()
                .map(|((exe, uid), number)| (abi::launch_key { exe, uid }, number))
                .collect(),
            rules: policy
                .rules
                .iter()
                .map(|rule| abi::rule {
                    cores: rule.cores,
                    action: match rule.action {
                        Action::Deny => abi::action::ACTION_DENY,
                        Action::Log => abi::action::ACTION_LOG,
                    },
                    denial: -i64::from(rule.errno.number()),
                })
                .collect(),
        }
    }
}

fn settings(policy: &Policy, generation: u32) -> abi::settings {
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
    }
}

fn exe_key(path: &str) -> abi::exe_key {
    let mut key = abi::exe_key { path: [0; EXE_MAX] };
    key.path[..path.len()].copy_from_slice(path.as_bytes());
    key
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

/// A topology as the gate reads it.
pub(super) struct TopologyTables {
    /// By node number; a number without a node has no cores.
    pub(super) nodes: Vec<abi::node>,
    /// The cores of the nodes, one node after the other.
    pub(super) cores: Vec<abi::core>,
    /// Highest CPU number plus one.
    pub(super) nr_cpu_ids: u32,
}

impl TopologyTables {
    /// Compiles a topology.
    ///
    /// # Errors
    ///
    /// A core with more threads than the gate's type for a core can hold, in words.
    pub(super) fn new(topology: &Topology) -> Result<Self, String> {
        let count = topology
            .nodes
            .iter()
            .map(|node| node.id + 1)
            .max()
            .unwrap_or(1);
        let mut nodes = vec![abi::node::default(); count as usize];
        let mut cores = Vec::new();
        for node in &topology.nodes {
            nodes[node.id as usize] = abi::node {
                first_core: cores.len() as u32,
                nr_cores: node.cores.len() as u32,
            };
            for core in &node.cores {
                let mut entry = abi::core {
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
            }
        }
        Ok(Self {
            nodes,
            cores,
            nr_cpu_ids: topology.possible,
        })
    }
}

#[cfg(test)]
mod tests;
