// SPDX-License-Identifier: GPL-2.0-only
//! Compiles the BPF objects and generates their Rust skeletons.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const OBJECTS: &[&str] = &["gate", "companion"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Where Debian keeps asm/types.h, which the kernel's user-space headers include.
    let headers = format!(
        "/usr/include/{}-linux-gnu",
        env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it")
    );
    for name in OBJECTS {
        SkeletonBuilder::new()
            .source(format!("bpf/{name}.bpf.c"))
            .clang_args([
                // All kernels from 5.12 on have it: exchanges, and instructions of 32 bits, with which
                // a launch costs a tenth less.
                "-mcpu=v3",
                "-Wall",
                "-Wextra",
                "-Wno-unused-parameter",
                "-Werror",
                "-idirafter",
                headers.as_str(),
            ])
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .unwrap_or_else(|error| panic!("bpf/{name}.bpf.c: {error:#}"));
    }
}
