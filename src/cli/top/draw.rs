// SPDX-License-Identifier: GPL-2.0-only
//! From a view to a frame.

use humantime::format_rfc3339_seconds;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Sparkline};

use super::picture::{letter, picture, style};
use super::view::View;
use crate::policy::{Effect, Mode, Verdict, Word};
use crate::report::{Claim, CoreState, Event, Surroundings, shortened};

/// From so many columns on, the lists stand beside the picture.
const WIDE: u16 = 120;

/// The lines that a list has at least, its title included.
const FEWEST: u16 = 4;

const HELP: &str = "\
q, Ctrl-C   end
p, space    pause, go on
n, N        the next node, the one before
r, /        type what the names of rules hold that are shown; Enter
Esc         all rules and nodes again
z           cores larger, smaller, as there is room
↑ ↓, j k    scroll the cores; PgUp, PgDn, Home
?, h        this help

[··]  free: a launch could have the core        ·  a free core
[#·]  busy with what no rule is for             #  a busy core
[a·]  held by a program of the rule a           a  a held core
[a#]  shared: held, and something else runs     !  a shared core
[xx]  offline                                   x  an offline core

Owed are cores that claims hold and do not have, as their programs
sleep or share. The daemon, when it answers, does not make a core busy.";

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, view);
    if body.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)])
                .spacing(1)
                .areas(body);
        let room = usize::from(left.height.saturating_sub(1));
        let lines = picture(view, left.width.into(), room);
        draw_cores(frame, left, view, lines);
        let lists = right.height.saturating_sub(FEWEST) / 3;
        let [rules, claims, denials] = Layout::vertical([
            Constraint::Length(rules_height(view).min(lists.max(FEWEST))),
            Constraint::Length(claims_height(view).min(lists.max(FEWEST))),
            Constraint::Min(FEWEST),
        ])
        .areas(right);
        draw_rules(frame, rules, view);
        draw_claims(frame, claims, view);
        draw_denials(frame, denials, view);
    } else {
        let room = body.height.saturating_sub(2 * FEWEST + 1);
        let lines = picture(view, body.width.into(), room.into());
        let cores = (lines.len() as u16 + 1).min(room + 1);
        let left = body.height.saturating_sub(cores);
        let lists = rules_height(view).max(claims_height(view));
        let [cores, lists, denials] = Layout::vertical([
            Constraint::Length(cores),
            Constraint::Length(lists.clamp(FEWEST.min(left), (left / 2).max(FEWEST))),
            Constraint::Min(0),
        ])
        .areas(body);
        draw_cores(frame, cores, view, lines);
        let [rules, claims] =
            Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)])
                .spacing(1)
                .areas(lists);
        draw_rules(frame, rules, view);
        draw_claims(frame, claims, view);
        draw_denials(frame, denials, view);
    }
    frame.render_widget(Paragraph::new(keys(view)), foot);
    if view.help {
        draw_help(frame);
    }
}

fn paint(view: &View, colour: Color) -> Style {
    if view.colours {
        Style::new().fg(colour)
    } else {
        Style::new()
    }
}

