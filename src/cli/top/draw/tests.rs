// SPDX-License-Identifier: GPL-2.0-only
use std::time::{Duration, Instant, SystemTime};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::*;
use crate::cli::top::Sight;
use crate::cli::top::view::Next;
use crate::report::{Core, Cores, Cpu, CpuState, Held, Node, Rule, Scheduler, Status};

/// A core of two threads.
fn core(node: u32, first: u32, state: CoreState, cpus: [CpuState; 2]) -> Core {
    let cpus = [first, first + 1]
        .into_iter()
        .zip(cpus)
        .map(|(cpu, state)| Cpu {
            cpu,
            state,
            rule: (state == CpuState::Held).then(|| "cache".into()),
            pid: (state == CpuState::Held).then_some(117),
        });
    Core {
        node,
        state,
        cpus: cpus.collect(),
    }
}

fn rule(name: &str, launches: u64, denied: u64) -> Rule {
    Rule {
        name: name.into(),
        launches,
        denied,
        ..Rule::default()
    }
}

fn event(rule: &str) -> Event {
    let text = r#"{"time": "2026-03-01T12:00:05Z", "id": 1, "verdict": "deny", "effect": "denied",
        "rule": "cache", "origin": null, "hook": "exec", "pid": 4242, "uid": 0, "gid": 0,
        "groups": [], "comm": "sh", "exe": "/usr/bin/redis-server", "argv": null, "parent": null,
        "unit": null, "cgroup": null, "container": false, "cpu": 1, "node": 1, "cores_needed": 1,
        "scope": null, "own_core": null, "cores_free": 0, "cores_claimed": 0, "source": "node",
        "errno": "EAGAIN", "mode": "enforce", "generation": 3, "suppressed": 0}"#;
    Event {
        rule: rule.into(),
        ..serde_json::from_str(text).unwrap()
    }
}

/// So many nodes of so many cores, in all states.
fn machine(nodes: u32, each: u32) -> Vec<Core> {
    use CpuState::{Busy, Idle, Offline};
    let numbers = (0..nodes).flat_map(|node| (0..each).map(move |core| (node, core)));
    numbers
        .map(|(node, number)| {
            let (state, cpus) = match number % 5 {
                1 => (CoreState::Held, [CpuState::Held, Idle]),
                2 => (CoreState::Busy, [Busy, Idle]),
                3 => (CoreState::Shared, [CpuState::Held, Busy]),
                4 => (CoreState::Offline, [Offline, Offline]),
                _ => (CoreState::Free, [Idle, Idle]),
            };
            core(node, (node * each + number) * 2, state, cpus)
        })
        .collect()
}

fn sight(cores: Vec<Core>) -> Sight {
    let holds = |node, cores| Held { node, cores };
    Sight {
        time: SystemTime::UNIX_EPOCH,
        moment: Instant::now(),
        status: Status {
            mode: "enforce".into(),
            generation: 3,
            source: Some("node".into()),
            scheduler: Some(Scheduler {
                ops: "coregate".into(),
                ..Scheduler::default()
            }),
            nodes: vec![Node {
                node: 0,
                owed: 1,
                ..Node::default()
            }],
            rules: vec![rule("batch", 0, 0), rule("cache", 10, 2)],
            ..Status::default()
        },
        cores: Cores {
            cores,
            claims: vec![Claim {
                rule: Some("cache".into()),
                pid: 117,
                tid: 117,
                comm: "redis-server".into(),
                holds: vec![holds(0, 1), holds(1, 2)],
            }],
        },
        denials: vec![event("batch"), event("cache")],
    }
}

fn view(cores: Vec<Core>) -> View {
    let mut view = View::new(true);
    view.see(sight(cores));
    view
}

