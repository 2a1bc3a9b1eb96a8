// SPDX-License-Identifier: GPL-2.0-only
use std::fs;

use tempfile::TempDir;

use super::*;

/// A sysfs with these files under `devices/system`.
fn sysfs(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join("devices/system").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    root
}

/// A machine: its CPU lists, and the siblings of each online CPU.
fn machine(
    possible: &str,
    online: &str,
    nodes: &[(u32, &str)],
    cores: &[&str],
) -> Result<Topology, Error> {
    let ids: Vec<String> = nodes.iter().map(|(id, _)| id.to_string()).collect();
    let mut files = vec![
        ("cpu/possible".to_string(), possible.to_string()),
        ("cpu/online".into(), online.into()),
    ];
    if !nodes.is_empty() {
        files.push(("node/online".into(), ids.join(",")));
        files.push(("node/possible".into(), ids.join(",")));
    }
    for (id, cpus) in nodes {
        files.push((format!("node/node{id}/cpulist"), cpus.to_string()));
    }
    for core in cores {
        for cpu in parse_cpulist(core).unwrap() {
            files.push((
                format!("cpu/cpu{cpu}/topology/core_cpus_list"),
                core.to_string(),
            ));
        }
    }
    let files: Vec<_> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    Topology::read(sysfs(&files).path())
}

fn cores(lists: &[&[u32]]) -> Vec<Core> {
    lists
        .iter()
        .map(|cpus| Core {
            cpus: cpus.to_vec(),
        })
        .collect()
}

#[test]
fn two_nodes_two_threads() {
    let topology = machine(
        "0-7",
        "0-7",
        &[(0, "0-3"), (1, "4-7")],
        &["0-1", "2-3", "4-5", "6-7"],
    )
    .unwrap();
    assert_eq!(
        topology,
        Topology {
            nodes: vec![
                Node {
                    id: 0,
                    cores: cores(&[&[0, 1], &[2, 3]])
                },
                Node {
                    id: 1,
                    cores: cores(&[&[4, 5], &[6, 7]])
                },
            ],
            possible: 8,
            possible_nodes: 2,
        }
    );
    assert_eq!(topology.nodes[1].cores[0].leader(), 4);
}

/// How most real servers number threads: siblings half the machine apart.
#[test]
fn siblings_apart_and_nodes_interleaved() {
    let topology = machine(
        "0-7",
        "0-7",
        &[(0, "0,2,4,6"), (1, "1,3,5,7")],
        &["0,4", "1,5", "2,6", "3,7"],
    )
    .unwrap();
    assert_eq!(topology.nodes[0].cores, cores(&[&[0, 4], &[2, 6]]));
    assert_eq!(topology.nodes[1].cores, cores(&[&[1, 5], &[3, 7]]));
}

#[test]
fn smt_off() {
    // Offline threads keep no topology folder, and possible keeps their place.
    let topology = machine("0-7", "0,2,4,6", &[(0, "0,2,4,6")], &["0", "2", "4", "6"]).unwrap();
    assert_eq!(topology.nodes[0].cores, cores(&[&[0], &[2], &[4], &[6]]));
    assert_eq!(topology.possible, 8);
}

#[test]
fn four_and_eight_threads() {
    let topology = machine("0-7", "0-7", &[(0, "0-7")], &["0-3", "4-7"]).unwrap();
    assert_eq!(
        topology.nodes[0].cores,
        cores(&[&[0, 1, 2, 3], &[4, 5, 6, 7]])
    );
    let topology = machine("0-7", "0-7", &[(0, "0-7")], &["0-7"]).unwrap();
    assert_eq!(topology.nodes[0].cores.len(), 1);
}

/// The lowest thread may be the offline one; then the next leads.
#[test]
fn offline_siblings_are_left_out() {
    let topology = machine("0-3", "1-3", &[(0, "1-3")], &["0-1", "2-3"]).unwrap();
    assert_eq!(topology.nodes[0].cores, cores(&[&[1], &[2, 3]]));
}

#[test]
fn hybrid_cores() {
    let topology = machine("0-5", "0-5", &[(0, "0-5")], &["0-1", "2-3", "4", "5"]).unwrap();
    assert_eq!(
        topology.nodes[0].cores,
        cores(&[&[0, 1], &[2, 3], &[4], &[5]])
    );
}

#[test]
fn gaps_in_numbers_and_nodes_without_cpus() {
    let topology = machine(
        "0-1023",
        "8-9,64-65",
        &[(0, ""), (3, "64-65"), (17, "8-9")],
        &["8-9", "64-65"],
    )
    .unwrap();
    assert_eq!(
        topology.nodes,
        [
            Node {
                id: 3,
                cores: cores(&[&[64, 65]])
            },
            Node {
                id: 17,
                cores: cores(&[&[8, 9]])
            },
        ]
    );
    assert_eq!(topology.possible, 1024);
}

#[test]
fn no_numa() {
    let topology = machine("0-3", "0-3", &[], &["0-1", "2-3"]).unwrap();
    assert_eq!(
        topology.nodes,
        [Node {
            id: 0,
            cores: cores(&[&[0, 1], &[2, 3]])
        }]
    );
}

