// SPDX-License-Identifier: GPL-2.0-only
use vt100::Parser;

use super::*;

#[test]
fn what_looks_alike_is_one_text_at_its_place() {
    let mut terminal = Parser::new("5".parse().unwrap(), "20".parse().unwrap(), 0);
    terminal.process(b"gone\x1b[2J\x1b[1;1Ha<b \x1b[1;31mred\x1b[0m\r\n\x1b[7m q \x1b[0m quit");
    let svg = draw(terminal.screen(), "a title");
    let texts: Vec<_> = svg
        .lines()
        .filter(|line| line.contains("textLength"))
        .collect();
    assert_eq!(texts.len(), 4, "{svg}");
    assert!(texts[0].ends_with(">a&lt;b </text>"), "{svg}");
    assert!(
        texts[1].contains("x=\"47.72\"") && texts[1].contains("font-weight"),
        "{svg}"
    );
    assert!(
        texts[1].contains(COLOURS[1]) && texts[1].ends_with(">red</text>"),
        "{svg}"
    );
    assert!(
        texts[2].contains(&format!("fill=\"{BACKGROUND}\"")),
        "{svg}"
    );
    assert!(
        svg.contains(&format!("rx=\"3\" fill=\"{FOREGROUND}\"")),
        "{svg}"
    );
    // Two lines of five: the rest is left out.
    assert!(svg.contains("height=\"81\""), "{svg}");
}
