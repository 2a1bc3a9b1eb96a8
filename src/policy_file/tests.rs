// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

struct AnyHost(&'static [HostNode]);

const ANY_HOST: AnyHost = AnyHost(&[node(1, 4)]);

const fn node(number: u32, cores: u32) -> HostNode {
    HostNode { number, cores }
}

impl Host for AnyHost {
    fn uid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(Some(1))
    }

    fn resolve(&self, exe: &str) -> Option<String> {
        ThisHost::new().resolve(exe)
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        Some(self.0)
    }
}

fn file(bytes: &[u8], mode: u32) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

fn message(path: &Path) -> String {
    load(path, &ANY_HOST).unwrap_err().to_string()
}

#[test]
fn files_of_root_or_the_caller_that_only_they_can_write() {
    for mode in [0o644, 0o600, 0o444, 0o755] {
        let (_folder, path) = file(b"", mode);
        assert!(load(&path, &ANY_HOST).is_ok(), "{mode:o}");
    }
    for mode in [0o664, 0o646, 0o666, 0o620, 0o602] {
        let (_folder, path) = file(b"", mode);
        let message = message(&path);
        assert!(
            message.contains(&format!("(mode {mode:04o}); run: chmod go-w ")),
            "{message}"
        );
    }
}

#[test]
fn a_strangers_file_is_refused() {
    let (_folder, path) = file(b"", 0o644);
    let metadata = fs::metadata(&path).unwrap();
    let owner = metadata.uid();
    assert!(trust(&path, &metadata, Uid::from_raw(owner)).is_ok());
    let judged = trust(&path, &metadata, Uid::from_raw(owner + 1));
    assert_eq!(judged.is_ok(), owner == 0);
    let root_owned = fs::metadata("/proc/version").unwrap();
    assert!(trust(&path, &root_owned, Uid::from_raw(12345)).is_ok());
}

#[test]
fn what_is_no_file() {
    let folder = TempDir::new().unwrap();
    assert!(message(folder.path()).contains("is not a regular file"));
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(message(&fifo).contains("is not a regular file"));
    let missing = folder.path().join("missing");
    assert!(message(&missing).contains("missing: No such file or directory"));
}

#[test]
fn size_and_encoding() {
    let (_folder, path) = file(b"# ok\n# \xff\n", 0o600);
    assert!(message(&path).contains("is not UTF-8 in line 2"));
    let (_folder, path) = file(b"", 0o600);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(MAX_SIZE + 1)
        .unwrap();
    assert!(message(&path).contains("is larger than 16 MiB"));
}

#[test]
fn a_link_is_judged_by_the_file_it_leads_to() {
    let (folder, path) = file(b"[gate]\n", 0o666);
    let link = folder.path().join("link.toml");
    symlink(&path, &link).unwrap();
    assert!(message(&link).contains("can be written by others"));
}

#[test]
fn oddities_of_exe() {
    let (folder, program) = file(b"", 0o755);
    let folder = folder.path().canonicalize().unwrap();
    let program = program.canonicalize().unwrap();
    let link = folder.join("link");
    symlink(&program, &link).unwrap();
    let missing = folder.join("missing");
    let mut text = String::new();
    for (user, (name, exe)) in (0..).zip([
        ("program", &program),
        ("link", &link),
        ("missing", &missing),
        ("folder", &folder),
    ]) {
        text += &format!("[[rule]]\nname = {name:?}\nexe = {exe:?}\nuser = {user}\n");
    }
    let policy = parse("p.toml", &text, &ANY_HOST).unwrap();
    let warnings: Vec<_> = warnings(&policy, &ANY_HOST)
        .iter()
        .map(Warning::to_string)
        .collect();
    assert_eq!(
        warnings,
        [
            format!(
                "p.toml:5: rule \"link\": {link:?} leads to {program:?}, and the rule watches \
                 that file, by whichever name it is launched; write that path if this is meant"
            ),
            format!(
                "p.toml:9: rule \"missing\": {missing:?} cannot be found: No such file or \
                 directory (os error 2); correct the path, unless it is installed later"
            ),
            format!(
                "p.toml:13: rule \"folder\": {folder:?} is not a file; name the program itself"
            ),
        ]
    );
}

