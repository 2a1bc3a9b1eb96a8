/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which cores of a node are free, from the best source that is safe to read now.
 *
 * The idle masks of sched_ext know best, but a kfunc that does not suit the loaded
 * scheduler makes the kernel eject that scheduler. So the guard and the call stand in one
 * RCU read section, in which no scheduler can be replaced; where the guard has any doubt,
 * the runqueues are read instead.
 */
#ifndef COREGATE_IDLE_H
#define COREGATE_IDLE_H

#include "abi.h"
#include "kernel.h"

/* Highest CPU number of this machine plus one, online or not. */
const volatile __u32 nr_cpu_ids = 1;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node);
} nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct core);
} cores SEC(".maps");

/* What is known of the loaded scheduler; all 0 when there is none or nothing is known. */
struct scheduler {
	bool loaded;
	bool per_node;
	bool tracking;
	/* The mask kfunc that suits it, or SOURCE_RUNQUEUE for neither. */
	enum source source;
};

/* How many cores of a node are free, and who says so. */
struct idle {
	__u32 free;
	enum source source;
	/* False: the topology has no such node, so nothing can be said. */
	bool known;
};

/* A static key as it stands: 1 on, 0 off, -1 while its code is patched (kernel/jump_label.c). */
static __always_inline int key_state(const void *key)
{
	return kernel_cast(struct static_key, key)->enabled.counter;
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
	    !bpf_ksym_exists(&scx_builtin_idle_per_node) ||
	    !bpf_ksym_exists(scx_bpf_get_idle_smtmask_node) ||
	    !bpf_ksym_exists(scx_bpf_get_idle_smtmask) ||
	    !bpf_ksym_exists(scx_bpf_put_idle_cpumask) || !bpf_ksym_exists(bpf_cpumask_test_cpu) ||
	    !bpf_ksym_exists(bpf_rdonly_cast))
		return s;
	sched = kernel_cast(struct scx_sched, kernel_cast(struct hlist_head, &scx_root)->first);
	if (!sched)
		return s;
	flags = sched->ops.flags;

	s.loaded = true;
	s.per_node = flags & bpf_core_enum_value(enum scx_ops_flags, SCX_OPS_BUILTIN_IDLE_PER_NODE);
	s.tracking = !sched->ops.update_idle ||
		     flags & bpf_core_enum_value(enum scx_ops_flags, SCX_OPS_KEEP_BUILTIN_IDLE);

	/* A root with sub-schedulers answers a program it does not own with an empty mask. */
	if (bpf_core_field_exists(sched->ops.sub_attach) && sched->ops.sub_attach)
		return s;
	if (bpf_core_field_exists(sched->is_cid_type) && sched->is_cid_type)
		return s;

	enabled = key_state(&scx_builtin_idle_enabled);
	per_node = key_state(&scx_builtin_idle_per_node);
	if (!s.tracking || enabled != 1)
		return s;
	if (s.per_node && per_node == 1)
		s.source = SOURCE_NODE;
	else if (!s.per_node && per_node == 0)
		s.source = SOURCE_FLAT;
	return s;
}
#endif

/* K8: a CPU on which a woken task is already queued still runs its idle task. */
static __always_inline bool cpu_is_idle(__u32 cpu)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);

	return rq && rq->curr == rq->idle && !rq->nr_running && !rq->ttwu_pending;
}

static __always_inline bool cpu_is_allowed(const struct task_struct *task, __u32 cpu)
{
	unsigned long word = 0;

	if (bpf_probe_read_kernel(&word, sizeof(word), &task->cpus_mask.bits[0] + cpu / 64))
		return false;
	return word >> (cpu % 64) & 1;
}

/* One walk over the cores of a node. */
struct walk {
	/* NULL: read the runqueues only. */
	const struct cpumask *mask;
	/* NULL: every CPU is allowed. */
	const struct task_struct *task;
	__u32 first_core;
	__u32 free;
};

/* A core of which the task may use any thread is one that it can have. */
static __always_inline bool core_is_allowed(const struct walk *w, const struct core *core)
{
	if (!w->task)
		return true;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		if (cpu_is_allowed(w->task, core->cpu[i]))
			return true;
	return false;
}

/*
 * In a mask a core's threads are set all or none, so its leader stands for it. What the mask
 * calls busy is taken for busy: a task may be on its way there. What it calls free is looked
 * at: two siblings that change at the same time can leave the mask wrong until one of them
 * changes again (update_builtin_idle(), kernel/sched/ext_idle.c).
 */
static __always_inline bool core_is_free(const struct walk *w, const struct core *core)
{
	if (w->mask && !mask_has(w->mask, core->cpu[0]))
		return false;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		if (!cpu_is_idle(core->cpu[i]))
			return false;
	return true;
}

static long visit_core(__u32 i, struct walk *w)
{
	__u32 index = w->first_core + i;
	const struct core *core = bpf_map_lookup_elem(&cores, &index);

	if (!core)
		return 1;
	if (core_is_free(w, core) && core_is_allowed(w, core))
		w->free++;
	return 0;
}

static __always_inline __u32 walk_cores(const struct node *node, const struct task_struct *task,
					const struct cpumask *mask)
{
	struct walk w = { .mask = mask, .task = task, .first_core = node->first_core };

	if (task && (__u32)task->nr_cpus_allowed >= nr_cpu_ids)
		w.task = NULL;
	bpf_loop(node->nr_cores, visit_core, &w, 0);
	return w.free;
}

/*
 * The free cores of a node that the task may use; every task when it is NULL. Call within
 * an RCU read section only.
 */
static __always_inline struct idle free_cores(__u32 node_id, const struct task_struct *task)
{
	struct idle idle = { .source = SOURCE_NONE };
	const struct node *node = bpf_map_lookup_elem(&nodes, &node_id);
	const struct cpumask *mask;

	if (!node || !node->nr_cores)
		return idle;
	idle.known = true;
	idle.source = loaded_scheduler().source;

	if (idle.source == SOURCE_NODE && bpf_ksym_exists(scx_bpf_get_idle_smtmask_node)) {
		mask = scx_bpf_get_idle_smtmask_node(node_id);
		idle.free = walk_cores(node, task, mask);
		scx_bpf_put_idle_cpumask(mask);
	} else if (idle.source == SOURCE_FLAT && bpf_ksym_exists(scx_bpf_get_idle_smtmask)) {
		mask = scx_bpf_get_idle_smtmask();
		idle.free = walk_cores(node, task, mask);
		scx_bpf_put_idle_cpumask(mask);
	} else {
		idle.free = walk_cores(node, task, NULL);
	}
	return idle;
}

#endif
