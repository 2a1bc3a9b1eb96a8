// SPDX-License-Identifier: GPL-2.0-only
use super::*;

fn receive(daemon: &UnixDatagram) -> String {
    let mut buffer = [0; 512];
    let len = daemon.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn survives_a_restart_of_the_log_daemon_and_counts_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut syslog = Syslog::new(&path);

    syslog.send(Severity::LOG_INFO, "nobody listens");
    assert_eq!(syslog.lost(), 1);

    let daemon = UnixDatagram::bind(&path).unwrap();
    syslog.send(Severity::LOG_WARNING, "one");
    let record = receive(&daemon);
    assert!(record.starts_with("<28>"), "{record}");
    assert!(record.ends_with(": one"), "{record}");

    drop(daemon);
    syslog.send(Severity::LOG_INFO, "between");
    assert_eq!(syslog.lost(), 2);

    std::fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    syslog.send(Severity::LOG_INFO, "two");
    assert!(receive(&daemon).ends_with(": two"));
    assert_eq!(syslog.lost(), 2);
}

#[test]
fn a_full_log_daemon_is_waited_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut syslog = Syslog::new(&path);
    let mut sent = 0;
    while syslog.lost() == 0 {
        syslog.send(Severity::LOG_INFO, "a line");
        sent += 1;
    }
    for lost in 2..1000 {
        syslog.send(Severity::LOG_INFO, "not waited for");
        assert_eq!(syslog.lost(), lost);
    }
    for _ in 1..sent {
        receive(&daemon);
    }
    syslog.send(Severity::LOG_INFO, "there is room again");
    assert_eq!(syslog.lost(), 999);
    assert!(receive(&daemon).ends_with("again"));
}
