/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who runs on a core, by the runqueues of its CPUs.
 */
#ifndef COREGATE_CORE_H
#define COREGATE_CORE_H

#include "claims.bpf.h"
#include "kernel.h"
#include "topology.bpf.h"

/*
 * The functions that are not inlined are so for the verifier: it looks at each of them once, not
 * at every way that leads to them.
 */

/* What runs on a CPU or a core, from the slot of a claim on. */
enum {
	NOBODY,
	/* Threads of the launcher that end with the launch, or its claim's. */
	SELF,
	STRANGER,
	OFFLINE,
	FIRST_SLOT,
};

/*
 * How many tasks would run on a CPU. Since 6.12 a task that went to sleep may stay on the queue
 * for a while, and in its count (set_delayed(), kernel/sched/fair.c).
 */
static __always_inline __u32 nr_runnable(const struct rq *rq)
{
	__u32 asleep = 0;

	if (bpf_core_field_exists(rq->cfs.h_nr_runnable))
		asleep = rq->cfs.h_nr_queued - rq->cfs.h_nr_runnable;
	return rq->nr_running - asleep;
}

/* A queue of more than these is not looked at. */
#define QUEUE_MAX 16

/*
 * Of the tasks in a list of a queue, the waiting threads of one process. It is read without the
 * queue's lock, so it may change meanwhile: what comes of it is compared with the queue's own
 * count, and looked at twice.
 */
static __always_inline __u32 count_threads(const struct list_head *head, __u32 node, int tgid,
					   const struct task_struct *curr)
{
	const struct list_head *at = head;
	const struct task_struct *task;
	__u32 nr = 0;

#pragma unroll 1
	for (__u32 i = 0; i < QUEUE_MAX; i++) {
		at = BPF_CORE_READ(at, next);
		if (!at || at == head)
			break;
		task = (const void *)at - node;
		if (task == curr || BPF_CORE_READ(task, tgid) != tgid)
			continue;
		if (bpf_core_field_exists(task->se.sched_delayed) &&
		    BPF_CORE_READ(task, se.sched_delayed))
			continue;
		nr++;
	}
	return nr;
}

/*
 * Whether more than one task would run on a CPU, and not only threads of the process that runs there, if
 * that matters. The fair class keeps the running task in its list, sched_ext takes it out
 * (set_next_task_scx(), kernel/sched/ext.c), so it is counted apart.
 */
static __always_inline bool is_shared(const struct rq *rq, int tgid)
{
	const struct task_struct *curr = rq->curr;
	__u32 nr = 1;

	if (nr_runnable(rq) <= 1 || !tgid)
		return nr_runnable(rq) > 1;
	nr += count_threads(&rq->cfs_tasks,
			    bpf_core_field_offset(struct task_struct, se.group_node), tgid, curr);
	if (bpf_core_field_exists(rq->scx.runnable_list))
		nr += count_threads(&rq->scx.runnable_list,
				    bpf_core_field_offset(struct task_struct, scx.runnable_node),
				    tgid, curr);
	return nr != nr_runnable(rq);
}

/* For which claim a task runs, and whether the other threads of its process do. */
static __always_inline __u32 claim_of(struct task_struct *task, int *tgid)
{
	const struct holder *h = holder_of(task);

	if (!h)
		return STRANGER;
	*tgid = h->thread ? 0 : task->tgid;
	if (claim_at(h->exec_slot, h->exec_id))
		return FIRST_SLOT + h->exec_slot;
	return claim_at(h->slot, h->id) ? FIRST_SLOT + h->slot : STRANGER;
}

/* The same of what a CPU runs. */
static __always_inline __u32 claim_on(const struct rq *rq, int *tgid)
{
	struct task_struct *task;
	__u32 who;

	if (!bpf_ksym_exists(bpf_task_from_pid))
		return rq->curr ? claim_of(rq->curr, tgid) : STRANGER;
	/* Later kernels do not trust a pointer that was read from the queue. */
	task = bpf_task_from_pid(rq->curr->pid);
	if (!task)
		return STRANGER;
	who = claim_of(task, tgid);
	bpf_task_release(task);
	return who;
}

/*
 * Who shares its CPU in turns with somebody else has not got it. K8: a CPU on which a woken task
 * is already queued still runs its idle task.
 */
__noinline __u32 who_runs_on(__u32 cpu, struct need *n)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);
	const struct task_struct *curr;
	__u32 who = STRANGER;
	bool is_idle;
	int tgid = 0;

	if (!rq || !n)
		return STRANGER;
	curr = rq->curr;
	is_idle = curr == rq->idle;
	/* A busy one is not online for a moment when it changes its root domain. */
	if (!rq->online)
		return is_idle ? OFFLINE : STRANGER;
	n->switches += rq->nr_switches;
	if (rq->ttwu_pending)
		return STRANGER;
	if (is_idle)
		return rq->nr_running ? STRANGER : NOBODY;
	if (cpu == n->own_cpu || (n->own_tgid && curr->tgid == n->own_tgid)) {
		tgid = n->own_tgid;
		who = cpu == n->own_cpu && !n->own_core ? STRANGER : SELF;
	} else if (n->live) {
		who = claim_on(rq, &tgid);
	}
	if (who == STRANGER || is_shared(rq, tgid))
		return STRANGER;
	return who == n->own_slot ? SELF : who;
}

/* The one who runs on a core, and nobody else; or NOBODY; else STRANGER. */
__noinline __u32 who_runs_on_core(__u32 index, struct need *n)
{
	const struct core *core;
	__u32 all = OFFLINE;

	if (!n)
		return STRANGER;
	core = core_at(n->version, index);
	if (!core)
		return STRANGER;
	n->switches = 0;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++) {
		__u32 who = who_runs_on(core->cpu[i], n);

		if (who == OFFLINE || who == all)
			continue;
		if (who == STRANGER)
			return STRANGER;
		if (all == NOBODY || all == OFFLINE)
			all = who;
		else if (who != NOBODY)
			return STRANGER;
	}
	return all;
}

#endif
