// SPDX-License-Identifier: GPL-2.0-only
//! The policies of the gate: the one that holds, the one that is rehearsed, and how one takes the
//! place of another.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;

use super::exporter::{Exporter, Prepared};
use super::held::{Held, HeldRule};
use super::protocol::{Refusal, Turned};
use crate::gate::{self, Gate, abi, rule_key};
use crate::policy::{Policy, Source, parse};
use crate::policy_file::{LoadError, ThisHost, load};
use crate::report::{Change, Changes, Fate, Outcome, Rehearsal, Reload, Reloads};

/// What the daemon knows of the policies in the gate.
pub(super) struct Policies {
    /// Where the policy is read from.
    pub(super) path: PathBuf,
    pub(super) held: Held,
    /// The one that held before, while there may be events of it that are not read.
    before: Option<(u32, Held)>,
    rehearsed: Option<Rehearsed>,
    /// What rules of the same name counted in earlier policies.
    counts: HashMap<String, abi::counters>,
    /// How the last attempt to read the policy again went.
    pub(super) reload: Option<Reload>,
    /// How many attempts there were to let another one hold.
    pub(super) reloads: Reloads,
}

struct Rehearsed {
    policy: Held,
    name: String,
    since: String,
}

impl Policies {
    /// The policy that was read from `path`, which holds now.
    pub(super) fn new(path: PathBuf, held: Policy) -> Self {
        Self {
            path,
            held: Held::from(held),
            before: None,
            rehearsed: None,
            counts: HashMap::new(),
            reload: None,
            reloads: Reloads::default(),
        }
    }

    /// The rule of an event. One of a generation that is not known any more, as another daemon had
    /// it, is known by its name.
    pub(super) fn rule_of(&self, event: &abi::event, gate: &Gate<'_>) -> Option<HeldRule<'_>> {
        let policy = match &self.before {
            _ if event.generation == gate.generation() => &self.held,
            Some((before, policy)) if event.generation == *before => policy,
            _ => return self.rule_named(event.rule_key),
        };
        policy.rules.get(event.rule as usize)
    }

    /// The rule whose name has this key, in the policy that holds or the one before.
    pub(super) fn rule_named(&self, key: u64) -> Option<HeldRule<'_>> {
        let before = self
            .before
            .iter()
            .flat_map(|(_, policy)| policy.rules.iter());
        let mut rules = self.held.rules.iter().chain(before);
        rules.find(|rule| rule_key(rule.name) == key)
    }

    /// The policy that holds.
    pub(super) fn turned(&self, gate: &Gate<'_>) -> Turned {
        turned(gate, &self.held)
    }

    /// Reads the policy again, and lets it hold; if that fails, nothing changes.
    pub(super) fn reload(
        &mut self,
        gate: &mut Gate<'_>,
        exporter: &mut Exporter,
    ) -> Result<Turned, Refusal> {
        let result = self.try_reload(gate, exporter);
        let error = result.as_ref().err();
        self.reload = Some(Reload {
            time: now(),
            error: error.map(|refusal| refusal.lines().swap_remove(0)),
        });
        self.count(result.is_ok());
        result
    }

    fn try_reload(
        &mut self,
        gate: &mut Gate<'_>,
        exporter: &mut Exporter,
    ) -> Result<Turned, Refusal> {
        let policy = load(&self.path, &ThisHost::new())?;
        let prepared = exporter.prepare(&policy.metrics)?;
        let generation = gate.generation();
        let counts = gate.replace(&policy);
        let turned = self.turn(gate, generation, Held::from(policy), counts);
        Self::turn_metrics(gate, generation, (exporter, prepared))?;
        turned
    }

    /// Lets this policy be rehearsed.
    pub(super) fn rehearse(
        &mut self,
        gate: &mut Gate<'_>,
        sources: &[Source],
    ) -> Result<Turned, Refusal> {
        let name = sources.first().map_or("", |source| &source.name);
        let policy = parse(sources, &ThisHost::new()).map_err(|errors| LoadError::Invalid {
            path: name.into(),
            errors,
        })?;
        self.rehearsed = None;
        gate.rehearse(&policy)?;
        let policy = Held::from(policy);
        let turned = turned(gate, &policy);
        self.rehearsed = Some(Rehearsed {
            policy,
            name: name.into(),
            since: now(),
        });
        Ok(turned)
    }

    /// Lets the policy hold that is rehearsed.
    pub(super) fn promote(
        &mut self,
        gate: &mut Gate<'_>,
        exporter: &mut Exporter,
    ) -> Result<Turned, Refusal> {
        let result = self.try_promote(gate, exporter);
        self.count(result.is_ok());
        result
    }

    fn try_promote(
        &mut self,
        gate: &mut Gate<'_>,
        exporter: &mut Exporter,
    ) -> Result<Turned, Refusal> {
        let rehearsed = self.rehearsed.as_ref().ok_or_else(nothing_rehearsed)?;
        let prepared = exporter.prepare(&rehearsed.policy.metrics)?;
        let rehearsed = self.rehearsed.take().ok_or_else(nothing_rehearsed)?;
        let generation = gate.generation();
        let counts = gate
            .promote()
            .and_then(|counts| counts.ok_or(gate::Error::Form("no rehearsal")));
        let turned = self.turn(gate, generation, rehearsed.policy, counts);
        Self::turn_metrics(gate, generation, (exporter, prepared))?;
        turned
    }

