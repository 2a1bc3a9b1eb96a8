/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the gate counts: exactly, in the kernel, whatever becomes of the events.
 */
#ifndef COREGATE_COUNTS_H
#define COREGATE_COUNTS_H

#include "abi.h"
#include "kernel.h"

#define NSEC_PER_SEC 1000000000ULL

/* In a map of its own, which is pinned. */
struct kept kept SEC(".data.kept");

/* By rule, of each half. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * RULES_MAX);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* Launches that were also judged by the policy that is rehearsed, and that a rule of either is for. */
__u64 rehearsed;

/* How many of them had which two different outcomes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CHANGES_MAX);
	__type(key, struct change);
	__type(value, __u64);
} changes SEC(".maps");

static __always_inline void count_change(const struct change *change)
{
	__u64 none = 0, *count;

	/* Another CPU may have been first. */
	if (!bpf_map_lookup_elem(&changes, change))
		bpf_map_update_elem(&changes, change, &none, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&changes, change);
	__sync_fetch_and_add(count ? count : &kept.failures.changes_lost, 1);
}

/* A launch that its rule has no verdict for. */
static __always_inline void count_exempt(__u32 rule)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &rule);

	if (c)
		__sync_fetch_and_add(&c->launches, 1);
}

static __always_inline struct pace *pace_of(struct counters *c, enum effect effect)
{
	return &c->pace[effect == EFFECT_ADMITTED ? PACED_ADMITTED : PACED_OTHERS];
}

/*
 * Whether an event of this rule is told at `now`; if not, that is counted. At once, no more are than
 * in a second: then one for each interval.
 */
static __always_inline bool keeps_pace(__u32 rule, enum effect effect, __u64 interval, __u64 now)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &rule);
	struct pace *pace;
	__u64 next, from;

	if (!interval || !c)
		return true;
	pace = pace_of(c, effect);
	next = pace->next;
	from = next > now ? next : now;
	if (from - now > NSEC_PER_SEC - interval) {
		__sync_fetch_and_add(&c->suppressed, 1);
		__sync_fetch_and_add(&pace->untold, 1);
		return false;
	}
	/* If another CPU is faster, one more is told than should be. */
	__sync_val_compare_and_swap(&pace->next, next, from + interval);
	return true;
}

/* How many events were held back since this was asked last. */
static __always_inline __u64 take_untold(__u32 rule, enum effect effect)
{
	struct counters *c = bpf_map_lookup_elem(&counters, &rule);
	struct pace *pace = c ? pace_of(c, effect) : NULL;

	return pace && pace->untold ? __sync_lock_test_and_set(&pace->untold, 0) : 0;
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
