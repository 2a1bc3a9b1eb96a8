// SPDX-License-Identifier: GPL-2.0-only
//! The keys of a policy, for its parser and for editors.

use serde_json::{Value, json};

use super::{
    ARGV_LOOKED_AT, Action, Companion, Container, Errno, Hold, Hook, Isolation, LeaseEnd, MAX_ARG,
    MAX_COMM, MAX_LOG_FILE, MAX_NAME, MAX_PATTERN, Metrics, Mode, OnUnknown, Policy, Rule, Scope,
    SystemLog, Word,
};

/// A key of a section.
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it is for, in a sentence or two.
    pub help: &'static str,
    /// The JSON Schema of its values, with the default. It takes all that the parser takes; what
    /// it takes beyond that, such as users that are not there, the parser tells better.
    pub(super) schema: fn() -> Value,
}

/// The keys of `[gate]`.
pub const GATE_KEYS: &[Key] = &[
    Key {
        name: "mode",
        help: "Whether a launch is denied when too few cores are free, or only logged.",
        schema: word::<Mode>,
    },
    Key {
        name: "on_unknown",
        help: "What happens when it cannot be known which cores are free.",
        schema: word::<OnUnknown>,
    },
    Key {
        name: "lease",
        help: "How long the gate does what the policy says when no daemon looks after it, from \
               \"5s\" to \"1day\". By default for ever.",
        schema: || json!({"type": "string"}),
    },
    Key {
        name: "on_lease_end",
        help: "What the gate does then: goes on, denies nothing, or judges nothing.",
        schema: word::<LeaseEnd>,
    },
    Key {
        name: "event_rate",
        help: "How many events a second a rule may have of launches that go on, and how many of \
               the others; what is more is counted, not told. 0 is for no limit.",
        schema: || {
            let default = Policy::default().event_rate;
            json!({"type": "integer", "minimum": 0, "maximum": Policy::MOST_EVENT_RATE, "default": default})
        },
    },
];

/// The keys of `[log]`.
pub const LOG_KEYS: &[Key] = &[
    Key {
        name: "system",
        help: "Which log of the system gets the verdicts and what the daemon says, and how.",
        schema: word::<SystemLog>,
    },
    Key {
        name: "file",
        help: "A file that gets each verdict as one line of JSON; SIGUSR1 lets it be opened anew. \
               By default there is none.",
        schema: || string("^/.*[^/]$", 2, MAX_LOG_FILE),
    },
    Key {
        name: "audit",
        help: "Whether each verdict is a record of the kernel's audit too.",
        schema: || json!({"type": "boolean", "default": false}),
    },
];

/// The keys of `[metrics]`.
pub const METRICS_KEYS: &[Key] = &[
    Key {
        name: "listen",
        help: "Where Prometheus scrapes the metrics: an address and a port, or unix: and the path \
               of a socket. By default nowhere.",
        schema: || string(r"^(unix:/.*[^/]|.*:[0-9]+)$", 1, MAX_PATTERN),
    },
    Key {
        name: "textfile",
        help: "The file, with .prom at its end, that they are written to for the textfile collector \
               of node_exporter. By default there is none.",
        schema: || string(r"^/.*\.prom$", 2, MAX_PATTERN),
    },
    Key {
        name: "interval",
        help: "How often it is written, from \"1s\" to \"1h\". With `textfile` only.",
        schema: || {
            let default = humantime::format_duration(Metrics::DEFAULT_INTERVAL).to_string();
            json!({"type": "string", "default": default})
        },
    },
];

/// The keys of `[companion]`.
pub const COMPANION_KEYS: &[Key] = &[
    Key {
        name: "slice",
        help: "The longest turn of a task while others wait for the CPU, from \"1ms\" to \"1s\".",
        schema: || {
            let default = humantime::format_duration(Companion::default().slice).to_string();
            json!({"type": "string", "default": default})
        },
    },
    Key {
        name: "reserve",
        help: "How much of each node stays unheld, for everybody else: \"1 core\", \"2 cores\", or \
               \"1%\" to \"90%\" of its cores, rounded up.",
        schema: || json!({"type": "string", "pattern": "^[0-9]+( cores?|%)$", "default": "1 core"}),
    },
];

