// SPDX-License-Identifier: GPL-2.0-only
//! The cores as a picture: each node is a block of cores, each core has its hardware threads side by
//! side. What a core does is told by its letters; colours only say it again.

use std::collections::HashMap;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::view::View;
use crate::policy::Word;
use crate::report::{Core, CoreState, Cpu, CpuState, Node};

/// How large a core is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// A box with a line for each thread.
    Boxes,
    /// A letter for each thread.
    Threads,
    /// A letter for each core.
    Cores,
}

impl Level {
    /// From the largest on.
    pub(super) const ALL: [Self; 3] = [Self::Boxes, Self::Threads, Self::Cores];

    /// The one that a user gets to next; `None`: the one that there is room for.
    pub(super) fn after(level: Option<Self>) -> Option<Self> {
        let at = Self::ALL.iter().position(|one| Some(*one) == level);
        Self::ALL.get(at.map_or(0, |at| at + 1)).copied()
    }
}

/// The inner width of a box.
const BOX: usize = 16;

/// What stands between two nodes side by side.
const GAP: usize = 2;

/// The letters of rules.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The letter of the rule with this number; of many rules, some share one.
pub(super) fn letter(number: usize) -> char {
    LETTERS[number % LETTERS.len()].into()
}

/// How text of a core is shown.
pub(super) fn style(state: CoreState, colours: bool) -> Style {
    let (colour, modifier) = match state {
        CoreState::Free => (Color::Green, Modifier::empty()),
        CoreState::Busy => (Color::Yellow, Modifier::empty()),
        CoreState::Held => (Color::Cyan, Modifier::BOLD),
        CoreState::Shared => (Color::Red, Modifier::BOLD),
        CoreState::Offline => (Color::Reset, Modifier::DIM),
    };
    let style = Style::new().add_modifier(modifier);
    if colours { style.fg(colour) } else { style }
}

/// Lines of one width.
struct Block {
    width: usize,
    lines: Vec<Line<'static>>,
}

/// The picture in so many columns, in the largest size that fits into so many lines; without one, in
/// the smallest.
pub(super) fn picture(view: &View, width: usize, height: usize) -> Vec<Line<'static>> {
    let mut drawn = Vec::new();
    for level in Level::ALL {
        if view.level.is_none_or(|chosen| chosen == level) {
            drawn = flow(blocks(view, level, width), width);
            if drawn.len() <= height {
                break;
            }
        }
    }
    drawn
}

/// The blocks of the nodes that are shown.
fn blocks(view: &View, level: Level, width: usize) -> Vec<Block> {
    let Some(sight) = &view.sight else {
        return Vec::new();
    };
    let rules = sight.status.rules.iter().enumerate();
    let letters: HashMap<_, _> = rules
        .map(|(number, rule)| (rule.name.as_str(), letter(number)))
        .collect();
    let shown = |core: &&Core| view.node.is_none_or(|node| node == core.node);
    let cores: Vec<_> = sight.cores.cores.iter().filter(shown).collect();
    cores
        .chunk_by(|a, b| a.node == b.node)
        .map(|cores| {
            let node = cores[0].node;
            let node = sight.status.nodes.iter().find(|known| known.node == node);
            let cells = cores.iter().map(|core| cell(core, level, view, &letters));
            block(header(cores, node, level), cells.collect(), width)
        })
        .collect()
}

/// What a node has; of small cores, only what is asked for most.
fn header(cores: &[&Core], node: Option<&Node>, level: Level) -> String {
    let count = |state| cores.iter().filter(|core| core.state == state).count();
    let mut text = format!(
        "node {}: {} of {} free",
        cores[0].node,
        count(CoreState::Free),
        cores.len()
    );
    if level == Level::Cores {
        return text;
    }
    for state in [CoreState::Held, CoreState::Shared, CoreState::Offline] {
        match count(state) {
            0 => {}
            count => text += &format!(", {count} {state}"),
        }
    }
    match node.map_or(0, |node| node.owed) {
        0 => text,
        owed => format!("{text}, {owed} owed"),
    }
}

