// SPDX-License-Identifier: GPL-2.0-only
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// The folders of a machine: `etc`, with `etc/policy.d`, and `vendor`.
struct Machine(TempDir);

impl Machine {
    /// One with these files, each of which has its own path as its text.
    fn new(files: &[&str]) -> Self {
        let machine = Self(TempDir::new().unwrap());
        for folder in ["etc", "etc/policy.d", "vendor"] {
            fs::create_dir(machine.path(folder)).unwrap();
            machine.set_mode(folder, 0o755);
        }
        for file in files {
            machine.write(file, file);
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
        self.set_mode(name, 0o644);
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, name: &str) -> Result<Vec<Source>, LoadError> {
        let [etc, vendor] = ["etc", "vendor"].map(|folder| self.path(folder));
        let folders = Folders {
            etc: etc.to_str().unwrap(),
            vendor: vendor.to_str().unwrap(),
        };
        folders.read(&self.path(name))
    }

    /// The files that are read from `name`, in their order.
    fn files(&self, name: &str) -> Vec<String> {
        let sources = self.read(name).unwrap();
        let top = self.0.path();
        let files = sources.iter().map(|source| {
            let name = Path::new(&source.name).strip_prefix(top).unwrap();
            let name = name.to_str().unwrap();
            assert!([name, ""].contains(&source.text.as_str()));
            name.into()
        });
        files.collect()
    }

    fn message(&self, name: &str) -> String {
        self.read(name).unwrap_err().to_string()
    }
}

const POLICY: &str = "etc/policy.toml";

#[test]
fn drop_ins_come_after_the_policy_by_the_bytes_of_their_names() {
    let machine = Machine::new(&[
        POLICY,
        "etc/policy.d/b.toml",
        "etc/policy.d/10-z.toml",
        "etc/policy.d/9.toml",
        "etc/policy.d/\u{e9}.toml",
        "etc/policy.d/B.toml",
    ]);
    assert_eq!(
        machine.files("etc"),
        [
            POLICY,
            "etc/policy.d/10-z.toml",
            "etc/policy.d/9.toml",
            "etc/policy.d/B.toml",
            "etc/policy.d/b.toml",
            "etc/policy.d/\u{e9}.toml",
        ]
    );
    assert_eq!(machine.files(POLICY), [POLICY]);
}

#[test]
fn what_is_no_drop_in_is_passed_over() {
    let machine = Machine::new(&[
        POLICY,
        "etc/other.toml",
        "etc/policy.d/.hidden.toml",
        "etc/policy.d/.toml",
        "etc/policy.d/toml",
        "etc/policy.d/a.toml~",
        "etc/policy.d/a.TOML",
        "etc/policy.d/a.toml.dpkg-new",
    ]);
    fs::create_dir(machine.path("etc/policy.d/more")).unwrap();
    machine.write("etc/policy.d/more/a.toml", "");
    assert_eq!(machine.files("etc"), [POLICY]);
}

#[test]
fn the_administrators_drop_in_stands_for_the_packages() {
    let machine = Machine::new(&[
        POLICY,
        "vendor/10-a.toml",
        "vendor/20-b.toml",
        "vendor/30-c.toml",
        "etc/policy.d/20-b.toml",
        "etc/policy.d/25-d.toml",
    ]);
    let all = [
        POLICY,
        "vendor/10-a.toml",
        "etc/policy.d/20-b.toml",
        "etc/policy.d/25-d.toml",
        "vendor/30-c.toml",
    ];
    assert_eq!(machine.files("etc"), all);
    assert_eq!(machine.files("etc/"), all);
    assert_eq!(machine.read("etc/.").unwrap().len(), all.len());
    // Switched off by what is empty, and by what is linked to nothing.
    machine.write("etc/policy.d/10-a.toml", "");
    symlink("/dev/null", machine.path("etc/policy.d/30-c.toml")).unwrap();
    assert_eq!(
        machine.files("etc"),
        [
            POLICY,
            "etc/policy.d/10-a.toml",
            "etc/policy.d/20-b.toml",
            "etc/policy.d/25-d.toml",
        ]
    );
    assert_eq!(machine.read("etc").unwrap()[1].text, "");
}

#[test]
fn the_packages_drop_ins_are_in_the_machines_policy_only() {
    let machine = Machine::new(&["vendor/a.toml", "vendor/policy.toml", POLICY]);
    assert_eq!(
        machine.files("etc"),
        [POLICY, "vendor/a.toml", "vendor/policy.toml"]
    );
    assert_eq!(machine.files(POLICY), [POLICY]);
    assert_eq!(machine.files("vendor"), ["vendor/policy.toml"]);
}

#[test]
fn folders_of_drop_ins_may_be_missing_but_not_the_policy() {
    let machine = Machine::new(&[POLICY]);
    fs::remove_dir(machine.path("vendor")).unwrap();
    fs::remove_dir(machine.path("etc/policy.d")).unwrap();
    assert_eq!(machine.files("etc"), [POLICY]);
    fs::remove_file(machine.path(POLICY)).unwrap();
    let message = machine.message("etc");
    assert!(
        message.contains("etc/policy.toml: No such file or directory"),
        "{message}"
    );
}

/// A mistake in a link must not switch rules off.
#[test]
fn what_is_there_has_to_be_readable() {
    let machine = Machine::new(&[POLICY]);
    let drop_in = machine.path("etc/policy.d/a.toml");
    let message = || machine.message("etc");
    symlink("/dev/nul", &drop_in).unwrap();
    assert!(message().ends_with(
        "/etc/policy.d/a.toml was in its folder, and cannot be found; correct it if it is a link \
         that leads nowhere, or else try again"
    ));
    fs::remove_file(&drop_in).unwrap();
    for other in ["/dev/zero", "/dev", "/proc/self/fd"] {
        symlink(other, &drop_in).unwrap();
        assert!(
            message().contains("a.toml is not a regular file"),
            "{other}"
        );
        fs::remove_file(&drop_in).unwrap();
    }
    fs::create_dir(&drop_in).unwrap();
    assert!(message().contains("a.toml is not a regular file"));
    fs::remove_dir(&drop_in).unwrap();

    let folder = machine.path("etc/policy.d");
    fs::remove_dir(&folder).unwrap();
    symlink("/missing", &folder).unwrap();
    assert!(message().contains("etc/policy.d: No such file or directory"));
    fs::remove_file(&folder).unwrap();
    machine.write("etc/policy.d", "");
    assert!(message().contains("etc/policy.d is not a folder"));
    // Only a drop-in can be switched off.
    fs::remove_file(machine.path(POLICY)).unwrap();
    symlink("/dev/null", machine.path(POLICY)).unwrap();
    assert!(message().contains("policy.toml is not a regular file"));
}

#[test]
fn a_drop_in_that_vanishes_is_told_apart() {
    let missing = |path: &str| open(Path::new(path)).map_err(listed).unwrap_err();
    assert!(
        missing("/missing")
            .to_string()
            .contains("was in its folder")
    );
    let other = missing("/proc/version/a").to_string();
    assert!(other.contains("Not a directory"), "{other}");
}

#[test]
fn a_file_in_a_folder_of_drop_ins_is_one() {
    let machine = Machine::new(&["etc/policy.d/a.toml", "vendor/a.toml"]);
    let sources = machine.read("etc/policy.d/a.toml").unwrap();
    assert_eq!(sources[0], Source::default());
    assert!(sources[1].name.ends_with("/etc/policy.d/a.toml"));
    assert_eq!(sources.len(), 2);
    symlink("/dev/null", machine.path("etc/policy.d/b.toml")).unwrap();
    let off = machine.read("etc/policy.d/b.toml").unwrap();
    assert_eq!(off, [Source::default()]);
    assert_eq!(machine.files("vendor/a.toml"), ["vendor/a.toml"]);
    let missing = machine.message("etc/policy.d/c.toml");
    assert!(missing.contains("c.toml: No such file or directory (os error 2); "));
    assert!(is_drop_in(Path::new("policy.d/a.toml")));
    fs::create_dir(machine.path("etc/policy.d/more")).unwrap();
    assert!(!is_drop_in(&machine.path("etc/policy.d/more")));
    assert!(!is_drop_in(Path::new("")));
}

#[test]
fn what_others_can_write_is_not_trusted() {
    let files = [POLICY, "etc/policy.d/a.toml", "vendor/b.toml"];
    let machine = Machine::new(&files);
    for mode in [0o644, 0o600, 0o444, 0o755] {
        for file in files {
            machine.set_mode(file, mode);
        }
        assert!(machine.read("etc").is_ok(), "{mode:o}");
    }
    let folders = ["etc", "etc/policy.d", "vendor"];
    for name in files.into_iter().chain(folders) {
        for mode in [0o775, 0o757, 0o777, 0o720, 0o702, 0o1777] {
            machine.set_mode(name, mode);
            let message = machine.message("etc");
            let path = machine.path(name);
            let path = path.display();
            assert_eq!(
                message,
                format!(
                    "the policy {path} can be written by others than its owner (mode {mode:04o}); \
                     run: chmod go-w {path}"
                )
            );
        }
        machine.set_mode(name, 0o755);
    }
}

#[test]
fn what_belongs_to_a_stranger_is_not_trusted() {
    let machine = Machine::new(&[POLICY]);
    for name in ["etc", POLICY] {
        let path = machine.path(name);
        let metadata = fs::metadata(&path).unwrap();
        let owner = metadata.uid();
        assert!(trust(&path, &metadata, Uid::from_raw(owner)).is_ok());
        let judged = trust(&path, &metadata, Uid::from_raw(owner + 1));
        assert_eq!(judged.is_ok(), owner == 0);
    }
    for path in ["/proc/version", "/proc"].map(Path::new) {
        let metadata = fs::metadata(path).unwrap();
        assert!(trust(path, &metadata, Uid::from_raw(12345)).is_ok());
    }
}

#[test]
fn what_is_no_file() {
    let machine = Machine::new(&[]);
    let fifo = machine.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(machine.message("fifo").contains("is not a regular file"));
    let missing = machine.message("missing");
    assert!(missing.contains("missing: No such file or directory"));
}

#[test]
fn a_link_is_judged_by_the_file_it_leads_to() {
    let machine = Machine::new(&["file", POLICY]);
    machine.set_mode("file", 0o666);
    symlink(machine.path("file"), machine.path("link")).unwrap();
    let written = "can be written by others";
    assert!(machine.message("link").contains(written));
    symlink("../../file", machine.path("etc/policy.d/a.toml")).unwrap();
    assert!(machine.message("etc").contains(written));
    machine.set_mode("file", 0o644);
    assert_eq!(machine.read("etc").unwrap()[1].text, "file");
}

#[test]
fn encoding() {
    let machine = Machine::new(&[POLICY]);
    machine.write("etc/policy.d/a.toml", b"# ok\n# \xff\n");
    let message = machine.message("etc");
    assert!(
        message.contains("a.toml is not UTF-8 in line 2"),
        "{message}"
    );
}

#[test]
fn all_files_together_have_a_size() {
    let machine = Machine::new(&[POLICY, "etc/policy.d/a.toml"]);
    let set_size = |name: &str, size| {
        let file = File::options().write(true).open(machine.path(name));
        file.unwrap().set_len(size).unwrap();
    };
    set_size(POLICY, MAX_SIZE - 1);
    set_size("etc/policy.d/a.toml", 1);
    assert!(machine.read("etc").is_ok());
    set_size("etc/policy.d/a.toml", 2);
    let message = machine.message("etc");
    let larger = "a.toml is, with the files before it, larger than 16 MiB; check that it is the \
                  right file";
    assert!(message.ends_with(larger), "{message}");
    set_size(POLICY, MAX_SIZE + 1);
    let message = machine.message("etc");
    assert!(
        message.contains("policy.toml is larger than 16 MiB"),
        "{message}"
    );
}