#[test]
fn rules_that_never_match() {
    let shadows = |rules: &[&str]| {
        let rule = |(i, keys): (usize, &&str)| format!("[[rule]]\nname = \"r{i}\"\n{keys}\n");
        let text: String = rules.iter().enumerate().map(rule).collect();
        let policy = parse("p.toml", &text, &ANY_HOST).unwrap();
        let warnings = warnings(&policy, &ANY_HOST).into_iter();
        let shadows = warnings.filter(|warning| warning.message.contains("never matches"));
        let told = |warning: Warning| {
            let by = warning.message.split('"').nth(1).unwrap().to_owned();
            (warning.rule.unwrap(), by)
        };
        shadows.map(told).collect::<Vec<_>>()
    };
    let (a, b) = ("exe = \"/a\"", "exe = \"/b\"");
    let first = |rule: &str, by: &str| vec![(rule.to_owned(), by.to_owned())];
    assert_eq!(shadows(&[a, b]), []);
    assert_eq!(shadows(&[a, a]), first("r1", "r0"));
    assert_eq!(shadows(&[a, "exe = \"/a\"\nuser = 7"]), first("r1", "r0"));
    assert_eq!(shadows(&["exe = \"/a\"\nuser = 7", a]), []);
    assert_eq!(shadows(&[a, "exe = \"/a\"\non = [\"fork\"]"]), []);
    assert_eq!(shadows(&[a, "exe = [\"/a\", \"/b\"]"]), []);
    // Only both together leave nothing.
    assert_eq!(
        shadows(&[b, a, "exe = [\"/a\", \"/b\"]"]),
        first("r2", "r0")
    );
    let users = ["exe = \"/a\"\nuser = 7", "exe = \"/a\"\nuser = 8"];
    assert_eq!(
        shadows(&[users[0], users[1], "exe = \"/a\"\nuser = [7, 8]"]),
        first("r2", "r1")
    );
    assert_eq!(shadows(&[users[0], "exe = \"/a\"\nuser = [7, 8]"]), []);
}

#[test]
fn rules_that_anybody_can_hold_cores_by() {
    let warned = |keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        let policy = parse("p.toml", &text, &ANY_HOST).unwrap();
        let warnings = warnings(&policy, &ANY_HOST);
        warnings
            .iter()
            .any(|warning| warning.message.contains("any user"))
    };
    assert!(warned(""));
    assert!(warned("hold = \"settle\""));
    assert!(!warned("hold = \"none\""));
    assert!(!warned("user = 7"));
    assert!(!warned("action = \"exempt\""));
}

#[test]
fn forks_that_are_not_the_scripts() {
    let (_folder, script) = file(b"#!/bin/sh\n", 0o755);
    let (_folder, program) = file(b"#", 0o755);
    let warned = |exe: &Path, on: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = {exe:?}\non = [{on}]\n");
        let policy = parse("p.toml", &text, &ANY_HOST).unwrap();
        let warnings = warnings(&policy, &ANY_HOST);
        warnings
            .iter()
            .any(|warning| warning.message.contains("never matches"))
    };
    assert!(warned(&script, "\"fork\""));
    assert!(warned(&script, "\"exec\", \"thread\""));
    assert!(!warned(&script, "\"exec\""));
    assert!(!warned(&program, "\"fork\""));
    assert!(!warned(Path::new("/dev/zero"), "\"fork\""));
}

#[test]
fn cores_that_are_never_all_free() {
    const TWO: AnyHost = AnyHost(&[node(0, 4), node(1, 4)]);
    let warned = |host: &dyn Host, keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        let policy = parse("p.toml", &text, host).unwrap();
        let warnings = warnings(&policy, host);
        warnings
            .iter()
            .any(|warning| warning.message.contains("ever be admitted"))
    };
    let fork = |keys: &str| format!("on = [\"fork\"]\n{keys}");
    assert!(!warned(&ANY_HOST, "cores = 4"));
    assert!(warned(&ANY_HOST, "cores = 4\nown_core = false"));
    for scope in ["\"node\"", "\"any\"", "\"spread\"", "[1]"] {
        let keys = fork(&format!("scope = {scope}\n"));
        assert!(warned(&ANY_HOST, &format!("{keys}cores = 4")), "{scope}");
        assert!(!warned(&ANY_HOST, &format!("{keys}cores = 3")), "{scope}");
        assert!(
            !warned(&ANY_HOST, &format!("{keys}cores = 4\nown_core = true")),
            "{scope}"
        );
    }
    // The launcher may be on the other node.
    assert!(!warned(&TWO, &fork("scope = \"any\"\ncores = 4")));
    assert!(!warned(&TWO, &fork("scope = [1]\ncores = 4")));
    assert!(warned(&TWO, &fork("scope = [0, 1]\ncores = 8")));
}

#[test]
fn this_host_knows_root() {
    let host = ThisHost::new();
    assert_eq!(host.uid("root"), Ok(Some(0)));
    assert_eq!(host.uid("no-such-user-here"), Ok(None));
    assert_eq!(host.uid("ro\0ot"), Ok(None));
    let nodes = host.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.cores >= 1));
    assert!(nodes.is_sorted_by_key(|node| node.number) && !nodes.is_empty());
}

#[test]
fn what_could_not_be_checked_is_said() {
    let folder = TempDir::new().unwrap();
    let failure = Topology::read(folder.path()).unwrap_err();
    let host = ThisHost {
        nodes: Err(failure),
        uids: RefCell::default(),
    };
    let warning = host.warning().unwrap();
    assert_eq!((&warning.origin, &warning.rule), (&None, &None));
    let text = warning.to_string();
    assert!(
        text.starts_with("`cores` and `scope` were not held against this machine: cannot read ")
    );
}