/// A list with its title in the line above it.
fn list(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &View,
    title: String,
    text: impl Into<Text<'static>>,
) {
    let border = paint(view, Color::DarkGray);
    let bold = Style::reset().add_modifier(Modifier::BOLD);
    let title = Line::from(vec![
        Span::styled("─ ", border),
        Span::styled(format!("{title} "), bold),
    ]);
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(border)
        .title(title);
    frame.render_widget(Paragraph::new(text.into()).block(block), area);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let [first, second, third] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let Some(sight) = &view.sight else {
        return;
    };
    let status = &sight.status;
    let enforces = status.mode == Mode::Enforce.word();
    let mode = paint(
        view,
        if enforces {
            Color::Green
        } else {
            Color::Yellow
        },
    );
    let scheduler = status.scheduler.as_ref().map_or("none", |one| &one.ops);
    let source = status.source.as_deref().unwrap_or("none");
    let title = Line::from(vec![
        Span::styled("coregate top  ", Modifier::BOLD),
        Span::styled(status.mode.clone(), mode.add_modifier(Modifier::BOLD)),
        Span::raw(format!(
            "  generation {}  scheduler {scheduler}  source {source}",
            status.generation
        )),
    ]);
    frame.render_widget(Paragraph::new(title), first);
    let time = format_rfc3339_seconds(sight.time).to_string();
    let time = time.get(11..).unwrap_or_default().to_owned();
    let time = if view.paused {
        format!("paused  {time}")
    } else {
        time
    };
    frame.render_widget(Paragraph::new(Line::from(time).right_aligned()), first);

    let (rates, alarm) = (view.total(), paint(view, Color::Red));
    let when = |wrong: bool, style: Style| if wrong { style } else { Style::new() };
    let rates = Line::from(vec![
        Span::raw(format!("launches {:.1}/s  ", rates.launches)),
        Span::styled(
            format!("denied {:.1}/s  ", rates.denied),
            when(rates.denied > 0.0, alarm),
        ),
        Span::styled(
            format!("would deny {:.1}/s", rates.would_deny),
            when(rates.would_deny > 0.0, paint(view, Color::Yellow)),
        ),
    ]);
    let width = rates.width() as u16 + 2;
    frame.render_widget(Paragraph::new(rates), second);
    let room = second.width.saturating_sub(width);
    let curve = view.curve.iter().rev().take(room.into());
    let curve: Vec<_> = curve
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let at = second.right().saturating_sub(curve.len() as u16);
    let place = Rect {
        x: at,
        width: curve.len() as u16,
        ..second
    };
    frame.render_widget(Sparkline::default().data(curve).style(alarm), place);

    let wrong = status.concerns(&Surroundings::default());
    let wrong = wrong.iter().find(|concern| concern.grave);
    let line = match (&view.missed, wrong) {
        (Some(why), _) => Line::styled(why.clone(), alarm),
        (None, Some(wrong)) => {
            Line::styled(format!("wrong: {} - coregate status", wrong.what), alarm)
        }
        (None, None) => Line::default(),
    };
    frame.render_widget(Paragraph::new(line), third);
}

fn draw_cores(frame: &mut Frame<'_>, area: Rect, view: &View, lines: Vec<Line<'static>>) {
    let room = usize::from(area.height.saturating_sub(1));
    let hidden = lines.len().saturating_sub(room);
    let above = view.scroll.min(hidden);
    let cores = view.sight.iter().flat_map(|sight| &sight.cores.cores);
    let cores: Vec<_> = cores.map(|core| core.state).collect();
    let free = cores
        .iter()
        .filter(|state| **state == CoreState::Free)
        .count();
    let below = hidden - above;
    let more = if hidden > 0 {
        format!("; {above} lines above, {below} below")
    } else {
        String::new()
    };
    let lines: Vec<_> = lines.into_iter().skip(above).collect();
    list(
        frame,
        area,
        view,
        format!("cores: {free} of {} free{more}", cores.len()),
        lines,
    );
}

fn rules_height(view: &View) -> u16 {
    let rules = view.sight.iter().flat_map(|sight| &sight.status.rules);
    let shown = rules.filter(|rule| view.shows(&rule.name)).count();
    u16::try_from(shown + 2).unwrap_or(u16::MAX)
}

fn claims_height(view: &View) -> u16 {
    u16::try_from(claims(view).count() + 1).unwrap_or(u16::MAX)
}

fn draw_rules(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rules = view.rules();
    let room = usize::from(area.height.saturating_sub(2));
    let shown = rules.len().min(room);
    let name = usize::from(area.width).saturating_sub(31);
    let head = format!(
        "  {:name$} {:>8} {:>7} {:>6} {:>4}",
        "", "launch/s", "deny/s", "would", "hold"
    );
    let mut lines = vec![Line::styled(head, Modifier::DIM)];
    for (number, rule) in rules.iter().take(shown) {
        let rates = view.rates.get(&rule.name).copied().unwrap_or_default();
        let style = if rates.denied > 0.0 {
            paint(view, Color::Red)
        } else if rates.would_deny > 0.0 {
            paint(view, Color::Yellow)
        } else {
            Style::new()
        };
        let line = format!(
            "{} {:<name$} {:>8.1} {:>7.1} {:>6.1} {:>4}",
            letter(*number),
            shortened(&rule.name, name),
            rates.launches,
            rates.denied,
            rates.would_deny,
            rule.claims
        );
        lines.push(Line::styled(line, style));
    }
    let hidden = rules.len() - shown;
    let title = match hidden {
        0 => format!("rules: {}", rules.len()),
        hidden => format!("rules: {}, {hidden} not shown", rules.len()),
    };
    list(frame, area, view, title, lines);
}

