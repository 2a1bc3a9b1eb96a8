// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::topology::{Core, Node};

#[test]
fn nodes_stand_at_their_numbers_and_cores_one_node_after_the_other() {
    let core = |cpus: &[u32]| Core { cpus: cpus.into() };
    let topology = Topology {
        nodes: vec![
            Node {
                id: 0,
                cores: vec![core(&[0, 4]), core(&[1])],
            },
            Node {
                id: 3,
                cores: vec![core(&[2, 6])],
            },
        ],
        possible: 8,
        possible_nodes: 4,
    };
    let tables = TopologyTables::new(&topology).unwrap();
    let nodes: Vec<_> = tables
        .nodes
        .iter()
        .map(|node| (node.first_core, node.nr_cores))
        .collect();
    assert_eq!(nodes, [(0, 2), (0, 0), (0, 0), (2, 1)]);
    assert_eq!(tables.core_of, [1, 2, 3, 0, 1, 0, 3, 0]);
    assert_eq!(tables.cores.len(), 3);
    assert_eq!(tables.cores[0].cpu[..2], [0, 4]);
    assert_eq!(tables.cores[1].nr_cpus, 1);
    assert_eq!(tables.cores[2].cpu[..2], [2, 6]);
}

#[test]
fn a_core_with_too_many_threads_is_refused() {
    let topology = Topology {
        nodes: vec![Node {
            id: 0,
            cores: vec![Core {
                cpus: (0..9).collect(),
            }],
        }],
        possible: 9,
        possible_nodes: 1,
    };
    let error = TopologyTables::new(&topology).err().unwrap();
    assert!(error.contains("9 threads"), "{error}");
}
