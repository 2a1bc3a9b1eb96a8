// SPDX-License-Identifier: GPL-2.0-only
/*
 * A log of every switch and every wake-up, with what tells whose a task is and where it may run.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct cpumask {
	unsigned long bits[1];
} __attribute__((preserve_access_index));

struct task_struct {
	unsigned int flags;
	int prio;
	const struct cpumask *cpus_ptr;
	int pid;
	int tgid;
} __attribute__((preserve_access_index));

/* include/linux/sched.h, include/linux/sched/prio.h */
#define PF_KTHREAD 0x00200000
#define MAX_RT_PRIO 100

enum what {
	/* The CPU runs the task from now on; its idle task is pid 0. */
	WHAT_SWITCH = 1,
	/* The same, and what ran before went to sleep. */
	WHAT_SLEEP = 2,
	/* The task is woken. */
	WHAT_WAKE = 3,
};

enum kind {
	KIND_USER = 1,
	/* Real-time, deadline. */
	KIND_REAL_TIME = 2,
	KIND_KERNEL = 3,
};

struct record {
	__u64 time;
	/* The CPUs that the task may run on, of the first 64. */
	__u64 allowed;
	__s32 pid;
	__s32 tgid;
	enum what what;
	enum kind kind;
	__u32 cpu;
	__u32 pad;
};

#include "records.h"

static __always_inline void put(enum what what, struct task_struct *p)
{
	struct record *r = reserve();

	if (!r)
		return;
	r->allowed = p->cpus_ptr->bits[0];
	r->pid = p->pid;
	r->tgid = p->tgid;
	r->what = what;
	if (p->flags & PF_KTHREAD)
		r->kind = KIND_KERNEL;
	else
		r->kind = p->prio < MAX_RT_PRIO ? KIND_REAL_TIME : KIND_USER;
	r->cpu = bpf_get_smp_processor_id();
	r->pad = 0;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	put(preempt || !prev_state ? WHAT_SWITCH : WHAT_SLEEP, next);
	return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *p)
{
	put(WHAT_WAKE, p);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
