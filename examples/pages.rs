// SPDX-License-Identifier: GPL-2.0-only
//! Writes what packages hold besides the program: its manual pages and its completions for shells.
//!
//!     cargo run --example pages -- DIR

use std::fs::{self, File};
use std::io::Result;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};
use coregate::policy::schema;
use serde_json::Value;

fn main() -> Result<()> {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: pages DIR");
        std::process::exit(2);
    };
    let dir = Path::new(&dir);
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    let mut command = coregate::cli::command();
    clap_mangen::generate_to(command.clone(), &man)?;
    policy().to_writer(&mut File::create(man.join("coregate-policy.5"))?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "coregate", dir)?;
    }
    Ok(())
}

/// coregate-policy(5), from the model that the policy is read with.
fn policy() -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["coregate-policy", "5", "", "coregate", ""]);
    page.control("SH", ["NAME"]);
    page.text([roman(
        "coregate-policy - which programs start only where whole physical cores are free",
    )]);
    page.control("SH", ["FILES"]);
    for (file, what) in [
        (
            "/etc/coregate/policy.toml",
            "The policy file. It has to be there, and may be empty.",
        ),
        (
            "/etc/coregate/policy.d/*.toml",
            "Drop-ins: rules only, after those of the policy file.",
        ),
        (
            "/usr/lib/coregate/policy.d/*.toml",
            "Drop-ins of packages. One in /etc with the same name takes the place of one of these.",
        ),
        (
            "/usr/share/doc/coregate/policy.toml.example",
            "Every key, with its default, and examples.",
        ),
    ] {
        page.control("TP", []);
        page.text([bold(file)]);
        page.text([roman(what)]);
    }
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "The policy is TOML. A launch gets the first rule, from the top of the first file, all of \
         whose selectors it meets; one that meets none is never touched.",
    )]);
    let schema = schema();
    for (name, title) in [
        ("gate", "[gate]"),
        ("rule", "[[rule]]"),
        ("log", "[log]"),
        ("metrics", "[metrics]"),
        ("companion", "[companion]"),
    ] {
        let section = &schema["properties"][name];
        section_of(&mut page, title, section.get("items").unwrap_or(section));
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(
        "coregate(1), coregate-check(1), coregate-explain(1), coregate-reload(1)",
    )]);
    page
}

fn section_of(page: &mut Roff, title: &str, section: &Value) {
    page.control("SH", [title]);
    page.text([roman(text(&section["description"]))]);
    let keys = section["properties"].as_object().into_iter().flatten();
    for (key, about) in keys {
        page.control("TP", []);
        page.text([bold(key.as_str())]);
        page.text([roman(text(&about["description"]))]);
        if let Some(default) = about.get("default") {
            page.text([roman(format!("By default {default}."))]);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
