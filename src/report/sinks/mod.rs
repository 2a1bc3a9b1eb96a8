// SPDX-License-Identifier: GPL-2.0-only
//! Where verdicts, and what the daemon says, are logged: sinks, each with a queue and a thread of
//! its own, so that nobody waits for a log daemon or a disk, and none of them for another.

mod audit;
mod file;
mod journal;
mod queue;
mod socket;
mod syslog;

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::time::{Duration, Instant};

pub use ::syslog::Severity;

use self::queue::{Destination, Queue};
use super::event::fields;
use super::growth::Growth;
use super::{Ended, Event, Sink};
use crate::policy::{Effect, Log, SystemLog};

/// How long the end waits until the sinks have taken all lines.
const PATIENCE_AT_END: Duration = Duration::from_secs(2);

/// What is logged.
enum Line<'l> {
    /// What the daemon says.
    Message(Severity, &'l str),
    /// A verdict.
    Event(&'l Event),
    /// The end of a claim.
    Ended(&'l Ended),
}

impl Line<'_> {
    fn severity(&self) -> Severity {
        match self {
            Self::Message(severity, _) => *severity,
            Self::Event(event) => match event.effect {
                Effect::Admitted => Severity::LOG_INFO,
                Effect::Denied | Effect::Logged => Severity::LOG_WARNING,
            },
            Self::Ended(_) => Severity::LOG_INFO,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Message(_, text) => (*text).into(),
            Self::Event(event) => event.to_string(),
            Self::Ended(ended) => ended.to_string(),
        }
    }

    /// The names and values of a verdict, or of the end of a claim.
    fn fields(&self) -> Vec<(String, String)> {
        match self {
            Self::Message(..) => Vec::new(),
            Self::Event(event) => event.fields(),
            Self::Ended(ended) => fields(ended),
        }
    }
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The daemon's standard error; with the verdicts if somebody watches.
    Stderr {
        verdicts: bool,
    },
    Journal,
    Syslog,
    Rfc5424,
    File(String),
    Audit,
}

impl Kind {
    /// Those that `log` asks for.
    fn wanted(log: &Log) -> Vec<Self> {
        let systemd = journal::is_stderr();
        let system = match log.system {
            SystemLog::Auto if systemd => Some(Self::Journal),
            SystemLog::Auto | SystemLog::Syslog => Some(Self::Syslog),
            SystemLog::Journal => Some(Self::Journal),
            SystemLog::Rfc5424 => Some(Self::Rfc5424),
            SystemLog::None => None,
        };
        // What stderr gets there is in the journal too, once is enough.
        let stderr = (!systemd || system != Some(Self::Journal)).then(|| Self::Stderr {
            verdicts: io::stderr().is_terminal(),
        });
        let file = log.file.clone().map(Self::File);
        let audit = log.audit.then_some(Self::Audit);
        [stderr, system, file, audit]
            .into_iter()
            .flatten()
            .collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stderr { .. } => "stderr",
            Self::Journal => "journal",
            Self::Syslog => "syslog",
            Self::Rfc5424 => "rfc5424",
            Self::File(_) => "file",
            Self::Audit => "audit",
        }
    }

    fn place(&self) -> &str {
        match self {
            Self::Stderr { .. } => "/dev/stderr",
            Self::Journal => journal::SOCKET,
            Self::Syslog | Self::Rfc5424 => syslog::DEV_LOG,
            Self::File(path) => path,
            Self::Audit => "NETLINK_AUDIT",
        }
    }

    fn destination(&self) -> Box<dyn Destination> {
        match self {
            Self::Stderr { .. } => Box::new(Stderr),
            Self::Journal | Self::Syslog | Self::Rfc5424 => {
                Box::new(socket::Socket::new(self.place()))
            }
            Self::File(path) => Box::new(file::LogFile::new(path)),
            Self::Audit => Box::new(audit::Audit::default()),
        }
    }

    /// What the sink gets for a line; `None` if nothing.
    fn record(&self, line: &Line<'_>) -> Option<Vec<u8>> {
        match (self, line) {
            (Self::Stderr { verdicts: false }, Line::Event(_) | Line::Ended(_)) => None,
            (Self::Stderr { .. }, line) => Some(format!("coregate: {}\n", line.text()).into()),
            (Self::Journal, line) => Some(journal::record(line)),
            (Self::Syslog, line) => Some(syslog::rfc3164(line)),
            (Self::Rfc5424, line) => Some(syslog::rfc5424(line)),
            (Self::File(_), Line::Event(event)) => Some(file::record(event)),
            (Self::Audit, Line::Event(event)) => Some(audit::record(event)),
            // The file has what can be replayed.
            (Self::File(_) | Self::Audit, Line::Message(..) | Line::Ended(_)) => None,
        }
    }
}

