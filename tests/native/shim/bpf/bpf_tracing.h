/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In place of libbpf's header: a program is a function with its arguments; the C library has some of their
 * names.
 */
#ifndef COREGATE_SHIM_BPF_TRACING_H
#define COREGATE_SHIM_BPF_TRACING_H

#define BPF_PROG(name, ...) program_##name(__VA_ARGS__)

#endif
