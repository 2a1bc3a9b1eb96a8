// SPDX-License-Identifier: GPL-2.0-only
//! What is wrong, or most likely not meant, and the command that mends it or says more.

use std::path::Path;

use super::{Failures, Reload, Rule, Scheduler, Sink, Status};
use crate::policy::{Isolation, Mode, Word};
use crate::policy_file::{Warning, counted};

/// Something that whoever looks after the gate should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Something does not work; else it works, and is most likely not meant.
    pub grave: bool,
    /// What it is.
    pub what: String,
    /// What to do about it: commands.
    pub mend: String,
}

/// What matters besides the status, as far as it could be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The kernel has sched_ext.
    pub sched_ext: bool,
    /// What `coregate check` warns of in the policy.
    pub warnings: Vec<Warning>,
}

/// What the companion is called among schedulers.
const COMPANION: &str = "coregate";

/// Programs that have their cores to themselves for less than this share of their time, in percent,
/// are shown.
const HONOURED: f64 = 99.0;

/// Of fewer samples than of some seconds nothing is concluded.
const SAMPLES: u64 = 500;

/// Failures that say more of who asked than of the gate.
const LIGHT: &[&str] = &["clients_refused", "clients_dropped"];

fn grave(what: impl Into<String>, mend: impl Into<String>) -> Concern {
    Concern {
        grave: true,
        what: what.into(),
        mend: mend.into(),
    }
}

fn light(what: impl Into<String>, mend: impl Into<String>) -> Concern {
    Concern {
        grave: false,
        ..grave(what, mend)
    }
}

impl Status {
    /// What is wrong, the gravest first.
    pub fn concerns(&self, around: &Surroundings) -> Vec<Concern> {
        let mut concerns: Vec<_> = [self.of_reload(), self.of_source(), self.of_version()]
            .into_iter()
            .flatten()
            .chain(self.log.iter().filter_map(of_sink))
            .chain(self.of_failures())
            .chain(self.of_mode())
            .chain(self.of_unknown())
            .chain(self.of_policy(around))
            .chain(self.of_scheduler(around))
            .chain(self.of_honours())
            .chain(self.of_rehearsal())
            .collect();
        concerns.sort_by_key(|concern| !concern.grave);
        concerns
    }

    fn of_reload(&self) -> Option<Concern> {
        let Reload { time, error } = self.reload.as_ref()?;
        let (error, generation) = (error.as_ref()?, self.generation);
        Some(grave(
            format!("the policy was refused at {time}, and generation {generation} stays: {error}"),
            format!("coregate check {}; coregate reload", self.policy),
        ))
    }

    fn of_source(&self) -> Option<Concern> {
        self.source.is_none().then(|| {
            grave(
                "it cannot be known which cores are free: each verdict is unknown",
                "coregate doctor",
            )
        })
    }

    fn of_version(&self) -> Option<Concern> {
        let own = env!("CARGO_PKG_VERSION");
        (self.version != own).then(|| {
            light(
                format!("the daemon is of version {}, this is {own}", self.version),
                "systemctl restart coregate",
            )
        })
    }

    fn of_failures(&self) -> impl Iterator<Item = Concern> {
        let failures = Failures::TABLE.iter().filter_map(|failure| {
            let count = (failure.count)(&self.failures);
            // Which log has lost lines is said of each.
            if count == 0 || failure.name == "log_lines_lost" {
                return None;
            }
            let concern = grave(
                format!("{count} {}: {}", failure.words, failure.then),
                "journalctl -u coregate -p err",
            );
            Some(Concern {
                grave: !LIGHT.contains(&failure.name),
                ..concern
            })
        });
        failures.collect::<Vec<_>>().into_iter()
    }

