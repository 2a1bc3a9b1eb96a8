// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A process in a tree like /proc, with what is in its status beside the users; root, mount and
/// user namespace are these files.
fn process(proc: &Path, pid: u32, above: u32, own: [&str; 3]) {
    let folder = proc.join(pid.to_string());
    fs::create_dir_all(folder.join("ns")).unwrap();
    let status = format!(
        "Name:\tx\nPPid:\t{above}\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t6 100 \nThreads:\t1\n"
    );
    fs::write(folder.join("status"), status).unwrap();
    fs::write(folder.join("comm"), format!("name of {pid}\n")).unwrap();
    fs::write(folder.join("cmdline"), "a\0\0-c d\0").unwrap();
    fs::write(
        folder.join("cgroup"),
        "1:name=x:/y\n0::/system.slice/a.service\n",
    )
    .unwrap();
    symlink(format!("/bin/program-{pid}"), folder.join("exe")).unwrap();
    for (name, target) in ["root", "ns/mnt", "ns/user"].iter().zip(own) {
        let target = proc.join(target);
        fs::write(&target, "").unwrap();
        symlink(target, folder.join(name)).unwrap();
    }
}

const HOST: [&str; 3] = ["root", "mnt", "user"];

#[test]
fn a_process_tells_of_the_launch_by_which_it_came() {
    let folder = TempDir::new().unwrap();
    let proc = folder.path();
    process(proc, 1, 0, HOST);
    process(proc, 20, 1, HOST);
    process(proc, 21, 20, HOST);
    let known = Known::of_process(proc, 21).unwrap();
    let expected = Launch {
        exe: Some(b"/bin/program-21"),
        cgroup: Some(b"/system.slice/a.service"),
        uid: Some(2),
        gid: Some(6),
        groups: Some(&[6, 100]),
        comm: Some(b"name of 20"),
        argv: Some(vec![b"a", b"", b"-c d"]),
        parent: Some(b"/bin/program-20"),
        container: Some(false),
        ..Launch::unknown(Hook::Exec)
    };
    assert_eq!(known.launch(), expected);
    assert!(Known::of_process(proc, 22).is_err());
    let first = Known::of_process(proc, 1).unwrap();
    assert_eq!((first.comm, first.parent), (None, None));
}

#[test]
fn containers_by_their_root_and_namespaces() {
    // In a jail the path begins there.
    let folder = TempDir::new().unwrap();
    process(folder.path(), 5, 1, HOST);
    let own = folder.path().join("5");
    fs::remove_file(own.join("exe")).unwrap();
    symlink(folder.path().join("root/bin/x"), own.join("exe")).unwrap();
    assert_eq!(program(&own).unwrap(), b"/bin/x");

    for (own, contained) in [
        (HOST, Some(false)),
        (["jail", "mnt", "user"], Some(true)),
        // A service with mounts of its own.
        (["root", "mnt2", "user"], Some(false)),
        // Whose namespace it is cannot be seen.
        (["root", "mnt2", "user2"], None),
        (["root", "mnt", "user2"], Some(false)),
    ] {
        let folder = TempDir::new().unwrap();
        process(folder.path(), 1, 0, HOST);
        process(folder.path(), 5, 1, own);
        let known = Known::of_process(folder.path(), 5).unwrap();
        assert_eq!(known.container, contained, "{own:?}");
    }
    let folder = TempDir::new().unwrap();
    process(folder.path(), 5, 1, HOST);
    let known = Known::of_process(folder.path(), 5).unwrap();
    assert_eq!(known.container, None, "nothing is known of PID 1");
}
