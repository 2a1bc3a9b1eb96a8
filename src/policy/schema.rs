// SPDX-License-Identifier: GPL-2.0-only
//! The JSON Schema of a policy, by which editors complete it and find mistakes.

use serde_json::{Map, Value, json};

use super::keys::{COMPANION_KEYS, GATE_KEYS, Key, LOG_KEYS, METRICS_KEYS, RULE_KEYS};
use super::{MAX_RULES, SELECTOR_KEYS};

/// The schema, in draft 7, which the editors know that know TOML.
pub fn schema() -> Value {
    let mut rule = section(RULE_KEYS, "Which launches are watched, and what they need.");
    rule["required"] = json!(["name"]);
    let selected = |key: &&str| json!({"required": [key]});
    rule["anyOf"] = SELECTOR_KEYS.iter().map(selected).collect();
    let gate = section(GATE_KEYS, "What holds for all rules.");
    let log = section(
        LOG_KEYS,
        "Where verdicts, and what the daemon says, are logged.",
    );
    let metrics = section(METRICS_KEYS, "Where Prometheus gets the metrics.");
    let companion = section(COMPANION_KEYS, "How the companion shares the CPUs.");
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Policy of coregate",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "gate": gate,
            "log": log,
            "metrics": metrics,
            "companion": companion,
            "rule": {"type": "array", "items": rule, "maxItems": MAX_RULES},
        },
    })
}

fn section(keys: &[Key], help: &str) -> Value {
    let properties: Map<_, _> = keys
        .iter()
        .map(|key| {
            let mut schema = (key.schema)();
            schema["description"] = key.help.into();
            (key.name.into(), schema)
        })
        .collect();
    json!({
        "type": "object",
        "description": help,
        "additionalProperties": false,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests;
