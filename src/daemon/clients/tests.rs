// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::unistd::{Uid, getgroups};

use super::door::peer;
use super::*;
use crate::raw::peer_groups;

/// Answers each line with the length of all that was heard, and lets who says "follow" follow.
struct Counter;

impl Speaker for Counter {
    fn answer(&mut self, _: Peer, heard: &[u8], new: usize) -> Option<Reply> {
        if !heard[new..].contains(&b'\n') {
            return None;
        }
        let follows = heard.starts_with(b"follow");
        Some(Reply {
            bytes: format!("{}\n", heard.len()).into_bytes(),
            follows,
            ..Reply::default()
        })
    }

    fn too_many(&self) -> Reply {
        Reply {
            bytes: b"too many\n".to_vec(),
            follows: false,
            ..Reply::default()
        }
    }
}

/// A socket in a folder of its own.
struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
    clients: Clients,
    turned_away: TurnedAway,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let turned_away = TurnedAway::default();
        let clients = Clients::at_path(&path, None, turned_away.clone()).expect("it listens");
        Self {
            _dir: dir,
            path,
            clients,
            turned_away,
        }
    }

    fn client(&self) -> UnixStream {
        UnixStream::connect(&self.path).expect("it listens")
    }

    fn says(&self, what: &str) -> UnixStream {
        let mut client = self.client();
        client.write_all(what.as_bytes()).expect("sent");
        client
    }
}

/// Serves until nothing more is to be done at once.
fn serve(clients: &mut Clients) {
    let outer = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
    outer.add(&*clients, event).expect("it can be watched");
    let mut ready = [EpollEvent::empty()];
    while outer
        .wait(&mut ready, EpollTimeout::from(50u8))
        .expect("it waits")
        > 0
    {
        clients.serve(&mut Counter).expect("it serves");
    }
}

fn line(client: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).expect("a line");
    line
}

fn me() -> Peer {
    match Uid::effective().as_raw() {
        0 => Peer::Root,
        uid => Peer::Stranger(uid),
    }
}

#[test]
fn who_asks_is_what_the_kernel_says() {
    let (here, there) = UnixStream::pair().expect("a pair");
    assert_eq!(peer(&here, None).expect("a peer"), me());
    let groups = getgroups().expect("groups");
    let groups: Vec<_> = groups.into_iter().map(Gid::as_raw).collect();
    assert_eq!(peer_groups(&there).expect("groups"), groups);
}

#[test]
fn a_question_may_come_in_parts_and_be_long() {
    let mut place = Place::new();
    let mut client = place.client();
    let long = PART * (PARTS_AT_ONCE + 2);
    let sender = std::thread::spawn(move || {
        client.write_all(&vec![b'x'; long]).expect("sent");
        client.write_all(b"\n").expect("sent");
        client
    });
    while !sender.is_finished() {
        serve(&mut place.clients);
    }
    serve(&mut place.clients);
    let client = sender.join().expect("it sent");
    assert_eq!(line(client), format!("{}\n", long + 1));
    assert_eq!(place.clients.count(), 0);
}

#[test]
fn a_client_that_says_nothing_holds_nobody() {
    let mut place = Place::new();
    let (most, _) = me().most();
    let silent: Vec<_> = (1..most).map(|_| place.client()).collect();
    let client = place.says("\n");
    serve(&mut place.clients);
    assert_eq!(line(client), "1\n");
    assert_eq!(place.clients.count(), silent.len());
    // When their time is over they are gone.
    place.clients.end_patience();
    place.clients.serve(&mut Counter).expect("it serves");
    assert_eq!(place.clients.count(), 0);
    assert_eq!(place.turned_away.dropped.get(), silent.len() as u64);
}

#[test]
fn one_too_many_takes_the_place_of_the_one_silent_longest() {
    let mut place = Place::new();
    let (most, _) = me().most();
    let silent: Vec<_> = (0..3 * most).map(|_| place.client()).collect();
    serve(&mut place.clients);
    assert_eq!(place.clients.count(), most);
    assert_eq!(line(&silent[0]), "", "it is gone");
    let client = place.says("\n");
    serve(&mut place.clients);
    assert_eq!(line(client), "1\n");
    assert_eq!(place.turned_away.dropped.get(), 2 * most as u64 + 1);
}

#[test]
fn those_who_follow_keep_their_places() {
    let mut place = Place::new();
    let (most, _) = me().most();
    let mut following: Vec<_> = (0..most).map(|_| place.says("follow\n")).collect();
    serve(&mut place.clients);
    let late = place.says("\n");
    serve(&mut place.clients);
    assert_eq!(line(late), "too many\n");
    place.clients.tell(b"news\n", b"end\n").expect("it tells");
    for client in &mut following {
        let mut lines = [0; 7];
        client.read_exact(&mut lines).expect("lines");
        assert_eq!(&lines, b"7\nnews\n");
    }
    following.clear();
    serve(&mut place.clients);
    assert_eq!(place.clients.count(), 0);
}

#[test]
fn who_does_not_read_is_sent_away() {
    let mut place = Place::new();
    let client = place.says("follow\n");
    serve(&mut place.clients);
    let part = vec![b'x'; MOST_WAITING];
    for _ in 0..3 {
        place.clients.tell(&part, b"end\n").expect("it tells");
    }
    assert!(!place.clients.is_followed());
    assert_eq!(place.turned_away.dropped.get(), 1);
    drop(client);
    serve(&mut place.clients);
    assert_eq!(place.clients.count(), 0);
}

#[test]
fn a_port_is_for_anybody() {
    let turned_away = TurnedAway::default();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut clients = Clients::at_port(address, turned_away.clone()).expect("it listens");
    let Listener::Tcp(listener) = &clients.listener else {
        panic!("no port")
    };
    let address = listener.local_addr().expect("an address");
    let taken = Clients::at_port(address, turned_away).err().expect("taken");
    assert!(format!("{taken:#}").starts_with("cannot listen at 127.0.0.1:"));
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"\n").expect("sent");
    serve(&mut clients);
    assert_eq!(line(client), "1\n");
}

#[test]
fn what_is_no_socket_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("file");
    fs::write(&path, "mine").expect("it is written");
    let taken = Clients::at_path(&path, None, TurnedAway::default());
    let taken = format!("{:#}", taken.err().expect("taken"));
    assert!(taken.contains("no socket stands there"), "{taken}");
    assert_eq!(fs::read(&path).expect("it is there"), b"mine");
}
