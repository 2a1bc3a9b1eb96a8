// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::*;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn policies(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(top().join("tests/policy").join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect()
}

fn read(path: &Path) -> Option<Value> {
    toml::from_str(&fs::read_to_string(path).unwrap()).ok()
}

/// Whether `schema` takes `value`; it has no other keywords than these.
fn takes(schema: &Value, value: &Value) -> bool {
    let keywords = schema.as_object().unwrap().iter();
    keywords.into_iter().all(|(keyword, asked)| {
        let of_string = |holds: &dyn Fn(&str) -> bool| value.as_str().is_none_or(holds);
        let of_list = |holds: &dyn Fn(&[Value]) -> bool| {
            let list = value.as_array();
            list.is_none_or(|list| holds(list))
        };
        let of_object = |holds: &dyn Fn(&Map<String, Value>) -> bool| {
            let object = value.as_object();
            object.is_none_or(holds)
        };
        let number = || usize::try_from(asked.as_u64().unwrap()).unwrap();
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" => true,
            "type" => match asked.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                other => panic!("{other}"),
            },
            "enum" => asked.as_array().unwrap().contains(value),
            "anyOf" => asked
                .as_array()
                .unwrap()
                .iter()
                .any(|one| takes(one, value)),
            "minLength" => of_string(&|text| text.chars().count() >= number()),
            "maxLength" => of_string(&|text| text.chars().count() <= number()),
            "pattern" => {
                of_string(&|text| Regex::new(asked.as_str().unwrap()).unwrap().is_match(text))
            }
            "minimum" => value
                .as_i64()
                .is_none_or(|value| value >= asked.as_i64().unwrap()),
            "maximum" => value
                .as_i64()
                .is_none_or(|value| value <= asked.as_i64().unwrap()),
            "items" => of_list(&|list| list.iter().all(|entry| takes(asked, entry))),
            "minItems" => of_list(&|list| list.len() >= number()),
            "maxItems" => of_list(&|list| list.len() <= number()),
            "uniqueItems" => of_list(&|list| {
                let mut entries = list.iter().enumerate();
                entries.all(|(index, entry)| !list[..index].contains(entry))
            }),
            "required" => of_object(&|object| {
                let keys = asked.as_array().unwrap().iter();
                keys.into_iter()
                    .all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "properties" => of_object(&|object| {
                let mut given = object.iter();
                given.all(|(key, value)| asked.get(key).is_none_or(|schema| takes(schema, value)))
            }),
            "additionalProperties" => of_object(&|object| {
                object
                    .keys()
                    .all(|key| schema["properties"].get(key).is_some())
            }),
            other => panic!("{other}"),
        }
    })
}

#[test]
fn it_takes_what_the_parser_takes() {
    let schema = schema();
    let paths = policies("ok");
    assert!(paths.len() > 15);
    for path in paths.into_iter().chain([top().join("policy.toml.example")]) {
        assert!(takes(&schema, &read(&path).unwrap()), "{}", path.display());
    }
}

/// What the parser refuses for its form, by the names of the files.
#[test]
fn it_refuses_most_of_what_the_parser_refuses() {
    let schema = schema();
    let mut refused = Vec::new();
    for path in policies("bad") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if read(&path).is_some_and(|policy| !takes(&schema, &policy)) {
            refused.push(name);
        }
    }
    for name in [
        "argv-long",
        "argv-many",
        "cgroup-slash",
        "comm-long",
        "cores-zero",
        "errno-eacces",
        "exe-globs",
        "exe-relative",
        "exe-root",
        "group-number",
        "hold-words",
        "isolation-words",
        "lists-empty",
        "lists-twice",
        "log-file-relative",
        "metrics-listen-name",
        "metrics-textfile-ending",
        "name-character",
        "name-missing",
        "on-empty",
        "own-core-types",
        "rule-with-one-bracket",
        "scope-node-twice",
        "selector-missing",
        "unit-path",
        "unknown-key-far",
        "unknown-section-near",
    ] {
        assert!(refused.iter().any(|refused| refused == name), "{name}");
    }
    assert!(refused.len() > 60, "{refused:?}");
}

#[test]
fn every_default_is_a_value() {
    let keys = [GATE_KEYS, LOG_KEYS, METRICS_KEYS, COMPANION_KEYS, RULE_KEYS];
    for key in keys.into_iter().flatten() {
        let schema = (key.schema)();
        if let Some(default) = schema.get("default") {
            assert!(takes(&schema, default), "{}", key.name);
        }
    }
}
