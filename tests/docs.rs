// SPDX-License-Identifier: GPL-2.0-only
//! What the docs quote is what they quote it from.

use std::fs;
use std::path::Path;

#[test]
fn the_excerpts_are_of_the_program() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let read = |name| fs::read_to_string(docs.join(name)).unwrap();
    let (text, program) = (read("idle-smtmask.md"), read("examples/idle_smtmask.bpf.c"));
    let excerpts = text.split("```c\n").skip(1);
    let excerpts: Vec<_> = excerpts.map(|part| part.split("```").next()).collect();
    assert!(excerpts.len() > 3);
    for excerpt in excerpts.into_iter().flatten() {
        assert!(program.contains(excerpt), "it has not:\n{excerpt}");
    }
}