/// The claims that are shown.
fn claims(view: &View) -> impl Iterator<Item = &Claim> {
    let claims = view.sight.iter().flat_map(|sight| &sight.cores.claims);
    claims.filter(|claim| {
        let on = |node| claim.holds.iter().any(|held| held.node == node);
        view.shows(claim.rule.as_deref().unwrap_or("?")) && view.node.is_none_or(on)
    })
}

fn draw_claims(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rules = view.sight.iter().flat_map(|sight| &sight.status.rules);
    let names: Vec<_> = rules.map(|rule| rule.name.as_str()).collect();
    let all: Vec<_> = claims(view).collect();
    let room = usize::from(area.height.saturating_sub(1));
    let held = style(CoreState::Held, view.colours);
    let lines = all.iter().take(room).map(|claim| {
        let rule = claim.rule.as_deref().unwrap_or("?");
        let number = names.iter().position(|name| *name == rule);
        let holds = claim.holds.iter();
        let holds = holds.map(|held| match held.cores {
            1 => format!("node {}", held.node),
            cores => format!("{cores} of node {}", held.node),
        });
        Line::from(vec![
            Span::styled(number.map_or('?', letter).to_string(), held),
            Span::raw(format!(" {} {}  ", claim.pid, claim.comm)),
            Span::raw(holds.collect::<Vec<_>>().join(", ")),
        ])
    });
    let title = match all.len().saturating_sub(room) {
        0 => format!("claims: {}", all.len()),
        hidden => format!("claims: {}, {hidden} not shown", all.len()),
    };
    list(frame, area, view, title, lines.collect::<Vec<_>>());
}

/// Why a launch was denied, or would be.
fn reason(event: &Event) -> String {
    if event.verdict == Verdict::Unknown {
        return "it could not be known which cores were free".into();
    }
    let owed = match event.cores_claimed {
        0 => String::new(),
        owed => format!(", {owed} owed"),
    };
    format!(
        "needs {}, {} free{owed} on node {}",
        event.cores_needed, event.cores_free, event.node
    )
}

fn draw_denials(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let room = usize::from(area.height.saturating_sub(1));
    let lines = view.denials().take(room).map(|event| {
        let time = format_rfc3339_seconds(event.time).to_string();
        let (effect, style) = if event.effect == Effect::Denied {
            ("denied", paint(view, Color::Red))
        } else {
            ("would be", paint(view, Color::Yellow))
        };
        let errno = event
            .errno
            .map_or(String::new(), |errno| format!(" {errno}"));
        let rule = shortened(&event.rule, 20);
        let (why, pid) = (reason(event), event.pid);
        let before = format!("00:00:00 {effect}{errno} {rule} {why}:  ({pid})");
        let room = usize::from(area.width).saturating_sub(before.chars().count());
        Line::from(vec![
            Span::raw(format!("{} ", time.get(11..19).unwrap_or_default())),
            Span::styled(format!("{effect}{errno} "), style),
            Span::styled(format!("{rule} "), Modifier::BOLD),
            Span::raw(format!("{why}: {} ({pid})", shortened(&event.exe, room))),
        ])
    });
    list(
        frame,
        area,
        view,
        "last denials".into(),
        lines.collect::<Vec<_>>(),
    );
}

fn keys(view: &View) -> Line<'static> {
    if view.types {
        return Line::from(format!("rules with: {}_   Enter, Esc: all", view.filter));
    }
    let node = view.node.map_or("all".into(), |node| node.to_string());
    let rule = if view.filter.is_empty() {
        "all".to_owned()
    } else {
        format!("*{}*", view.filter)
    };
    let keys = [
        ("q", "quit".to_owned()),
        ("?", "help".into()),
        ("p", if view.paused { "go on" } else { "pause" }.into()),
        ("n", format!("node: {node}")),
        ("r", format!("rule: {rule}")),
        ("z", "zoom".into()),
        ("↑↓", "scroll".into()),
    ];
    let spans = keys.into_iter().flat_map(|(key, what)| {
        let key = Span::styled(format!(" {key} "), Modifier::REVERSED);
        [key, Span::raw(format!(" {what} "))]
    });
    spans.collect()
}

fn draw_help(frame: &mut Frame<'_>) {
    let text = Text::from(HELP);
    let (width, height) = (text.width() as u16 + 4, text.height() as u16 + 2);
    let area = frame
        .area()
        .centered(Constraint::Length(width), Constraint::Length(height));
    let block = Block::bordered()
        .title(" help ")
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(block), area);
}

#[cfg(test)]
mod tests;