/// The keys of a `[[rule]]`.
pub const RULE_KEYS: &[Key] = &[
    Key {
        name: "name",
        help: "What the log and the status call the rule; each has its own.",
        schema: || string("^[A-Za-z0-9._-]+$", 1, MAX_NAME),
    },
    Key {
        name: "exe",
        help: "The program: a full path, a folder with / at its end for all that is below it, or \
               a path with one * in the name of the file. One, or a list.",
        schema: || one_or_more(path()),
    },
    Key {
        name: "unit",
        help: "The systemd unit from which the launch is made, or the name of any cgroup above \
               the launcher, with one * for a part of it. One, or a list.",
        schema: || one_or_more(string(r"^[^/*]*\*?[^/*]*$", 1, MAX_PATTERN)),
    },
    Key {
        name: "cgroup",
        help: "The cgroup from which the launch is made, or one above it: its path from the root \
               of the cgroups on. One, or a list.",
        schema: || one_or_more(string("^(/[^/*]+)+$", 2, MAX_PATTERN)),
    },
    Key {
        name: "user",
        help: "The effective user who makes the launch, by name or number. One, or a list.",
        schema: || one_or_more(id()),
    },
    Key {
        name: "group",
        help: "The effective group, or a supplementary one, of who makes the launch, by name or \
               number. One, or a list.",
        schema: || one_or_more(id()),
    },
    Key {
        name: "comm",
        help: "The name of the launcher, as /proc/PID/comm shows it. One, or a list.",
        schema: || one_or_more(string("", 1, MAX_COMM)),
    },
    Key {
        name: "argv",
        help: "What has to stand among the first eight arguments. One, or a list, of which all \
               have to. For \"exec\" only.",
        schema: || {
            let mut either = one_or_more(string("", 1, MAX_ARG));
            either["anyOf"][1]["maxItems"] = ARGV_LOOKED_AT.into();
            either
        },
    },
    Key {
        name: "parent",
        help: "The program that makes the launch, as for exe. For \"exec\" only.",
        schema: || one_or_more(path()),
    },
    Key {
        name: "container",
        help: "Whether the launch may come from a container.",
        schema: word::<Container>,
    },
    Key {
        name: "on",
        help: "Which kinds of launches the rule watches.",
        schema: || {
            let default: Vec<_> = Rule::DEFAULT_ON.iter().map(|hook| hook.word()).collect();
            let mut on = list(one_of(words::<Hook>()));
            on["default"] = default.into();
            on
        },
    },
    Key {
        name: "cores",
        help: "How many free cores the launch needs.",
        schema: || {
            let default = Rule::DEFAULT_CORES;
            json!({"type": "integer", "minimum": 1, "maximum": u32::MAX, "default": default})
        },
    },
    Key {
        name: "scope",
        help: "Where these cores may lie: on the node of the launch, on any one node, spread over \
               all, or over those of the numbers listed.",
        schema: || {
            let words = Scope::WORDS.iter().map(|(word, _)| *word).collect();
            let node = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
            json!({"anyOf": [one_of(words), list(node)], "default": default_of(Scope::WORDS)})
        },
    },
    Key {
        name: "own_core",
        help: "Whether the core on which the launch is made counts as free when nothing else runs \
               there. By default it does for \"exec\", and does not for \"fork\" and \"thread\".",
        schema: || json!({"type": "boolean"}),
    },
    Key {
        name: "hold",
        help: "How long an admitted launch holds its cores: until it exits, for a short time, or \
               not at all.",
        schema: || {
            let mut hold = one_of(Hold::WORDS.iter().map(|(word, _)| *word).collect());
            hold["default"] = default_of(Hold::WORDS).into();
            hold
        },
    },
    Key {
        name: "settle",
        help: "How long that short time is, from \"1ms\" to \"1h\". With hold = \"settle\" only.",
        schema: || {
            let default = humantime::format_duration(Hold::DEFAULT_SETTLE).to_string();
            json!({"type": "string", "default": default})
        },
    },
    Key {
        name: "isolation",
        help: "What the companion keeps away from the other hardware threads of a core on which \
               the program runs: all others, all unless there is nowhere else for them, or nothing.",
        schema: word::<Isolation>,
    },
    Key {
        name: "keep",
        help: "How long the companion keeps a core for the program after its last thread there \
               went to sleep: \"0\", or from \"1ms\" to \"10s\".",
        schema: || {
            let default = humantime::format_duration(Rule::DEFAULT_KEEP).to_string();
            json!({"type": "string", "default": default})
        },
    },
    Key {
        name: "action",
        help: "What to do when too few cores are free; \"exempt\" makes the rule an exception \
               from those below it.",
        schema: word::<Action>,
    },
    Key {
        name: "errno",
        help: "The error that a denied launch gets.",
        schema: word::<Errno>,
    },
];

/// The keys of a `[[rule]]` of which it needs one; without, it would match every launch.
pub const SELECTOR_KEYS: &[&str] = &[
    "exe", "unit", "cgroup", "user", "group", "comm", "argv", "parent",
];

fn word<T: Word + Default>() -> Value {
    let mut word = one_of(words::<T>());
    word["default"] = T::default().word().into();
    word
}

fn words<T: Word>() -> Vec<&'static str> {
    T::ALL.iter().map(|value| value.word()).collect()
}

fn default_of<T: Default + PartialEq>(words: &[(&'static str, T)]) -> Option<&'static str> {
    let default = T::default();
    let found = words.iter().find(|(_, value)| *value == default);
    found.map(|(word, _)| *word)
}

fn one_of(words: Vec<&str>) -> Value {
    json!({"type": "string", "enum": words})
}

/// The lengths are in characters, which are never more than bytes.
fn string(pattern: &str, least: usize, most: usize) -> Value {
    let mut string = json!({"type": "string", "minLength": least, "maxLength": most});
    if !pattern.is_empty() {
        string["pattern"] = pattern.into();
    }
    string
}

fn path() -> Value {
    string(r"^/([^*]*/)?[^*/]*\*?[^*/]*$", 2, MAX_PATTERN)
}

fn id() -> Value {
    let number = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX - 1});
    json!({"anyOf": [{"type": "string", "minLength": 1}, number]})
}

fn list(entry: Value) -> Value {
    json!({"type": "array", "items": entry, "minItems": 1, "uniqueItems": true})
}

fn one_or_more(entry: Value) -> Value {
    json!({"anyOf": [entry.clone(), list(entry)]})
}
