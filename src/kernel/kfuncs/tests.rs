// SPDX-License-Identifier: GPL-2.0-only
use std::fs;

use tempfile::TempDir;

use super::*;

/// What a kernel with these functions says of its types: btf.rst of the kernel's documentation.
pub(in crate::kernel) fn btf_of(functions: &[Kfunc<'_>]) -> Vec<u8> {
    const INT: u32 = 1 << 24;
    const FUNC: u32 = 12 << 24;
    const FUNC_PROTO: u32 = 13 << 24;
    let mut strings = b"\0int\0".to_vec();
    let mut words = vec![1, INT, 4, 1 << 24 | 32];
    for (at, (name, arguments)) in functions.iter().enumerate() {
        let prototype = 2 + 2 * at as u32;
        words.extend([0, FUNC_PROTO | *arguments as u32, 1]);
        words.extend([1, 1].repeat(*arguments));
        words.extend([strings.len() as u32, FUNC, prototype]);
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let types = 4 * words.len() as u32;
    let header = [0x0001_eb9f, 24, 0, types, types, strings.len() as u32];
    let words = header.into_iter().chain(words);
    words.flat_map(u32::to_ne_bytes).chain(strings).collect()
}

fn refused_by(functions: &[Kfunc<'_>], kfuncs: &[Kfunc<'static>]) -> Vec<&'static str> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("vmlinux");
    fs::write(&path, btf_of(functions)).unwrap();
    refused(&Btf::from_path(&path).unwrap(), kfuncs)
}

#[test]
fn a_function_counts_by_name_and_arguments() {
    let kernel = [("kick", 2), ("now", 0), ("create", 3)];
    assert_eq!(refused_by(&kernel, &[("kick", 2), ("now", 0)]), [""; 0]);
    // One that is missing, and one whose implicit argument is still described.
    let wanted = [("kick", 2), ("gone", 2), ("create", 2), ("kic", 2)];
    assert_eq!(refused_by(&kernel, &wanted), ["gone", "create", "kic"]);
}

#[test]
fn a_function_of_several_forms_is_not_needed() {
    let wanted = [("gone___plain", 2), ("kick___call", 3)];
    assert_eq!(refused_by(&[("kick", 2)], &wanted), [""; 0]);
}
