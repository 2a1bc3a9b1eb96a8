// SPDX-License-Identifier: GPL-2.0-only
//! What is to be drawn: what was seen last, what follows from it and the look before, and what the
//! user wants to see of it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};

use ratatui::crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};

use super::Sight;
use super::picture::Level;
use crate::report::{Event, Rule};

/// How many looks the curve of denials goes back.
const REMEMBERED: usize = 120;

/// What comes after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    End,
}

/// Launches a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) launches: f64,
    pub(super) denied: f64,
    pub(super) would_deny: f64,
}

pub(super) struct View {
    pub(super) colours: bool,
    pub(super) sight: Option<Sight>,
    /// By the names of rules; those of which nothing is known yet are not in it.
    pub(super) rates: HashMap<String, Rates>,
    /// Denials and would-be denials between two looks, the last one last.
    pub(super) curve: VecDeque<u64>,
    /// Why nothing was seen since.
    pub(super) missed: Option<String>,
    /// The node that is shown; `None`: all.
    pub(super) node: Option<u32>,
    /// What the names of the rules hold that are shown.
    pub(super) filter: String,
    /// It is being typed.
    pub(super) types: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// How large the cores are; `None`: as large as there is room for.
    pub(super) level: Option<Level>,
    /// How many lines of the picture are above what is shown.
    pub(super) scroll: usize,
}

impl View {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            sight: None,
            rates: HashMap::new(),
            curve: VecDeque::new(),
            missed: None,
            node: None,
            filter: String::new(),
            types: false,
            paused: false,
            help: false,
            level: None,
            scroll: 0,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes note of what was seen.
    pub(super) fn see(&mut self, sight: Sight) {
        self.missed = None;
        self.rates.clear();
        if let Some(before) = &self.sight {
            let seconds = (sight.moment - before.moment).as_secs_f64().max(1e-3);
            let rules = before.status.rules.iter();
            let before: HashMap<_, _> = rules.map(|rule| (&rule.name, rule)).collect();
            let mut denials = 0;
            for rule in &sight.status.rules {
                let Some(before) = before.get(&rule.name) else {
                    continue;
                };
                // Counts go on by name, and begin anew only with the gate.
                let more = |count: fn(&Rule) -> u64| count(rule).saturating_sub(count(before));
                let rate = |count| more(count) as f64 / seconds;
                denials += more(|rule| rule.denied + rule.would_deny);
                let rates = Rates {
                    launches: rate(|rule| rule.launches),
                    denied: rate(|rule| rule.denied),
                    would_deny: rate(|rule| rule.would_deny),
                };
                self.rates.insert(rule.name.clone(), rates);
            }
            self.curve.push_back(denials);
            if self.curve.len() > REMEMBERED {
                self.curve.pop_front();
            }
        }
        self.sight = Some(sight);
    }

    /// Takes note that nothing was seen, and why.
    pub(super) fn miss(&mut self, why: String) {
        self.missed = Some(why);
    }

    /// Of all rules that are shown.
    pub(super) fn total(&self) -> Rates {
        let shown = self.rates.iter().filter(|(name, _)| self.shows(name));
        shown.fold(Rates::default(), |sum, (_, rates)| Rates {
            launches: sum.launches + rates.launches,
            denied: sum.denied + rates.denied,
            would_deny: sum.would_deny + rates.would_deny,
        })
    }

    /// Whether a rule is one of those that are shown.
    pub(super) fn shows(&self, rule: &str) -> bool {
        rule.contains(&self.filter)
    }

    /// The rules that are shown with their numbers: first those with the most denials of late, then
    /// those with claims and launches, then as in the policy.
    pub(super) fn rules(&self) -> Vec<(usize, &Rule)> {
        let rules = self.sight.iter().flat_map(|sight| &sight.status.rules);
        let mut rules: Vec<_> = rules
            .enumerate()
            .filter(|(_, rule)| self.shows(&rule.name))
            .collect();
        rules.sort_by_cached_key(|(_, rule)| {
            let rates = self.rates.get(&rule.name).copied().unwrap_or_default();
            let denials = rates.denied + rates.would_deny;
            let [denials, launches] = [denials, rates.launches].map(|rate| (1e3 * rate) as u64);
            Reverse((denials, rule.claims, launches))
        });
        rules
    }

    /// The denials that are shown, the last one first.
    pub(super) fn denials(&self) -> impl Iterator<Item = &Event> {
        let denials = self
            .sight
            .iter()
            .flat_map(|sight| sight.denials.iter().rev());
        denials.filter(|event| {
            self.shows(&event.rule) && self.node.is_none_or(|node| node == event.node)
        })
    }

    /// The node after this one, or before it.
    fn turn_node(&mut self, back: bool) {
        let cores = self.sight.iter().flat_map(|sight| &sight.cores.cores);
        let nodes: BTreeSet<_> = cores.map(|core| core.node).collect();
        // All of them are one more.
        let mut turns: Vec<_> = std::iter::once(None)
            .chain(nodes.into_iter().map(Some))
            .collect();
        if back {
            turns.reverse();
        }
        let at = turns.iter().position(|node| *node == self.node);
        self.node = turns[at.map_or(0, |at| at + 1) % turns.len()];
        self.scroll = 0;
    }

    /// Takes an input of the user.
    pub(super) fn take(&mut self, input: &Input) -> Next {
        let Input::Key(key) = input else {
            return Next::GoOn;
        };
        let ends = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        if (key.code, key.modifiers) == (ends.code, ends.modifiers) {
            return Next::End;
        }
        if self.types {
            self.type_on(key.code);
            return Next::GoOn;
        }
        if self.help {
            self.help = false;
            return Next::GoOn;
        }
        match key.code {
            KeyCode::Char('q') => return Next::End,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('n') => self.turn_node(false),
            KeyCode::Char('N') => self.turn_node(true),
            KeyCode::Char('r' | '/') => self.types = true,
            KeyCode::Char('z') => {
                self.level = Level::after(self.level);
                self.scroll = 0;
            }
            KeyCode::Esc => {
                self.filter.clear();
                self.node = None;
                self.scroll = 0;
            }
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        Next::GoOn
    }

    fn type_on(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) => self.filter.push(letter),
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Enter => self.types = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.types = false;
            }
            _ => {}
        }
    }
}
