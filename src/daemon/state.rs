// SPDX-License-Identifier: GPL-2.0-only
//! How the gate and the daemon stand, for whoever asks.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

use super::protocol::Holder;
use super::{Daemon, record};
use crate::gate::{self, abi, order};
use crate::kernel::SchedExt;
use crate::report::{Cores, Events, Failures, Node, Rule, Scheduler, Status};

impl Daemon<'_> {
    /// How it stands.
    pub(super) fn status(&self) -> Result<Status> {
        let order = order::given(self.gate.kept())?;
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: self.mode(order.as_ref()).to_string(),
            policy_mode: self.policies.held.mode.to_string(),
            order: order.as_ref().map(ToString::to_string),
            lease: self.policies.held.lease.map(|lease| lease.to_string()),
            generation: self.gate.generation(),
            policy: self.policies.path.display().to_string(),
            reload: self.policies.reload.clone(),
            reloads: self.policies.reloads.clone(),
            rehearsal: self.policies.rehearsal(&self.gate)?,
            hooks: self.gate.hooks(),
            ..Status::default()
        };
        for node in self
            .topology
            .nodes
            .iter()
            .filter(|node| !node.cores.is_empty())
        {
            let survey = self.gate.survey(node.id)?;
            status.source = record::source(survey.source).map(|source| source.to_string());
            status.scheduler = survey.scheduler.map(|scheduler| Scheduler {
                ops: SchedExt::read(Path::new("/"))
                    .and_then(|sched_ext| sched_ext.ops)
                    .unwrap_or_else(|| "?".into()),
                per_node: scheduler.per_node,
                tracking: scheduler.tracking,
            });
            status.nodes.push(Node {
                node: node.id,
                cores: node.cores.len() as u32,
                free: survey.free.unwrap_or(0),
                claimed: survey.claimed,
                owed: survey.owed,
            });
        }
        let rules = &self.policies.held.rules;
        let names = gate::names(rules.iter().map(|rule| rule.name));
        let (claims, honours) = (self.gate.claims(&names)?, self.gate.honours(&names)?);
        for (number, rule) in rules.iter().enumerate() {
            let honour = honours.get(rule.name).copied().unwrap_or_default();
            let counters = self.policies.counters(&self.gate, number)?;
            status.rules.push(Rule {
                name: rule.name.to_owned(),
                origin: rule.origin().to_string(),
                isolation: rule.isolation().to_string(),
                launches: counters.launches,
                admitted: counters.admitted,
                denied: counters.denied,
                would_deny: counters.would_deny,
                unknown: counters.unknown,
                suppressed: counters.suppressed,
                claims: claims.get(rule.name).copied().unwrap_or(0),
                honour: record::honour(honour),
            });
        }
        status.failures = self.failures()?;
        status.events = Events {
            emitted: self.emitted,
            suppressed: status.rules.iter().map(|rule| rule.suppressed).sum(),
            lost: status.failures.events_lost + status.failures.records_unread,
        };
        status.log = self.sinks.status();
        Ok(status)
    }

    /// Who holds cores, the longest first.
    pub(super) fn holders(&self) -> Result<Vec<Holder>> {
        let names = gate::names(self.policies.held.rules.iter().map(|rule| rule.name));
        let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
        let mut claims = self.gate.claim_heads()?;
        claims.sort_by_key(|claim| claim.since);
        let holder = |claim: abi::claim_head| Holder {
            rule: names.get(&claim.rule).map(|&name| name.to_owned()),
            pid: claim.pid,
            ms: now
                .saturating_sub(Duration::from_nanos(claim.since))
                .as_millis() as u64,
        };
        Ok(claims.into_iter().map(holder).collect())
    }

    /// What each core does, and who holds cores.
    pub(super) fn cores(&self) -> Result<Cores> {
        let rules = &self.policies.held.rules;
        let names = gate::names(rules.iter().map(|rule| rule.name));
        let name = |key: u64| names.get(&key).map(|&name| name.to_owned());
        let mut cores = Cores::default();
        while let Some(picture) = self.gate.picture(cores.cores.len() as u32)? {
            cores.cores.push(record::core(&picture, name));
        }
        let mut claims = self.gate.live_claims()?;
        claims.sort_unstable_by_key(|claim| claim.id);
        cores.claims = claims
            .iter()
            .map(|claim| record::claim(claim, name))
            .collect();
        Ok(cores)
    }

    /// What the gate and the daemon did not manage to do. Every field is named on both sides, so that
    /// none is left out.
    pub(super) fn failures(&self) -> Result<Failures> {
        let (gate, records_unread) = self.gate.failures()?;
        let abi::failures {
            events_lost,
            paths_unread,
            args_unread,
            cgroups_unread,
            rules_unread,
            claims_full,
            claims_contended,
            holders_lost,
            timers_lost,
            changes_lost,
            unattended,
        } = gate;
        Ok(Failures {
            events_lost,
            paths_unread,
            args_unread,
            cgroups_unread,
            rules_unread,
            claims_full,
            claims_contended,
            holders_lost,
            timers_lost,
            changes_lost,
            unattended,
            records_unread,
            log_lines_lost: self.sinks.lost(),
            topologies_lost: self.topologies_lost,
            clients_refused: self.turned_away.refused.get(),
            clients_dropped: self.turned_away.dropped.get(),
            textfiles_lost: self.textfiles_lost.get(),
        })
    }

    /// How the gate is, in a line for the service manager.
    pub(super) fn summary(&self) -> Result<String> {
        let (mut denied, mut would_deny, mut unknown) = (0, 0, 0);
        for rule in 0..self.policies.held.rules.len() {
            let counters = self.policies.counters(&self.gate, rule)?;
            denied += counters.denied;
            would_deny += counters.would_deny;
            unknown += counters.unknown;
        }
        let mode = self.mode(order::given(self.gate.kept())?.as_ref());
        let generation = self.gate.generation();
        let node = self
            .topology
            .nodes
            .iter()
            .find(|node| !node.cores.is_empty());
        let node = node.map_or(0, |node| node.id);
        let source = record::source(self.gate.survey(node)?.source);
        let source = source.map_or("none".into(), |source| source.to_string());
        Ok(format!(
            "mode {mode}, generation {generation}, idle source {source}; launches denied: {denied}, \
             would be denied: {would_deny}, unknown: {unknown}"
        ))
    }

    /// The same in the log, once the gate stands.
    pub(super) fn ready_line(&self) -> Result<String> {
        let status = self.status()?;
        let scheduler = status
            .scheduler
            .map_or("none".into(), |scheduler| scheduler.ops);
        Ok(format!(
            "ready: mode {}, generation {}, rules {}, hooks {}, scheduler {scheduler}, idle source {}",
            status.mode,
            status.generation,
            status.rules.len(),
            status.hooks,
            status.source.as_deref().unwrap_or("none"),
        ))
    }
}
