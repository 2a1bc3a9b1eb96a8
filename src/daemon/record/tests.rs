// SPDX-License-Identifier: GPL-2.0-only
use super::*;

fn put(field: &mut [u8], text: &[u8]) {
    field[..text.len()].copy_from_slice(text);
}

fn record(more: impl FnOnce(&mut abi::event)) -> Record {
    let mut event = abi::event {
        uid: 7,
        groups: 2,
        ..abi::event::default()
    };
    event.group[..2].copy_from_slice(&[4, 5]);
    put(&mut event.cgroup, b"/system.slice/a.service");
    more(&mut event);
    Record {
        event,
        details: None,
    }
}

#[test]
fn what_was_not_read_is_null() {
    let event = event(&record(|_| {}), None);
    assert_eq!(event.rule, "#0");
    assert_eq!((&event.origin, &event.scope), (&None, &None));
    assert_eq!((&event.argv, &event.parent), (&None, &None));
    assert_eq!(event.groups, Some(vec![4, 5]));
    assert_eq!(event.unit.as_deref(), Some("a.service"));

    let few = super::event(&record(|event| event.groups = 17), None);
    assert_eq!(few.groups, None);
    let deep = super::event(&record(|event| event.cgroup[0] = 0), None);
    assert_eq!((deep.cgroup, deep.unit), (None, None));
}

#[test]
fn details_are_those_that_were_read() {
    let mut details = Box::new(abi::details {
        args: 3,
        ..abi::details::default()
    });
    put(&mut details.arg, b"a");
    // Longer than any rule's, and not ended; one that could not be read.
    details.arg[128..256].fill(b'x');
    put(&mut details.parent, b"/bin/\xffsh");
    let mut with = |read| {
        details.read = read;
        let record = Record {
            details: Some(details.clone()),
            ..record(|_| {})
        };
        event(&record, None)
    };
    let args = with(abi::shape::NEED_ARGS.0);
    assert_eq!(
        args.argv,
        Some(vec!["a".into(), "x".repeat(128), String::new()])
    );
    assert_eq!(args.parent, None);
    let parent = with(abi::shape::NEED_PARENT.0);
    assert_eq!(parent.argv, None);
    assert_eq!(parent.parent.as_deref(), Some("/bin/\u{fffd}sh"));
}

#[test]
fn times_are_the_clocks() {
    let now = SystemTime::now();
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    let since_boot = since_boot.unwrap_or_default();
    let age = Duration::from_secs(5);
    let then = wall_time((since_boot - age).as_nanos() as u64);
    let off = now.duration_since(then).unwrap_or_default().abs_diff(age);
    assert!(off < Duration::from_secs(1), "{off:?}");
}

#[test]
fn a_core_is_shared_where_others_run_beside_a_claim() {
    let name = |key| (key == 9).then(|| "cache".to_owned());
    let doing = [
        abi::doing::DOING_CLAIM,
        abi::doing::DOING_WORK,
        abi::doing::DOING_NOTHING,
        abi::doing::DOING_OFFLINE,
    ];
    let mut picture = abi::picture {
        nr_cpus: 4,
        node: 2,
        doing: abi::doing::DOING_WORK,
        ..abi::picture::default()
    };
    for (i, doing) in doing.into_iter().enumerate() {
        (picture.cpu[i], picture.cpu_doing[i]) = (i as u32 + 10, doing.0);
    }
    (picture.pid[0], picture.rule[0]) = (117, 9);
    let shared = core(&picture, name);
    let states: Vec<_> = shared.cpus.iter().map(|cpu| (cpu.cpu, cpu.state)).collect();
    let expected = [
        (10, CpuState::Held),
        (11, CpuState::Busy),
        (12, CpuState::Idle),
        (13, CpuState::Offline),
    ];
    assert_eq!(states, expected);
    assert_eq!((shared.node, shared.state), (2, CoreState::Shared));
    assert_eq!(shared.cpus[0].rule.as_deref(), Some("cache"));
    assert_eq!((shared.cpus[0].pid, shared.cpus[1].pid), (Some(117), None));

    picture.cpu_doing[0] = abi::doing::DOING_WORK.0;
    assert_eq!(core(&picture, name).state, CoreState::Busy);
    picture.doing = abi::doing::DOING_NOTHING;
    assert_eq!(core(&picture, name).state, CoreState::Free);
}

#[test]
fn a_claim_holds_cores_of_nodes() {
    let mut raw = abi::live_claim {
        pid: 117,
        tid: 118,
        rule: 8,
        ..abi::live_claim::default()
    };
    put(&mut raw.comm, b"cache");
    (raw.held[0], raw.held[3]) = (1, 2);
    let claim = claim(&raw, |_| None);
    let held = |node, cores| Held { node, cores };
    assert_eq!(claim.holds, [held(0, 1), held(3, 2)]);
    assert_eq!((claim.rule, claim.comm.as_str()), (None, "cache"));
}
