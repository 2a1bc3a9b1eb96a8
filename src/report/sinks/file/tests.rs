// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

#[test]
fn it_may_be_renamed_removed_and_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let [path, old] = ["events", "events.1"].map(|name| dir.path().join(name));
    let mut file = LogFile::new(&path);
    file.write(b"1\n").unwrap();
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o640
    );

    // Until it is told to open it anew, it writes to the one that it has.
    fs::rename(&path, &old).unwrap();
    file.write(b"2\n").unwrap();
    file.reopen();
    file.write(b"3\n").unwrap();
    assert_eq!(fs::read_to_string(&old).unwrap(), "1\n2\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");

    fs::remove_file(&path).unwrap();
    file.write(b"4\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "4\n");

    fs::copy(&path, &old).unwrap();
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write(b"5\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "5\n");
}

#[test]
fn only_a_regular_file_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let mut file = LogFile::new(&path);
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    assert!(file.write(b"1\n").is_err());
    fs::remove_file(&path).unwrap();

    let target = dir.path().join("target");
    symlink(&target, &path).unwrap();
    assert!(file.write(b"1\n").is_err());
    assert!(!target.exists());
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert!(file.write(b"1\n").is_err());
    fs::remove_dir(&path).unwrap();

    // It is tried again with each line.
    file.write(b"1\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
}

#[test]
fn a_part_of_a_line_is_taken_back_or_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let mut file = LogFile::new(&path);
    file.write(b"1\n").unwrap();
    let mut inner = file.file.take().unwrap();
    inner.write_all(b"{\"par").unwrap();
    take_back(&inner, 5).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");

    // One that could not be taken back.
    inner.write_all(b"{\"par").unwrap();
    file.file = Some(inner);
    file.torn = true;
    file.write(b"2\n").unwrap();
    file.write(b"3\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n{\"par\n2\n3\n");
}
