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
