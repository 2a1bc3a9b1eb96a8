// SPDX-License-Identifier: GPL-2.0-only
//! What stands in the gate's maps for a topology. Pure: nothing here touches the kernel.

use super::abi;
use crate::topology::Topology;

const NODES_MAX: u32 = abi::claim_limits::NODES_MAX.0;
const CORE_CPUS_MAX: usize = abi::limits::CORE_CPUS_MAX.0 as usize;

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
