// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::policy::{NoHost, Source, parse};

#[test]
fn what_is_said_of_a_rule_stays() {
    let long = "n".repeat(MAX_NAME);
    let text = format!(
        "[gate]\nmode = \"enforce\"\n[[rule]]\nname = \"{long}\"\nexe = \"/a\"\n\
         [[rule]]\nname = \"b\"\nexe = \"/b\"\nscope = \"any\"\nown_core = false\n"
    );
    let policy = parse(&[Source::new("p.toml", &text)], &NoHost).unwrap();
    let rules = policy.rules.clone();
    let held = Held::from(policy);
    assert_eq!(held.mode.to_string(), "enforce");
    assert_eq!(held.rules.len(), rules.len());
    for (held, rule) in held.rules.iter().zip(&rules) {
        assert_eq!(held.name(), rule.name);
        assert_eq!((&held.origin, &held.scope), (&rule.origin, &rule.scope));
        for hook in [Hook::Exec, Hook::Fork, Hook::Thread] {
            assert_eq!(held.own_core(hook), rule.own_core(hook));
        }
    }
}
