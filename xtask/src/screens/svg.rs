// SPDX-License-Identifier: GPL-2.0-only
//! A terminal's screen as an SVG picture.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

/// Of a character, in pixels: as a font of this size has them.
const SIZE: f32 = 14.0;
const WIDTH: f32 = 8.43;
const HEIGHT: f32 = 16.5;

/// Around the text, and above it.
const MARGIN: f32 = 14.0;
const TITLE: f32 = 34.0;

const BACKGROUND: &str = "#16191f";
const FOREGROUND: &str = "#d7dae0";

/// The colours of a terminal by their numbers.
const COLOURS: [&str; 16] = [
    "#3b4048", "#ef6b73", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56c8d8", "#d7dae0",
    "#6b7380", "#ff7b86", "#b5e08f", "#ffd68a", "#7cc4ff", "#dd9bf0", "#7fe3f0", "#ffffff",
];

/// How a cell is shown.
#[derive(Clone, PartialEq)]
struct Look {
    text: String,
    behind: Option<String>,
    bold: bool,
    dim: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let text = colour(cell.fgcolor());
        let behind = colour(cell.bgcolor());
        let (text, behind) = if cell.inverse() {
            let text = text.unwrap_or_else(|| FOREGROUND.into());
            (behind.unwrap_or_else(|| BACKGROUND.into()), Some(text))
        } else {
            (text.unwrap_or_else(|| FOREGROUND.into()), behind)
        };
        Self {
            text,
            behind,
            bold: cell.bold(),
            dim: cell.dim(),
        }
    }
}

fn colour(colour: Color) -> Option<String> {
    match colour {
        Color::Default => None,
        Color::Idx(number) => COLOURS
            .get(usize::from(number))
            .map(|&colour| colour.into()),
        Color::Rgb(red, green, blue) => Some(format!("#{red:02x}{green:02x}{blue:02x}")),
    }
}

/// Draws a screen in a window with a title; lines below the last text are left out.
pub(super) fn draw(screen: &Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let text: Vec<_> = screen.rows(0, columns.get()).collect();
    let used = text.iter().rposition(|row| !row.trim().is_empty());
    let rows = used.map_or(1, |row| row as u16 + 1).min(rows.get());
    let width = f32::from(columns.get()) * WIDTH + 2.0 * MARGIN;
    let height = f32::from(rows) * HEIGHT + TITLE + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.1} {height:.1}\" font-size=\"{SIZE}\" \
         font-family=\"'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace\">\n\
         <title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"9\" fill=\"{BACKGROUND}\"/>\n"
    );
    for (number, fill) in ["#ef6b73", "#e5c07b", "#98c379"].into_iter().enumerate() {
        let x = 20 + 18 * number;
        // Writing to a string does not fail, here and below.
        let _ = writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"17\" r=\"5.5\" fill=\"{fill}\"/>"
        );
    }
    let middle = width / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle:.1}\" y=\"22\" fill=\"#8b93a1\" text-anchor=\"middle\">{title}</text>"
    );
    for row in 0..rows {
        draw_row(&mut svg, screen, row, columns.get());
    }
    svg + "</svg>\n"
}

/// Draws a row: what looks alike side by side is one text of a given length, whichever font there is.
fn draw_row(svg: &mut String, screen: &Screen, row: u16, columns: u16) {
    let top = TITLE + f32::from(row) * HEIGHT;
    let mut column = 0;
    while column < columns {
        let begin = column;
        let look = |column| screen.cell(row, column).map(Look::of);
        let first = look(begin);
        let mut text = String::new();
        while column < columns && look(column) == first {
            let contents = screen.cell(row, column).map_or("", Cell::contents);
            text += if contents.is_empty() { " " } else { contents };
            column += 1;
        }
        let Some(first) = first else { continue };
        let (x, length) = (
            MARGIN + f32::from(begin) * WIDTH,
            f32::from(column - begin) * WIDTH,
        );
        if let Some(behind) = &first.behind {
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.2}\" y=\"{top:.2}\" width=\"{length:.2}\" height=\"{HEIGHT}\" rx=\"3\" fill=\"{behind}\"/>"
            );
        }
        if text.trim().is_empty() {
            continue;
        }
        let weight = if first.bold {
            " font-weight=\"bold\""
        } else {
            ""
        };
        let opacity = if first.dim { " opacity=\"0.6\"" } else { "" };
        let escaped = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.2}\" y=\"{:.2}\" fill=\"{}\" textLength=\"{length:.2}\" \
             xml:space=\"preserve\"{weight}{opacity}>{escaped}</text>",
            top + SIZE * 0.93,
            first.text
        );
    }
}

#[cfg(test)]
mod tests;
