// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

/// A queue of a daemon that began so long ago.
fn queue(age: Duration) -> Queue {
    let mut queue = Queue::new(TurnedAway::default()).unwrap();
    queue.opened -= age;
    queue.opened_ms -= age.as_millis() as u64;
    queue
}

fn add(queue: &mut Queue, peer: Peer, rule: &str, since: u64) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let rule = rule.into();
    queue
        .add((theirs.into(), peer, Wait { rule, since }))
        .unwrap();
    ours
}

fn come(queue: &mut Queue, rule: &str) -> UnixStream {
    add(queue, Peer::Root, rule, u64::MAX)
}

/// What was said since this was asked last.
fn told(stream: &mut UnixStream) -> String {
    let mut text = [0; 512];
    let length = stream.read(&mut text).unwrap_or(0);
    String::from_utf8(text[..length].to_vec()).unwrap()
}

const NOW: &str = "{\"answer\":\"now\"}\n";

#[test]
fn the_first_of_each_rule_is_told_and_nobody_else() {
    let mut queue = queue(RETURN);
    let mut first = come(&mut queue, "a");
    let mut second = come(&mut queue, "a");
    let mut other = come(&mut queue, "b");
    assert_eq!(told(&mut first), NOW);
    assert_eq!(told(&mut other), NOW);
    first.write_all(b"\n").unwrap();
    queue.serve().unwrap();
    queue.ring().unwrap();
    assert_eq!(told(&mut first), NOW);
    assert_eq!(
        (told(&mut other), told(&mut second)),
        (String::new(), String::new())
    );
    // A claim that ends while it tries lets it try again at once.
    queue.ring().unwrap();
    first.write_all(b"\n").unwrap();
    queue.serve().unwrap();
    assert_eq!(told(&mut first), NOW);
    drop(first);
    queue.serve().unwrap();
    assert_eq!(told(&mut second), NOW);
    drop((second, other));
    queue.serve().unwrap();
    assert!(queue.is_empty());
}

#[test]
fn who_waited_for_the_daemon_before_has_its_place_again() {
    let mut queue = queue(Duration::ZERO);
    queue.opened_ms = 1000;
    let mut anew = come(&mut queue, "a");
    let mut late = add(&mut queue, Peer::Root, "a", 999);
    let mut early = add(&mut queue, Peer::Root, "a", 500);
    queue.serve().unwrap();
    assert_eq!(told(&mut early), "");
    queue.opened -= RETURN;
    queue.serve().unwrap();
    assert_eq!(told(&mut early), NOW);
    drop(early);
    queue.serve().unwrap();
    assert_eq!(
        (told(&mut late), told(&mut anew)),
        (NOW.into(), String::new())
    );
    // Later on nobody's word counts.
    queue.opened -= KEPT;
    let mut liar = add(&mut queue, Peer::Root, "a", 1);
    drop(late);
    queue.serve().unwrap();
    assert_eq!(
        (told(&mut anew), told(&mut liar)),
        (NOW.into(), String::new())
    );
}

#[test]
fn who_does_not_try_loses_its_place() {
    let mut queue = queue(RETURN);
    let mut first = come(&mut queue, "a");
    let mut second = come(&mut queue, "a");
    assert_eq!(told(&mut first), NOW);
    let mut waiters = queue.waiters.values_mut();
    waiters.next().unwrap().state = State::Tries(Instant::now());
    queue.serve().unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    assert_eq!(told(&mut second), NOW);
    assert_eq!(queue.turned_away.dropped.get(), 1);
    // Nor may it speak unasked.
    let mut third = come(&mut queue, "a");
    third.write_all(b"\n").unwrap();
    queue.serve().unwrap();
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
}

#[test]
fn nobody_takes_the_places_of_others() {
    let mut queue = queue(RETURN);
    let user = Peer::Reader(1000);
    let _all: Vec<_> = (0..MOST_OF_USER)
        .map(|_| add(&mut queue, user, "a", u64::MAX))
        .collect();
    assert!(told(&mut add(&mut queue, user, "a", u64::MAX)).contains("too many wait"));
    for peer in [Peer::Root, Peer::Reader(1001)] {
        assert_eq!(
            told(&mut add(&mut queue, peer, "b", u64::MAX)),
            if peer == Peer::Root { NOW } else { "" }
        );
    }
}
