// SPDX-License-Identifier: GPL-2.0-only
//! Whether the kernel takes calls of its functions by BPF programs (kfuncs).

use libbpf_rs::ReferencesType;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, FuncProto};

/// A function of the kernel as a program declares it: its name, which may end in the `___form` of
/// one of several forms, and how many arguments it takes.
pub type Kfunc<'a> = (&'a str, usize);

/// Whether `kernel` takes calls of `kfunc`.
///
/// It does not where the function is missing, or takes another number of arguments: libbpf does
/// not find it then (`bpf_core_types_are_compat()`, relo_core.c). Libbpf looks at the kinds of the
/// arguments, too; no kernel differs in them so far.
pub fn takes(kernel: &Btf<'_>, (name, arguments): Kfunc<'_>) -> bool {
    kernel
        .type_by_name::<Func<'_>>(name)
        .and_then(|function| FuncProto::try_from(function.referenced_type()).ok())
        .is_some_and(|prototype| prototype.len() == arguments)
}

/// Those of `kfuncs` that `kernel` does not take calls of, though the programs need them: one with
/// a form in its name has others, or the programs do without.
pub fn refused<'a>(kernel: &Btf<'_>, kfuncs: &[Kfunc<'a>]) -> Vec<&'a str> {
    kfuncs
        .iter()
        .filter(|kfunc| !kfunc.0.contains("___") && !takes(kernel, **kfunc))
        .map(|kfunc| kfunc.0)
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
