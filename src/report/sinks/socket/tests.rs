// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::path::Path;

use super::*;

fn impatient(path: &Path) -> Socket {
    Socket {
        patience: Duration::ZERO,
        ..Socket::new(path)
    }
}

fn read(daemon: &UnixDatagram) -> String {
    // What never comes is a failure, not a test that hangs.
    let time = Some(Duration::from_secs(10));
    daemon.set_read_timeout(time).unwrap();
    let mut buffer = [0; 512];
    let len = daemon.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn a_log_daemon_may_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut socket = impatient(&path);
    assert!(socket.write(b"nobody listens").is_err());

    let daemon = UnixDatagram::bind(&path).unwrap();
    socket.write(b"one").unwrap();
    assert_eq!(read(&daemon), "one");
    drop(daemon);
    assert!(socket.write(b"between").is_err());

    fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    socket.write(b"two").unwrap();
    // It cannot be known of the last line before whether it was read.
    assert_eq!([read(&daemon), read(&daemon)], ["one", "two"]);
}

#[test]
fn what_a_log_daemon_had_not_read_goes_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut socket = impatient(&path);
    socket.write(b"read long ago").unwrap();
    read(&daemon);
    for line in ["one", "two", "three"] {
        socket.write(line.as_bytes()).unwrap();
    }
    assert_eq!(socket.returned(), 0);
    drop(daemon);
    assert!(socket.write(b"between").is_err());
    assert_eq!(socket.returned(), 3);
    assert!(socket.write(b"still nobody").is_err());
    assert_eq!(socket.returned(), 3);

    fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    socket.write(b"four").unwrap();
    assert_eq!(socket.returned(), 0);
    let lines: Vec<_> = (0..4).map(|_| read(&daemon)).collect();
    assert_eq!(lines, ["one", "two", "three", "four"]);
}

/// A new log daemon is there before the line is given up.
#[test]
fn a_line_waits_for_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut socket = Socket {
        patience: Duration::from_secs(3600),
        ..Socket::new(&path)
    };
    let writer = std::thread::spawn(move || socket.write(b"early"));
    let daemon = UnixDatagram::bind(&path).unwrap();
    assert_eq!(read(&daemon), "early");
    writer.join().unwrap().unwrap();
}

#[test]
fn a_full_log_daemon_is_waited_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut socket = impatient(&path);
    let mut sent = 0;
    while socket.write(b"a line").is_ok() {
        sent += 1;
    }
    assert!(socket.down);
    for _ in 0..1000 {
        assert!(socket.write(b"not waited for").is_err());
    }
    for _ in 0..sent {
        assert_eq!(read(&daemon), "a line");
    }
    socket.write(b"there is room again").unwrap();
    assert!(!socket.down);
    assert_eq!(read(&daemon), "there is room again");
}

#[test]
fn what_is_kept_for_the_next_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut socket = impatient(&path);
    let line = [b'x'; 500];
    socket.write(&line).unwrap();
    // There is always one that is not read.
    for _ in 0..2000 {
        socket.write(&line).unwrap();
        read(&daemon);
    }
    let kept: usize = socket.unread.iter().map(Vec::len).sum();
    assert_eq!(kept, socket.unread_bytes);
    assert!(kept <= MOST_UNREAD + line.len(), "{kept}");
}

#[test]
fn a_line_that_is_too_long_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut socket = impatient(&path);
    socket.write(b"one").unwrap();
    let error = socket.write(&[b'x'; 2 * MOST_UNREAD]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EMSGSIZE as i32));
    socket.write(b"two").unwrap();
    assert_eq!([read(&daemon), read(&daemon)], ["one", "two"]);
}
