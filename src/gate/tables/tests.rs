// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::policy::{Errno, Exe, Hold, Hook, Origin, Rule, Scope, Selectors, User};
use crate::topology::{Core, Node};

fn rule(name: &str, exe: &str, uid: Option<u32>) -> Rule {
    Rule {
        name: name.into(),
        selectors: Selectors {
            exe: vec![Exe {
                text: format!("/link/to{exe}"),
                file: exe.into(),
            }],
            user: uid
                .map(|uid| User { uid, name: None })
                .into_iter()
                .collect(),
        },
        on: vec![Hook::Exec],
        cores: 1,
        scope: Scope::Node,
        own_core: None,
        hold: Hold::Exit,
        action: Action::Deny,
        errno: Errno::Ebusy,
        origin: Origin {
            file: "p.toml".into(),
            line: 1,
        },
    }
}

fn tables(rules: Vec<Rule>) -> PolicyTables {
    PolicyTables::new(
        &Policy {
            mode: Mode::Enforce,
            on_unknown: OnUnknown::Deny,
            rules,
        },
        7,
    )
}

#[test]
fn the_first_rule_for_an_exe_and_a_user_stands() {
    let tables = tables(vec![
        rule("a", "/bin/x", Some(5)),
        rule("b", "/bin/x", None),
        rule("c", "/bin/x", Some(5)),
        rule("d", "/bin/y", None),
        rule("e", "/bin/x", None),
    ]);
    let exe = |path: &str| {
        tables
            .exes
            .values()
            .find(|exe| abi::text(&exe.path) == path)
            .unwrap()
    };
    let (x, y) = (exe("/bin/x"), exe("/bin/y"));
    assert_eq!(x.any, [1, NO_RULE, NO_RULE]);
    assert_eq!(y.any, [3, NO_RULE, NO_RULE]);
    assert_eq!((x.users, y.users), (1, 0));
    let users: Vec<_> = tables
        .launches
        .iter()
        .map(|(key, number)| (key.exe, key.hook, key.uid, *number))
        .collect();
    assert_eq!(users, [(x.number, abi::hook::HOOK_EXEC, 5, 0)]);
    assert_eq!(tables.watched, 1 << abi::hook::HOOK_EXEC.0);
    assert_eq!(tables.rules.len(), 5);
    assert!(
        tables.rules.iter().all(|rule| rule.denial == -16),
        "{:?}",
        tables.rules
    );
    assert_eq!(tables.settings.generation, 7);
}

#[test]
fn each_hook_has_its_own_first_rule() {
    let on = |name: &str, on: &[Hook]| Rule {
        on: on.into(),
        ..rule(name, "/bin/x", None)
    };
    let tables = tables(vec![
        on("a", &[Hook::Thread]),
        on("b", &[Hook::Fork, Hook::Thread]),
    ]);
    let any: Vec<_> = tables.exes.values().map(|exe| exe.any).collect();
    assert_eq!(any, [[NO_RULE, 1, 0]]);
    assert_eq!(tables.watched, 0b110);
}

#[test]
fn a_rule_says_where_and_how_long_it_holds() {
    let tables = tables(vec![
        Rule {
            scope: Scope::Nodes(vec![0, 3, 63, 64]),
            hold: Hold::Settle(std::time::Duration::from_millis(250)),
            own_core: Some(true),
            ..rule("a", "/bin/x", None)
        },
        Rule {
            scope: Scope::Any,
            hold: Hold::None,
            ..rule("b", "/bin/y", None)
        },
    ]);
    let [a, b] = &tables.rules[..] else { panic!() };
    assert_eq!(a.scope, abi::scope::SCOPE_SPREAD);
    assert_eq!(a.nodes, 1 << 63 | 0b1001);
    assert_eq!((a.hold, a.settle_ns), (abi::hold::HOLD_SETTLE, 250_000_000));
    assert_eq!((a.own_core, b.own_core), (0b111, 0b001));
    assert_eq!((b.scope, b.nodes), (abi::scope::SCOPE_ANY, u64::MAX));
    assert_eq!(b.hold, abi::hold::HOLD_NONE);
}

#[test]
fn paths_have_different_hashes() {
    const PATH: &str = "/usr/bin/x";
    let exe = |path: &str| new_exe(path, 0);
    let (a, b) = (exe(PATH), exe("/usr/bin/y"));
    let (_, map) = by_hash(&[a, b]);
    assert_eq!(map.len(), 2);
    for place in 0..=PATH.len() {
        let mut other = a;
        other.path[place] ^= 0x80;
        assert_ne!(
            path_hash(&other.path, 0),
            path_hash(&a.path, 0),
            "byte {place}"
        );
    }
}

#[test]
fn the_filter_has_the_bit_of_each_name_and_no_other() {
    let tables = tables(vec![
        rule("a", "/opt/exchange/matcher", None),
        rule("b", "/bin/x", None),
    ]);
    let set: u32 = tables
        .name_filter
        .iter()
        .map(|word| word.count_ones())
        .sum();
    assert_eq!(set, 2);
    assert_eq!(
        name_bit(b"/other/folder/matcher"),
        name_bit(b"/opt/exchange/matcher")
    );
    assert_ne!(name_bit(b"/bin/x"), name_bit(b"/bin/y"));
    // Names that agree in their first 8 bytes are told apart by their length.
    assert_ne!(name_bit(b"/bin/matcher-a"), name_bit(b"/bin/matcher-ab"));
    // Names that differ in one of the bytes that count.
    for place in 0..8 {
        let mut name = *b"/bin/matchers";
        name["/bin/".len() + place] = b'_';
        assert_ne!(name_bit(&name), name_bit(b"/bin/matchers"), "byte {place}");
    }
}

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
