/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the claims of each rule were honoured. The gate and the companion add to the same map, which is pinned.
 */
#ifndef COREGATE_HONOURS_BPF_H
#define COREGATE_HONOURS_BPF_H

#include "common.h"
#include "claim.h"

/* By the key of a rule. The gate's loader sets the size; rules that are long gone make room for others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct honour);
} honours SEC(".maps");

static void add_to(struct honour *h, const struct honour *more)
{
	if (more->samples)
		__sync_fetch_and_add(&h->samples, more->samples);
	if (more->shared)
		__sync_fetch_and_add(&h->shared, more->shared);
	if (more->ran_ns)
		__sync_fetch_and_add(&h->ran_ns, more->ran_ns);
	if (more->shared_ns)
		__sync_fetch_and_add(&h->shared_ns, more->shared_ns);
}

/* Adds to what is known of a claim and of its rule. */
static void honour(struct claim *c, const struct honour *more)
{
	struct honour none = {}, *h;
	__u64 rule = c->rule;

	/* Its program is still being executed. */
	if (!rule)
		return;
	add_to(&c->honour, more);
	h = bpf_map_lookup_elem(&honours, &rule);
	if (!h) {
		/* Another CPU may be first. */
		bpf_map_update_elem(&honours, &rule, &none, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&honours, &rule);
	}
	if (h)
		add_to(h, more);
}

#endif
