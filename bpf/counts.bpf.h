/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the gate counts: exactly, in the kernel, whatever becomes of the events.
 */
#ifndef COREGATE_COUNTS_H
#define COREGATE_COUNTS_H

#include "abi.h"
#include "kernel.h"

struct failures failures;

/* By rule. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* A launch that its rule has no verdict for. */
static __always_inline void count_exempt(__u32 rule)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &rule);

	if (c)
		__sync_fetch_and_add(&c->launches, 1);
}

static __always_inline void count_launch(__u32 rule, enum verdict verdict, enum effect effect)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &rule);

	if (!c)
		return;
	__sync_fetch_and_add(&c->launches, 1);
	if (verdict == VERDICT_UNKNOWN)
		__sync_fetch_and_add(&c->unknown, 1);
	if (effect == EFFECT_ADMITTED)
		__sync_fetch_and_add(&c->admitted, 1);
	else if (effect == EFFECT_DENIED)
		__sync_fetch_and_add(&c->denied, 1);
	else
		__sync_fetch_and_add(&c->would_deny, 1);
}

#endif
