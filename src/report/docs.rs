// SPDX-License-Identifier: GPL-2.0-only
//! Tables of the documentation that come from tables of the code.

use std::fs;
use std::path::Path;

/// Holds the table in `file` that begins with `header` equal to these rows. `COREGATE_BLESS=1`
/// writes it anew.
pub(super) fn hold(file: &str, header: &str, rows: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).expect("the documentation");
    let at = text
        .find(header)
        .unwrap_or_else(|| panic!("{file} has no table {header}"));
    let lines = text[at..].split_inclusive('\n');
    let length: usize = lines
        .take_while(|line| line.starts_with('|'))
        .map(str::len)
        .sum();
    let columns = header.matches('|').count() - 1;
    let table = format!("{header}\n|{}\n{}", "---|".repeat(columns), rows.concat());
    if text[at..at + length] == table {
        return;
    }
    assert!(
        std::env::var_os("COREGATE_BLESS").is_some(),
        "the table in {file} is not:\n{table}"
    );
    let text = [&text[..at], &table, &text[at + length..]].concat();
    fs::write(path, text).expect("it can be written");
}