#[test]
fn old_name_of_the_sibling_list() {
    let root = sysfs(&[
        ("cpu/possible", "0-1"),
        ("cpu/online", "0-1"),
        ("cpu/cpu0/topology/thread_siblings_list", "0-1"),
        ("cpu/cpu1/topology/thread_siblings_list", "0-1"),
    ]);
    let topology = Topology::read(root.path()).unwrap();
    assert_eq!(topology.nodes[0].cores, cores(&[&[0, 1]]));
}

#[test]
fn errors_name_the_file() {
    let cases = [
        (
            machine("0-1", "", &[], &[]),
            "cpu/online holds \"\": no CPU is online",
        ),
        (
            machine("0-1", "1-0", &[], &[]),
            "cpu/online holds \"1-0\": the range 1-0 goes backwards",
        ),
        (
            machine("0-1", "0,x", &[], &[]),
            "cpu/online holds \"0,x\": \"x\" is not a number",
        ),
        (
            machine("0-1", "0-4294967295", &[], &[]),
            "4294967295 is more than 65535",
        ),
        (
            machine("0-1", "0-1", &[], &["0"]),
            "cpu1/topology/core_cpus_list: ",
        ),
        (
            machine("", "0", &[(0, "1")], &["0"]),
            "no node of these has the online CPU 0",
        ),
    ];
    for (result, expected) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_core_without_its_own_cpu_is_refused() {
    let root = sysfs(&[
        ("cpu/possible", "0-1"),
        ("cpu/online", "0-1"),
        ("cpu/cpu0/topology/core_cpus_list", "1"),
    ]);
    let error = Topology::read(root.path()).unwrap_err().to_string();
    assert!(error.contains("CPU 0 itself is not among them"), "{error}");
}

#[test]
fn this_machine() {
    let topology = Topology::read(Path::new(SYSFS)).unwrap();
    assert!(topology.nodes.iter().all(|node| !node.cores.is_empty()));
    let highest = topology
        .nodes
        .iter()
        .flat_map(|node| &node.cores)
        .flat_map(|core| &core.cpus);
    assert!(highest.max().unwrap() < &topology.possible);
}

/// One node with these cores, of a machine that can have eight CPUs.
fn nodes(nodes: &[(u32, &[&[u32]])]) -> Topology {
    Topology {
        nodes: nodes
            .iter()
            .map(|&(id, lists)| Node {
                id,
                cores: cores(lists),
            })
            .collect(),
        possible: 8,
        possible_nodes: 2,
    }
}

#[test]
fn cpus_that_went_offline_stay_with_their_cores() {
    let seen = nodes(&[(0, &[&[0, 4], &[1, 5]]), (1, &[&[2, 6], &[3, 7]])]);
    let cases = [
        ("nothing changed", seen.clone(), seen.clone()),
        (
            "second threads, or the first of a core, are offline",
            nodes(&[(0, &[&[0], &[5]]), (1, &[&[2], &[3, 7]])]),
            seen.clone(),
        ),
        (
            "whole cores are offline",
            nodes(&[(0, &[&[1, 5]]), (1, &[&[2, 6]])]),
            seen.clone(),
        ),
        (
            "a whole node is offline",
            nodes(&[(1, &[&[2, 6], &[3, 7]])]),
            seen.clone(),
        ),
        (
            "CPUs came back with other siblings",
            nodes(&[(0, &[&[0, 5], &[1, 4]]), (1, &[&[2, 6], &[3, 7]])]),
            nodes(&[(0, &[&[0, 5], &[1, 4]]), (1, &[&[2, 6], &[3, 7]])]),
        ),
        (
            "their old ones are offline, and stay with them",
            nodes(&[(0, &[&[0, 5]]), (1, &[&[2, 6], &[3, 7]])]),
            nodes(&[(0, &[&[0, 1, 4, 5]]), (1, &[&[2, 6], &[3, 7]])]),
        ),
        (
            "a core came back on the other node",
            nodes(&[(0, &[&[0, 4]]), (1, &[&[1], &[2, 6], &[3, 7]])]),
            nodes(&[(0, &[&[0, 4]]), (1, &[&[1, 5], &[2, 6], &[3, 7]])]),
        ),
        (
            "there are new CPUs and a new node",
            nodes(&[(0, &[&[0, 4]]), (5, &[&[8, 9]])]),
            nodes(&[
                (0, &[&[0, 4], &[1, 5]]),
                (1, &[&[2, 6], &[3, 7]]),
                (5, &[&[8, 9]]),
            ]),
        ),
    ];
    for (what, online, expected) in cases {
        assert_eq!(online.and_offline_of(&seen), expected, "{what}");
    }
}

/// What was offline is known as long as the daemon lives, through every step.
#[test]
fn offline_cpus_are_known_after_many_steps() {
    let all = nodes(&[(0, &[&[0, 4], &[1, 5]])]);
    let mut seen = all.clone();
    for online in [
        nodes(&[(0, &[&[0], &[1]])]),
        nodes(&[(0, &[&[0]])]),
        nodes(&[(0, &[&[5]])]),
        all.clone(),
    ] {
        seen = online.and_offline_of(&seen);
        assert_eq!(seen, all, "{online}");
    }
}

#[test]
fn it_is_shown_in_numbers() {
    let shown = nodes(&[(0, &[&[0, 4], &[1]]), (3, &[&[2, 6]])]).to_string();
    assert_eq!(shown, "2 nodes, 3 cores, 5 CPUs");
    assert_eq!(nodes(&[(0, &[&[0]])]).to_string(), "1 node, 1 core, 1 CPU");
}
