/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is known of the loaded scheduler, and which of its idle masks may be asked for.
 *
 * The idle masks of sched_ext know best, but a kfunc that does not suit the loaded
 * scheduler makes the kernel eject that scheduler. So the guard and the call stand in one
 * RCU read section, in which no scheduler can be replaced; where the guard has any doubt,
 * the runqueues are read instead.
 */
#ifndef COREGATE_SCHEDULER_H
#define COREGATE_SCHEDULER_H

#include "abi.h"
#include "claim.h"
#include "kernel.h"

/* What is known of the loaded scheduler; all 0 when there is none or nothing is known. */
struct scheduler {
	bool loaded;
	bool per_node;
	bool tracking;
	/* It is the companion. */
	bool companion;
	/* The mask kfunc that suits it, or SOURCE_RUNQUEUE for neither. */
	enum source source;
};

/*
 * A counter of the kernel. Of a static key: 1 on, 0 off, -1 while its code is patched
 * (kernel/jump_label.c).
 */
static __always_inline int counter_at(const void *at)
{
	return kernel_cast(struct static_key, at)->enabled.counter;
}

/*
 * K10: after a scheduler came, its masks are wrong until each CPU has once changed between idle
 * and busy. How long a mask is not believed, in ns, after its scheduler was first seen here.
 */
#define MASK_SETTLES 500000000ULL

/* The scheduler that was seen last, by how many there were before it, and since when. */
static __u32 scheduler_seen;
static __u64 scheduler_since;

static __always_inline bool mask_has_settled(void)
{
	__u32 scheduler = counter_at(&scx_enable_seq);
	__u64 now = bpf_ktime_get_ns();

	if (scheduler != scheduler_seen) {
		scheduler_since = now;
		barrier();
		scheduler_seen = scheduler;
	}
	return now - scheduler_since >= MASK_SETTLES;
}

#ifdef COREGATE_WITHOUT_GUARD
/* For the test that shows what the guard is for: whichever flag is set, call per node. */
static __always_inline struct scheduler loaded_scheduler(void)
{
	struct scheduler s = { .loaded = true, .source = SOURCE_NODE };

	if (!bpf_ksym_exists(scx_bpf_get_idle_smtmask_node))
		s.source = SOURCE_RUNQUEUE;
	return s;
}
#else
/* By its name, as far as it is padded with NULs. */
static __always_inline bool is_companion(const struct scx_sched *sched)
{
	union {
		char byte[16];
		__u64 word[2];
	} name, companion = { .byte = COMPANION };

	return !bpf_probe_read_kernel(&name, sizeof(name), sched->ops.name) &&
	       name.word[0] == companion.word[0] && name.word[1] == companion.word[1];
}

/*
 * The guard. Flags and update_idle are fixed for a scheduler's life but tell what it asked
 * for, not what is in force; the keys tell what is in force but change while a scheduler is
 * being enabled. A kfunc is safe when both agree (check_builtin_idle_enabled() and
 * validate_node(), kernel/sched/ext_idle.c). Call within an RCU read section only, and use
 * the answer within the same one.
 */
static __always_inline struct scheduler loaded_scheduler(void)
{
	struct scheduler s = { .source = SOURCE_RUNQUEUE };
	const struct scx_sched *sched;
	int enabled, per_node;
	__u64 flags;

	if (!bpf_core_type_exists(struct scx_sched) || !bpf_ksym_exists(&scx_root) ||
	    !bpf_ksym_exists(&scx_builtin_idle_enabled) ||
	    !bpf_ksym_exists(&scx_builtin_idle_per_node) || !bpf_ksym_exists(&scx_enable_seq) ||
	    !bpf_ksym_exists(&cpu_bit_bitmap) || !bpf_ksym_exists(scx_bpf_put_idle_cpumask) ||
	    !bpf_ksym_exists(bpf_cpumask_test_cpu) || !bpf_ksym_exists(bpf_rdonly_cast))
		return s;
	sched = kernel_cast(struct scx_sched, kernel_cast(struct hlist_head, &scx_root)->first);
	if (!sched)
		return s;
	flags = sched->ops.flags;

	s.loaded = true;
	s.companion = is_companion(sched);
	s.per_node = flags & bpf_core_enum_value(enum scx_ops_flags, SCX_OPS_BUILTIN_IDLE_PER_NODE);
	s.tracking = !sched->ops.update_idle ||
		     flags & bpf_core_enum_value(enum scx_ops_flags, SCX_OPS_KEEP_BUILTIN_IDLE);

	/* One with sub-schedulers answers only its own; the kernel warns of all others. */
	if (bpf_core_field_exists(sched->ops.sub_attach) && sched->ops.sub_attach)
		return s;
	if (bpf_core_field_exists(sched->is_cid_type) && sched->is_cid_type)
		return s;

	enabled = counter_at(&scx_builtin_idle_enabled);
	per_node = counter_at(&scx_builtin_idle_per_node);
	if (!s.tracking || enabled != 1 || !mask_has_settled())
		return s;
	/* A kernel may refuse calls of one of the two: bpf/compat.h. */
	if (s.per_node && per_node == 1 && bpf_ksym_exists(scx_bpf_get_idle_smtmask_node))
		s.source = SOURCE_NODE;
	else if (!s.per_node && per_node == 0 && bpf_ksym_exists(scx_bpf_get_idle_smtmask))
		s.source = SOURCE_FLAT;
	return s;
}
#endif

#endif
