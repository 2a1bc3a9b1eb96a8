/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a verdict comes to: by the mode of the policy, by what root said over its head, and by whether
 * somebody looks after the gate. All of that holds without a daemon.
 */
#ifndef COREGATE_MODE_H
#define COREGATE_MODE_H

#include "abi.h"
#include "counts.bpf.h"
#include "facts.bpf.h"
#include "kernel.h"

#define NSEC_PER_MSEC 1000000ULL

/* When the daemon last looked after the gate, of CLOCK_MONOTONIC: both sleep when the machine does. */
__u64 beat;

/* What root said, as a mode plus 1; 0 if it said nothing that holds now. */
static __always_inline __u32 ordered(void)
{
	__u64 word = *(const volatile __u64 *)&kept.order.word;
	__u64 end = word >> ORDER_END_SHIFT;

	if (!word)
		return 0;
	if (end && bpf_ktime_get_boot_ns() >= end * NSEC_PER_MSEC)
		word >>= ORDER_AFTER_SHIFT;
	return word & ORDER_MODE;
}

/* Whether nobody has looked after the gate for as long as the policy allows. */
static __always_inline bool is_unattended(__u64 lease)
{
	/* The daemon may do so just now. */
	return lease && (__s64)(bpf_ktime_get_ns() - *(const volatile __u64 *)&beat) > (__s64)lease;
}

/* The mode in which a policy judges a launch, which is noted. A function of its own, as of the stack. */
__noinline int note_mode(struct facts *f)
{
	const struct settings *own;
	__u32 order = ordered();

	if (!f)
		return MODE_OFF;
	own = &settings[f->half & 1];
	f->mode = order ? order - 1 : own->mode;
	if (!is_unattended(own->lease_ns))
		return f->mode;
	f->mode = own->lease_mode;
	if (!f->rehearsed)
		__sync_fetch_and_add(&kept.failures.unattended, 1);
	return f->mode;
}

/* What a verdict comes to. */
__noinline int effect_of(const struct facts *f, const struct rule *rule, __u32 verdict)
{
	if (!f || !rule)
		return EFFECT_ADMITTED;
	if (verdict == VERDICT_ADMIT)
		return EFFECT_ADMITTED;
	if (verdict == VERDICT_UNKNOWN && settings[f->half & 1].on_unknown != ACTION_DENY)
		return EFFECT_ADMITTED;
	if (f->mode != MODE_ENFORCE || rule->action != ACTION_DENY)
		return EFFECT_LOGGED;
	return EFFECT_DENIED;
}

#endif
