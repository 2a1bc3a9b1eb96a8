// SPDX-License-Identifier: GPL-2.0-only
//! Compiles the BPF objects of the guest tests and generates their skeletons.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const OBJECTS: &[&str] = &[
    "bare",
    "denier",
    "oracle",
    "schedulers",
    "switches",
    "unguarded",
];

/// The program that the docs take apart.
const EXAMPLE: &str = "../../docs/examples/idle_smtmask.bpf.c";

fn main() {
    println!("cargo::rerun-if-changed={EXAMPLE}");
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-changed=../../bpf");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    // Where Debian keeps asm/types.h, which the kernel's user-space headers include.
    let headers = format!("/usr/include/{arch}-linux-gnu");
    let args = [
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-Werror",
        "-I../../bpf",
    ];
    let own = OBJECTS
        .iter()
        .map(|name| (format!("bpf/{name}.bpf.c"), *name));
    for (source, name) in own.chain([(EXAMPLE.to_owned(), "idle_smtmask")]) {
        SkeletonBuilder::new()
            .source(&source)
            .clang_args(args.into_iter().chain(["-idirafter", &headers]))
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .unwrap_or_else(|error| panic!("{source}: {error:#}"));
    }
}
