// SPDX-License-Identifier: GPL-2.0-only
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

fn exporter() -> Exporter {
    Exporter::new(None, TurnedAway::default(), Rc::default()).expect("an exporter")
}

fn at(address: SocketAddr) -> Metrics {
    Metrics {
        listen: Some(Listen::Port(address)),
        ..Metrics::default()
    }
}

fn to(path: PathBuf) -> Metrics {
    Metrics {
        textfile: Some(path),
        ..Metrics::default()
    }
}

/// A port that nobody listens at.
fn port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn turn(exporter: &mut Exporter, settings: &Metrics) -> Result<()> {
    let prepared = exporter.prepare(settings)?;
    exporter.apply(prepared)
}

/// Waits until there is something to do, and does it.
fn serve(exporter: &mut Exporter) -> Option<String> {
    let mut ready = [EpollEvent::empty()];
    let outer = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
    outer.add(&*exporter, readable).expect("it can be watched");
    assert_eq!(outer.wait(&mut ready, 5000u16).expect("it waits"), 1);
    exporter.serve(|| Ok("up 1\n".into())).expect("it serves")
}

fn scrape(exporter: &mut Exporter, address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).expect("it listens");
    client
        .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        .expect("sent");
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .expect("a time");
    let mut text = String::new();
    while exporter.clients.as_ref().map(Clients::count) != Some(0) || text.is_empty() {
        serve(exporter);
        text = "served".into();
    }
    text.clear();
    client.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn another_address_is_listened_at_in_place_of_the_one_before() {
    let mut exporter = exporter();
    let (first, second) = (port(), port());
    turn(&mut exporter, &at(first)).expect("it listens");
    assert!(scrape(&mut exporter, first).ends_with("\r\n\r\nup 1\n"));
    // The same one again is the same listener.
    turn(&mut exporter, &at(first)).expect("it listens");
    assert!(scrape(&mut exporter, first).ends_with("\r\n\r\nup 1\n"));
    turn(&mut exporter, &at(second)).expect("it listens");
    assert!(TcpStream::connect(first).is_err());
    assert!(scrape(&mut exporter, second).ends_with("\r\n\r\nup 1\n"));
    turn(&mut exporter, &Metrics::default()).expect("it is closed");
    assert!(TcpStream::connect(second).is_err());
}

#[test]
fn an_address_in_use_is_refused_and_changes_nothing() {
    let mut exporter = exporter();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = port();
    turn(&mut exporter, &at(free)).expect("it listens");
    let error = turn(&mut exporter, &at(taken.local_addr().expect("an address")));
    let error = format!("{:#}", error.expect_err("it is in use"));
    assert!(
        error.contains("[metrics]") && error.contains("in use"),
        "{error}"
    );
    assert!(scrape(&mut exporter, free).ends_with("\r\n\r\nup 1\n"));
}

#[test]
fn the_file_is_replaced_and_no_link_is_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("coregate.prom");
    let others = dir.path().join("others");
    fs::write(&others, "theirs").expect("it is written");
    symlink(&others, dir.path().join("coregate.prom.new")).expect("a link");
    symlink(&others, &path).expect("a link");
    let mut exporter = exporter();
    turn(&mut exporter, &to(path.clone())).expect("it may be written");
    assert_eq!(serve(&mut exporter), None);
    assert_eq!(fs::read_to_string(&path).expect("text"), "up 1\n");
    assert_eq!(fs::read_to_string(&others).expect("text"), "theirs");
    assert!(!dir.path().join("coregate.prom.new").exists());
}

#[test]
fn a_file_that_cannot_be_written_is_told_once_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut exporter = exporter();
    let missing = to(dir.path().join("missing/coregate.prom"));
    turn(&mut exporter, &missing).expect("it is tried");
    let line = serve(&mut exporter).expect("it is told");
    assert!(
        line.contains("missing/coregate.prom: No such file"),
        "{line}"
    );
    turn(&mut exporter, &missing).expect("it is tried");
    assert_eq!(serve(&mut exporter), None);
    assert_eq!(exporter.textfiles_lost.get(), 2);
}
