/* SPDX-License-Identifier: GPL-2.0-only */
/* In place of libbpf's header: types are as the gate declares them, and all of them are there. */
#ifndef COREGATE_SHIM_BPF_CORE_READ_H
#define COREGATE_SHIM_BPF_CORE_READ_H

#define bpf_core_field_exists(...) 1
#define bpf_core_type_exists(type) 1
#define bpf_core_enum_value(type, value) (value)
#define bpf_core_type_id_kernel(type) 0

#define ___nth(one, two, three, four, nth, ...) nth

/* Of a field of a type, or of a field that an expression names. */
#define bpf_core_field_offset(...) ___nth(__VA_ARGS__, , , ___offset_in, ___offset_of)(__VA_ARGS__)
#define ___offset_in(type, field) offsetof(type, field)
#define ___offset_of(field) 0

#define ___arrow(...) ___nth(__VA_ARGS__, ___arrow3, ___arrow2, ___arrow1, )(__VA_ARGS__)
#define ___arrow1(from, a) ((from)->a)
#define ___arrow2(from, a, b) ((from)->a->b)
#define ___arrow3(from, a, b, c) ((from)->a->b->c)
#define BPF_CORE_READ(...) ___arrow(__VA_ARGS__)
#define BPF_CORE_READ_BITFIELD(from, field) ((from)->field)

#endif
