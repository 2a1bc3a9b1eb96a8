// SPDX-License-Identifier: GPL-2.0-only
use super::*;

fn errors(text: &str, at: Range<usize>) -> Errors {
    let source = Source::new("p.toml", text);
    let mut report = Report::new(&source);
    report.error(at, "wrong", "mend it");
    Errors(report.finish())
}

fn place(text: &str, at: Range<usize>) -> (usize, usize) {
    let errors = errors(text, at);
    errors.render(true);
    (errors.list()[0].line, errors.list()[0].column)
}

#[test]
fn lines_and_columns_count_from_one() {
    assert_eq!(place("ab\ncd\n", 0..1), (1, 1));
    assert_eq!(place("ab\ncd\n", 1..2), (1, 2));
    assert_eq!(place("ab\ncd\n", 3..5), (2, 1));
    assert_eq!(place("ab\ncd\n", 6..6), (3, 1));
    assert_eq!(place("", 0..0), (1, 1));
}

#[test]
fn columns_count_characters_and_carets_stand_below_them() {
    let errors = errors("ü = 日本 x\n", 12..13);
    assert_eq!((errors.list()[0].line, errors.list()[0].column), (1, 8));
    assert_eq!(
        errors.render(false),
        "error: wrong\n \
         --> p.toml:1:8\n  \
         |\n\
         1 | ü = 日本 x\n  \
         |          ^\n  \
         |\n  \
         = help: mend it"
    );
}

#[test]
fn places_that_do_not_fit_the_text() {
    // Inside a character, over the line's end, past the file's end.
    assert_eq!(place("ü", 1..2), (1, 1));
    assert_eq!(place("a\r\nb", 0..4), (1, 1));
    assert_eq!(place("ab", 9..12), (1, 3));
}

#[test]
fn mistakes_stand_in_file_order() {
    let source = Source::new("p.toml", "a\nb\nc\n");
    let mut report = Report::new(&source);
    report.error(4..5, "third", "");
    report.error(0..1, "first", "");
    report.error(2..3, "second", "");
    let errors = report.finish();
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["first", "second", "third"]);
}