struct Stderr;

impl Destination for Stderr {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        io::stderr().write_all(record)
    }
}

/// A sink at work.
struct Active {
    kind: Kind,
    queue: Queue,
    /// What was told of its lost lines.
    told: Growth,
}

impl Active {
    fn new(kind: Kind) -> Self {
        let queue = Queue::new(kind.destination());
        Self {
            kind,
            queue,
            told: Growth::default(),
        }
    }

    /// What is to be said about it now.
    fn complaint(&mut self) -> Option<String> {
        let counts = self.queue.counts();
        self.told.news(counts.lost, Instant::now())?;
        Some(format!(
            "the log {} ({}) has lost {} lines so far: {}",
            self.kind.name(),
            self.kind.place(),
            counts.lost,
            counts.error.unwrap_or_default(),
        ))
    }
}

/// All sinks of the daemon. When it is dropped, it waits 2 s at most until they have taken what was
/// logged, and says on standard error what they have not.
pub struct Sinks {
    active: Vec<Active>,
    /// Those that a policy had and none has any more; they may still have lines to write.
    removed: Vec<Queue>,
}

impl Sinks {
    /// The sinks that `log` asks for. Each begins its work, and opens what it writes to, with its
    /// first line.
    pub fn new(log: &Log) -> Self {
        let mut sinks = Self {
            active: Vec::new(),
            removed: Vec::new(),
        };
        sinks.apply(log);
        sinks
    }

    /// The log of the system alone, for a command that has something to say there.
    pub fn system() -> Self {
        let mut sinks = Self::new(&Log::default());
        let is_stderr = |sink: &Active| matches!(sink.kind, Kind::Stderr { .. });
        sinks.active.retain(|sink| !is_stderr(sink));
        sinks
    }

    /// Has the sinks that `log` asks for from now on; those that were there before go on.
    pub fn apply(&mut self, log: &Log) {
        let mut before = mem::take(&mut self.active);
        for kind in Kind::wanted(log) {
            let known = before.iter().position(|sink| sink.kind == kind);
            let sink = known.map_or_else(|| Active::new(kind), |known| before.swap_remove(known));
            self.active.push(sink);
        }
        for sink in before {
            sink.queue.end();
            self.removed.push(sink.queue);
        }
    }

    /// Logs what the daemon says.
    pub fn message(&mut self, severity: Severity, text: &str) {
        self.log(&Line::Message(severity, text));
    }

    /// Logs a verdict.
    pub fn event(&mut self, event: &Event) {
        self.log(&Line::Event(event));
    }

    /// Logs the end of a claim.
    pub fn ended(&mut self, ended: &Ended) {
        self.log(&Line::Ended(ended));
    }

    /// Lets files be opened anew, as they were renamed.
    pub fn reopen(&mut self) {
        self.active.iter().for_each(|sink| sink.queue.reopen());
    }

    /// The lines that they have not taken, and will not.
    pub fn lost(&self) -> u64 {
        let active = self.active.iter().map(|sink| &sink.queue);
        let queues = active.chain(&self.removed);
        queues.map(|queue| queue.counts().lost).sum()
    }

    /// What each of them has done; the last one is for all that were removed, if any were.
    pub fn status(&self) -> Vec<Sink> {
        let active = self.active.iter().map(|sink| {
            let counts = sink.queue.counts();
            Sink {
                name: sink.kind.name().into(),
                place: sink.kind.place().into(),
                ..counts
            }
        });
        let removed = self.removed.iter().map(Queue::counts);
        let removed = removed.reduce(|all, one| Sink {
            written: all.written + one.written,
            lost: all.lost + one.lost,
            waiting: all.waiting + one.waiting,
            error: one.error.or(all.error),
            ..all
        });
        let removed = removed.map(|counts| Sink {
            name: "removed".into(),
            ..counts
        });
        active.chain(removed).collect()
    }

    fn log(&mut self, line: &Line<'_>) {
        for sink in &self.active {
            if let Some(record) = sink.kind.record(line) {
                sink.queue.send(record);
            }
        }
        for number in 0..self.active.len() {
            let Some(complaint) = self.active[number].complaint() else {
                continue;
            };
            let line = Line::Message(Severity::LOG_ERR, &complaint);
            for (other, sink) in self.active.iter().enumerate() {
                if other != number
                    && let Some(record) = sink.kind.record(&line)
                {
                    sink.queue.send(record);
                }
            }
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE_AT_END;
        for sink in &self.active {
            let left = sink.queue.finish(deadline);
            if left > 0 {
                // Nobody is left to tell when stderr is gone.
                let _ = writeln!(
                    io::stderr(),
                    "coregate: the log {} ({}) has not taken the last {left} lines",
                    sink.kind.name(),
                    sink.kind.place(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