    fn of_mode(&self) -> Option<Concern> {
        let observes = self.mode == Mode::Observe.word();
        if let Some(order) = &self.order {
            let confirm = if order.contains("unless it is confirmed") {
                "coregate mode confirm, or "
            } else {
                ""
            };
            return Some(light(
                format!("by order: {order}"),
                format!("{confirm}coregate mode policy"),
            ));
        }
        if self.rules.is_empty() || !observes {
            return None;
        }
        let would: u64 = self.rules.iter().map(|rule| rule.would_deny).sum();
        Some(light(
            format!(
                "mode observe: nothing is denied; {would} launches would have been in mode enforce"
            ),
            "coregate mode enforce --confirm 5m",
        ))
    }

    fn of_unknown(&self) -> Option<Concern> {
        let unknown: u64 = self.rules.iter().map(|rule| rule.unknown).sum();
        (unknown > 0 && self.source.is_some()).then(|| {
            light(
                format!("of {unknown} launches it could not be known which cores were free"),
                "coregate events | grep verdict=unknown",
            )
        })
    }

    fn of_policy(&self, around: &Surroundings) -> Option<Concern> {
        let check = format!("coregate check {}", self.policy);
        if let Some(first) = around.warnings.first() {
            let more = match around.warnings.len() - 1 {
                0 => String::new(),
                more => format!("; and {}", counted(more, "more warning")),
            };
            return Some(light(format!("{first}{more}"), check));
        }
        self.rules.is_empty().then(|| {
            light(
                "the policy has no rules: each launch passes",
                format!("$EDITOR {}; coregate reload", self.policy),
            )
        })
    }

    fn of_scheduler(&self, around: &Surroundings) -> Option<Concern> {
        if self.rules.is_empty() {
            return None;
        }
        match &self.scheduler {
            None if around.sched_ext => Some(light(
                "no sched_ext scheduler is loaded: nothing keeps the cores whole that programs hold",
                "systemctl enable --now coregate-companion",
            )),
            Some(scheduler) if scheduler.ops != COMPANION => Some(light(
                format!(
                    "the scheduler {} is in charge, not the companion: nothing keeps the cores whole \
                     that programs hold",
                    scheduler.ops
                ),
                "stop it, then systemctl enable --now coregate-companion",
            )),
            _ => None,
        }
    }

    fn of_honours(&self) -> impl Iterator<Item = Concern> {
        let companion = |scheduler: &Scheduler| scheduler.ops == COMPANION;
        // Without the companion it is as it was said above.
        let kept = self.scheduler.as_ref().is_some_and(companion);
        let strict = move |rule: &&Rule| {
            kept && rule.isolation == Isolation::Strict.word() && rule.honour.samples >= SAMPLES
        };
        self.rules.iter().filter(strict).filter_map(|rule| {
            let share = rule.honour.share().filter(|share| *share < HONOURED)?;
            Some(light(
                format!(
                    "programs of {} had their cores to themselves for {share:.2} % of their time only",
                    rule.name
                ),
                "coregate top, then chrt -p PID and taskset -cp PID of who runs there",
            ))
        })
    }

    fn of_rehearsal(&self) -> Option<Concern> {
        self.rehearsal.as_ref().map(|rehearsal| {
            light(
                format!("{} is rehearsed, and does not hold", rehearsal.policy),
                "coregate mode promote, or coregate mode drop",
            )
        })
    }
}

fn of_sink(sink: &Sink) -> Option<Concern> {
    if sink.lost == 0 {
        return None;
    }
    let why = sink.error.as_ref();
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let folder = Path::new(&sink.place)
        .parent()
        .unwrap_or(Path::new("/"))
        .display();
    let mend = match sink.name.as_str() {
        "journal" => "systemctl status systemd-journald".into(),
        "syslog" | "rfc5424" => "systemctl status syslog.socket".into(),
        "file" => format!("df -h {folder}; ls -ld {folder}"),
        "audit" => "systemctl restart coregate".into(),
        _ => "journalctl -u coregate -p err".into(),
    };
    Some(grave(
        format!(
            "the log {} has lost {}{why}",
            name(sink),
            counted(sink.lost as usize, "line")
        ),
        mend,
    ))
}

/// A sink of the log, and where it writes to.
pub(super) fn name(sink: &Sink) -> String {
    format!("{} {}", sink.name, sink.place)
        .trim_end()
        .to_owned()
}