    fn count(&mut self, done: bool) {
        if done {
            self.reloads.done += 1;
        } else {
            self.reloads.refused += 1;
        }
    }

    /// Ends the rehearsal.
    pub(super) fn drop_rehearsed(&mut self, gate: &mut Gate<'_>) -> Result<Turned, Refusal> {
        self.rehearsed.take().ok_or_else(nothing_rehearsed)?;
        gate.end_rehearsal()?;
        Ok(self.turned(gate))
    }

    /// Lets the metrics go where the policy that now holds says, if one came to hold since
    /// `generation`.
    fn turn_metrics(
        gate: &Gate<'_>,
        generation: u32,
        (exporter, prepared): (&mut Exporter, Prepared),
    ) -> Result<(), Refusal> {
        if gate.generation() != generation {
            exporter.apply(prepared)?;
        }
        Ok(())
    }

    /// Follows what the gate did, which held a policy of `generation` before. A turn without counts
    /// is one all the same.
    fn turn(
        &mut self,
        gate: &Gate<'_>,
        generation: u32,
        policy: Held,
        counts: Result<Vec<abi::counters>, gate::Error>,
    ) -> Result<Turned, Refusal> {
        self.rehearsed = None;
        if gate.generation() == generation {
            return Err(counts.err().unwrap_or(gate::Error::Form("no turn")).into());
        }
        let turned = turned(gate, &policy);
        let before = std::mem::replace(&mut self.held, policy);
        if let Ok(counts) = &counts {
            // Of most rules nothing was ever counted, and each entry takes memory.
            let counted = before.rules.iter().zip(counts);
            for (rule, counts) in counted.filter(|(_, counts)| counts.launches > 0) {
                add(self.counts.entry(rule.name.to_owned()).or_default(), counts);
            }
        }
        let mut kept = std::mem::take(&mut self.counts);
        let names = self.held.rules.iter().map(|rule| rule.name);
        self.counts = names.filter_map(|name| kept.remove_entry(name)).collect();
        self.before = Some((generation, before));
        counts?;
        Ok(turned)
    }

    /// No event of an earlier policy is unread.
    pub(super) fn forget_before(&mut self) {
        self.before = None;
    }

    /// The exact counts of a rule, since a policy with one of its name holds.
    pub(super) fn counters(
        &self,
        gate: &Gate<'_>,
        rule: usize,
    ) -> Result<abi::counters, gate::Error> {
        let mut counters = gate.counters(rule as u32)?;
        let rule = self.held.rules.get(rule);
        if let Some(before) = rule.and_then(|rule| self.counts.get(rule.name)) {
            add(&mut counters, before);
        }
        Ok(counters)
    }

    /// What the rehearsal has found so far.
    pub(super) fn rehearsal(&self, gate: &Gate<'_>) -> Result<Option<Rehearsal>, gate::Error> {
        let (Some(rehearsed), Some(found)) = (&self.rehearsed, gate.rehearsal()?) else {
            return Ok(None);
        };
        let changes = found.changes.iter().map(|(change, launches)| Change {
            before: outcome(&self.held, change.rule, change.outcome),
            after: outcome(&rehearsed.policy, change.new_rule, change.new_outcome),
            launches: *launches,
            example: None,
            note: None,
        });
        Ok(Some(Rehearsal {
            policy: rehearsed.name.clone(),
            mode: rehearsed.policy.mode.to_string(),
            rules: rehearsed.policy.rules.len(),
            since: rehearsed.since.clone(),
            changes: Changes {
                compared: found.launches,
                ..Changes::new(changes)
            },
        }))
    }
}

fn outcome(policy: &Held, rule: u32, outcome: abi::outcome) -> Outcome {
    Outcome {
        rule: policy
            .rules
            .get(rule as usize)
            .map(|rule| rule.name.to_owned()),
        effect: match outcome {
            abi::outcome::OUTCOME_EXEMPT => Fate::Exempt,
            abi::outcome::OUTCOME_ADMITTED => Fate::Admitted,
            abi::outcome::OUTCOME_DENIED => Fate::Denied,
            abi::outcome::OUTCOME_LOGGED => Fate::Logged,
            _ => Fate::Unmatched,
        },
    }
}

fn add(to: &mut abi::counters, counts: &abi::counters) {
    to.launches += counts.launches;
    to.admitted += counts.admitted;
    to.denied += counts.denied;
    to.would_deny += counts.would_deny;
    to.unknown += counts.unknown;
    to.suppressed += counts.suppressed;
}

fn turned(gate: &Gate<'_>, policy: &Held) -> Turned {
    Turned {
        generation: gate.generation(),
        mode: policy.mode.to_string(),
        rules: policy.rules.len(),
    }
}

fn now() -> String {
    format_rfc3339_seconds(SystemTime::now()).to_string()
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        let mistakes = match &error {
            LoadError::Invalid { errors, .. } => {
                errors.list().iter().map(ToString::to_string).collect()
            }
            _ => vec![error.to_string()],
        };
        Self {
            message: error.to_string(),
            mistakes,
            invalid: true,
        }
    }
}

impl From<gate::Error> for Refusal {
    fn from(error: gate::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

fn nothing_rehearsed() -> Refusal {
    Refusal::failed("no policy is rehearsed; begin with 'coregate mode rehearse FILE'")
}