fn press(view: &mut View, code: KeyCode) -> Next {
    view.take(&Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn terminal(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    terminal
}

fn drawn(view: &View, width: u16, height: u16) -> String {
    let terminal = terminal(view, width, height);
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(width.into());
    let text = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    text.map(|row| row.trim_end().to_owned() + "\n").collect()
}

#[test]
fn a_small_machine_is_drawn_in_boxes() {
    let mut view = view(machine(2, 2));
    let mut next = sight(machine(2, 2));
    next.moment += Duration::from_secs(2);
    (next.status.rules[1].launches, next.status.rules[1].denied) = (20, 5);
    next.moment = view.sight.as_ref().unwrap().moment + Duration::from_secs(2);
    view.see(next);
    let text = drawn(&view, 80, 24);
    let expected = "\
coregate top  enforce  generation 3  scheduler coregate  source node   00:00:00Z
launches 5.0/s  denied 1.5/s  would deny 0.0/s                                 █

─ cores: 2 of 4 free ───────────────────────────────────────────────────────────
node 0: 1 of 2 free, 1 held, 1 owed   node 1: 1 of 2 free, 1 held
┌ free ──────────┐┌ held ──────────┐  ┌ free ──────────┐┌ held ──────────┐
│   0 idle       ││   2 cache 117  │  │   4 idle       ││   6 cache 117  │
│   1 idle       ││   3 idle       │  │   5 idle       ││   7 idle       │
└────────────────┘└────────────────┘  └────────────────┘└────────────────┘
─ rules: 2 ──────────────────────────────── ─ claims: 1 ────────────────────────
";
    assert!(text.starts_with(expected), "{text}");
    let lists = "
               launch/s  deny/s  would hold b 117 redis-server  node 0, 2 of nod
b cache             5.0     1.5    0.0    0
a batch             0.0     0.0    0.0    0
─ last denials ─────────────────────────────────────────────────────────────────
12:00:05 denied EAGAIN cache needs 1, 0 free on node 1: /usr/bin…s-server (4242)
12:00:05 denied EAGAIN batch needs 1, 0 free on node 1: /usr/bin…s-server (4242)
";
    assert!(text.contains(lists), "{text}");
    let keys = " q  quit  ?  help  p  pause  n  node: all  r  rule: all  z  zoom  ↑↓  scroll\n";
    assert!(text.ends_with(keys), "{text}");
}

#[test]
fn a_wide_terminal_has_lists_beside_the_picture() {
    let text = drawn(&view(machine(2, 4)), 200, 50);
    assert!(
        text.lines()
            .any(|line| line.contains("cores: ") && line.contains("rules: 2")),
        "{text}"
    );
    assert!(
        text.contains("needs 1, 0 free on node 1: /usr/bin/redis-server (4242)\n"),
        "{text}"
    );
    assert!(text.contains("┌ shared "), "{text}");
}

#[test]
fn of_512_cpus_each_core_is_seen() {
    for (width, height) in [(80, 24), (120, 40), (200, 50)] {
        let view = view(machine(8, 32));
        let text = drawn(&view, width, height);
        assert!(
            text.contains("cores: 56 of 256 free\n") || text.contains("cores: 56 of 256 free "),
            "{text}"
        );
        assert!(!text.contains("lines above"), "{text}");
        assert!(text.contains("node 7: 7 of 32 free"), "{text}");
        // A letter for each core, or for each of its threads.
        let few = text.matches("·b#!x·b#!x").count();
        let many = text.matches("[··] [b·] [#·] [b#] [xx]").count();
        assert!(few >= 8 || many >= 32, "{text}");
    }
}

#[test]
fn what_does_not_fit_is_scrolled_to() {
    let mut view = view(machine(64, 32));
    assert!(drawn(&view, 80, 24).contains("; 0 lines above, "));
    assert!(!drawn(&view, 80, 24).contains("node 63:"));
    for _ in 0..100 {
        press(&mut view, KeyCode::PageDown);
    }
    let text = drawn(&view, 80, 24);
    assert!(
        text.contains("node 63:") && text.contains(", 0 below"),
        "{text}"
    );
    press(&mut view, KeyCode::Home);
    // As large as the user wants it.
    press(&mut view, KeyCode::Char('z'));
    assert!(drawn(&view, 80, 24).contains("┌ free "));
}

#[test]
fn without_colours_all_is_told_by_symbols() {
    let view = View {
        colours: false,
        ..view(machine(2, 10))
    };
    let terminal = terminal(&view, 80, 24);
    let buffer = terminal.backend().buffer();
    for cell in buffer.content() {
        assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{cell:?}");
    }
    let text = drawn(&view, 80, 24);
    assert!(text.contains("[··] [b·] [#·] [b#] [xx]"), "{text}");
    let coloured = self::terminal(&self::view(machine(2, 10)), 80, 24);
    let colours = coloured
        .backend()
        .buffer()
        .content()
        .iter()
        .map(|cell| cell.fg);
    let used: std::collections::HashSet<_> = colours.collect();
    for colour in [Color::Green, Color::Yellow, Color::Cyan, Color::Red] {
        assert!(used.contains(&colour), "{used:?}");
    }
}

#[test]
fn keys_filter_pause_help_and_end() {
    let mut view = view(machine(2, 2));
    press(&mut view, KeyCode::Char('n'));
    press(&mut view, KeyCode::Char('n'));
    let text = drawn(&view, 80, 24);
    assert!(
        !text.contains("node 0: ") && text.contains("node: 1 "),
        "{text}"
    );
    press(&mut view, KeyCode::Char('n'));
    assert_eq!(view.node, None);
    press(&mut view, KeyCode::Char('N'));
    assert_eq!(view.node, Some(1));

    press(&mut view, KeyCode::Char('r'));
    for letter in "batq".chars() {
        assert_eq!(press(&mut view, KeyCode::Char(letter)), Next::GoOn);
    }
    press(&mut view, KeyCode::Backspace);
    assert!(drawn(&view, 80, 24).contains("rules with: bat_"));
    press(&mut view, KeyCode::Enter);
    let text = drawn(&view, 80, 24);
    assert!(
        text.contains("rules: 1 ") && text.contains("claims: 0 "),
        "{text}"
    );
    assert!(
        text.contains(" batch needs 1") && !text.contains("cache"),
        "{text}"
    );
    press(&mut view, KeyCode::Esc);
    assert!(drawn(&view, 80, 24).contains("node 0: "));

    press(&mut view, KeyCode::Char('p'));
    assert!(view.is_paused() && drawn(&view, 80, 24).contains("paused  00:00:00Z"));
    press(&mut view, KeyCode::Char('?'));
    let text = drawn(&view, 80, 24);
    assert!(
        text.contains("┌ help ") && text.contains("when it answers, does not"),
        "{text}"
    );
    // Any key ends the help, and does nothing else.
    assert_eq!(press(&mut view, KeyCode::Char('q')), Next::GoOn);
    assert!(!drawn(&view, 80, 24).contains("┌ help "));
    view.miss("no daemon is running".into());
    assert!(drawn(&view, 80, 24).contains("\nno daemon is running\n"));
    assert_eq!(press(&mut view, KeyCode::Char('q')), Next::End);
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.take(&Input::Key(key)), Next::End);
}

#[test]
fn any_size_is_drawn() {
    let view = view(machine(3, 5));
    for (width, height) in [(1, 1), (10, 3), (40, 10), (79, 23), (300, 100)] {
        drawn(&view, width, height);
    }
}

#[test]
fn nobody_writes_to_the_terminal_by_the_name_of_a_program() {
    let mut view = view(machine(2, 2));
    let sight = view.sight.as_mut().unwrap();
    sight.cores.claims[0].comm = "\x1b[31mx\n".into();
    sight.denials[1].exe = "/tmp/\x1b]0;x\x07".into();
    let terminal = terminal(&view, 200, 50);
    let cells = terminal.backend().buffer().content();
    assert!(
        cells
            .iter()
            .all(|cell| !cell.symbol().contains(char::is_control))
    );
}
