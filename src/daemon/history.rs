// SPDX-License-Identifier: GPL-2.0-only
//! The events that are remembered, and those that followers have not been told yet.

use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use crate::policy::Effect;
use crate::report::Event;

/// How many events are remembered: with the paths in them, less than a mebibyte.
const REMEMBERED: usize = 1024;

/// The last events, oldest first.
#[derive(Default)]
pub(super) struct History {
    events: VecDeque<Rc<Event>>,
    untold: Vec<Rc<Event>>,
}

impl History {
    pub(super) fn add(&mut self, event: Event) {
        let event = Rc::new(event);
        if self.events.len() == REMEMBERED {
            self.events.pop_front();
        }
        self.events.push_back(Rc::clone(&event));
        self.untold.push(event);
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(Rc::as_ref)
    }

    /// The last ones of launches that were denied or would be, so many at most.
    pub(super) fn denials(&self, last: usize) -> impl Iterator<Item = &Event> {
        let denials = || {
            self.events()
                .filter(|event| event.effect != Effect::Admitted)
        };
        denials().skip(denials().count().saturating_sub(last))
    }

    /// Those that came since this was asked last.
    pub(super) fn take_untold(&mut self) -> Vec<Rc<Event>> {
        mem::take(&mut self.untold)
    }
}
