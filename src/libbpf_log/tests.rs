// SPDX-License-Identifier: GPL-2.0-only
use super::*;

#[test]
fn an_error_quotes_the_end() {
    assert_eq!(end_of(""), "");
    assert_eq!(end_of("one\ntwo\n"), "\n  one\n  two");
    let many: String = (1..=LINES + 1).map(|n| format!("{n}\n")).collect();
    let said = end_of(&many);
    assert!(said.starts_with("\n  2\n"), "{said}");
    assert_eq!(said.lines().count(), LINES + 1);
}
