// SPDX-License-Identifier: GPL-2.0-only
//! Compiles the BPF objects and generates their Rust skeletons.

use std::path::{Path, PathBuf};
use std::{env, fs};

use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::ReferencesType;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, FuncProto, Linkage};

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
        let object = out.join(format!("{name}.bpf.o"));
        SkeletonBuilder::new()
            .obj(&object)
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
        let calls = format!("{:?}", kfuncs(&object));
        fs::write(out.join(format!("{name}.kfuncs.rs")), calls).expect("OUT_DIR can be written");
    }
}

/// The kernel's functions that an object calls, and with how many arguments. It is asked now, as
/// libbpf marks them as the object's own functions once that is opened.
fn kfuncs(object: &Path) -> Vec<(String, usize)> {
    let btf = Btf::from_path(object).expect("clang describes the types");
    btf.type_by_kind::<Func<'_>>()
        .filter(|function| function.linkage() == Linkage::Extern)
        .filter_map(|function| {
            let name = function.name()?.to_str()?.to_owned();
            let prototype = FuncProto::try_from(function.referenced_type()).ok()?;
            Some((name, prototype.len()))
        })
        .collect()
}
