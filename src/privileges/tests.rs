// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::path::Path;

use super::*;

/// The rows of the table of docs/operations.md that follows this heading.
fn rows(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(heading).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `CAP_"));
    rows.map(str::to_owned).collect()
}

#[test]
fn the_documentation_has_what_is_kept() {
    let table = |kept: &[Kept]| {
        let row = |kept: &Kept| format!("| `{}` | {} |", kept.capability, kept.purpose);
        kept.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(rows("\n### The daemon keeps\n"), table(DAEMON));
    assert_eq!(rows("\n### The companion keeps\n"), table(COMPANION));
}

#[test]
fn what_is_not_kept_is_gone() {
    // A thread of its own: capabilities are a thread's.
    let kept = std::thread::spawn(|| {
        keep(&[]).unwrap();
        [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable]
            .map(|set| caps::read(None, set).unwrap())
    });
    let kept = kept.join().unwrap();
    assert!(kept.iter().all(CapsHashSet::is_empty), "{kept:?}");
}

#[test]
fn audit_is_kept_where_it_is_wanted() {
    assert_eq!(of_daemon(false), []);
    assert_eq!(of_daemon(true), DAEMON);
}