/// A core: lines of one width.
fn cell(
    core: &Core,
    level: Level,
    view: &View,
    letters: &HashMap<&str, char>,
) -> Vec<Line<'static>> {
    let style = style(core.state, view.colours);
    // Holders by rules that are not shown look like others.
    let holder = |cpu: &Cpu| {
        let rule = cpu.rule.as_deref().unwrap_or("?");
        (cpu.state == CpuState::Held && view.shows(rule)).then(|| rule.to_owned())
    };
    let mark = |cpu: &Cpu| match (cpu.state, holder(cpu)) {
        (_, Some(rule)) => letters.get(rule.as_str()).copied().unwrap_or('?'),
        (CpuState::Idle, _) => '·',
        (CpuState::Offline, _) => 'x',
        _ => '#',
    };
    match level {
        Level::Cores => {
            let holder = core.cpus.iter().find(|cpu| holder(cpu).is_some());
            let mark = match core.state {
                CoreState::Free => '·',
                CoreState::Shared => '!',
                CoreState::Offline => 'x',
                _ => holder.map_or('#', mark),
            };
            vec![Line::styled(mark.to_string(), style)]
        }
        Level::Threads => {
            let marks: String = core.cpus.iter().map(mark).collect();
            vec![Line::styled(format!("[{marks}] "), style)]
        }
        Level::Boxes => {
            let title = format!(" {} ", core.state.word());
            let mut lines = vec![Line::styled(format!("┌{title:─<BOX$}┐"), style)];
            for cpu in &core.cpus {
                let what = match (holder(cpu), cpu.pid) {
                    (Some(rule), Some(pid)) => {
                        let pid = pid.to_string();
                        let room = BOX.saturating_sub(pid.len() + 6);
                        format!("{} {pid}", crate::report::shortened(&rule, room))
                    }
                    _ => cpu.state.word().to_owned(),
                };
                let line = format!("{:>4} {what}", cpu.cpu);
                lines.push(Line::styled(format!("│{line:<BOX$}│"), style));
            }
            lines.push(Line::styled(format!("└{:─<BOX$}┘", ""), style));
            lines
        }
    }
}

/// A node: its cores in rows, below what it has.
fn block(header: String, cells: Vec<Vec<Line<'static>>>, width: usize) -> Block {
    let cell = cells
        .iter()
        .filter_map(|cell| cell.first())
        .map(Line::width);
    let cell = cell.max().unwrap_or(1);
    // Cores in groups, so that they can be counted.
    let each_row = match (width / cell).max(1) {
        many if many > 8 => many / 8 * 8,
        few => few,
    };
    let wide = (each_row.min(cells.len()) * cell)
        .max(header.chars().count())
        .min(width);
    let mut lines = vec![padded(Line::styled(header, Modifier::BOLD), wide)];
    for row in cells.chunks(each_row) {
        let high = row.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..high {
            let spans = row.iter().flat_map(|cell| {
                let line = cell.get(line).cloned().unwrap_or_default();
                let (style, pad) = (line.style, cell_width(cell) - line.width());
                let spans = line
                    .spans
                    .into_iter()
                    .map(move |span| span.patch_style(style));
                spans.chain([Span::raw(" ".repeat(pad))])
            });
            lines.push(padded(spans.collect(), wide));
        }
    }
    Block { width: wide, lines }
}

fn cell_width(cell: &[Line<'_>]) -> usize {
    cell.iter().map(Line::width).max().unwrap_or(0)
}

fn padded(mut line: Line<'static>, width: usize) -> Line<'static> {
    let style = std::mem::take(&mut line.style);
    for span in &mut line.spans {
        span.style = style.patch(span.style);
    }
    let pad = width.saturating_sub(line.width());
    line.push_span(Span::raw(" ".repeat(pad)));
    line
}

/// Blocks side by side as long as there is room, and then below.
fn flow(blocks: Vec<Block>, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    // Where the next block goes.
    let (mut top, mut left) = (0, 0);
    for block in blocks {
        if left > 0 && left + GAP + block.width > width {
            (top, left) = (lines.len(), 0);
        }
        let gap = if left > 0 { GAP } else { 0 };
        for (number, line) in block.lines.into_iter().enumerate() {
            if lines.len() <= top + number {
                lines.push(Line::default());
            }
            let to = &mut lines[top + number];
            let pad = (left + gap).saturating_sub(to.width());
            to.push_span(Span::raw(" ".repeat(pad)));
            to.spans.extend(line.spans);
        }
        left += gap + block.width;
    }
    lines
}
