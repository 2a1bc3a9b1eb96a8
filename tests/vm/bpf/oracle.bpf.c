// SPDX-License-Identifier: GPL-2.0-only
/*
 * A log, in one order for all CPUs, of what each CPU runs and of when execs pass the LSM
 * hook. It shares no code with the gate and reads neither idle masks nor runqueues.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct thread_info {
	__u32 cpu;
} __attribute__((preserve_access_index));

struct task_struct {
	struct thread_info thread_info;
	int nr_cpus_allowed;
	int pid;
} __attribute__((preserve_access_index));

struct linux_binprm;

enum kind {
	/* A CPU runs pid from now on, what before; 0 is its idle task. */
	KIND_SWITCH = 1,
	/* pid is on its way to a CPU: to what, if it can run on no other, else what is -1. */
	KIND_WAKE = 2,
	/* The exec of process pid enters the hook, and leaves it with what. */
	KIND_ENTER = 3,
	KIND_LEAVE = 4,
	/* As KIND_SWITCH, and what ran before waits for its next turn. */
	KIND_PREEMPT = 5,
};

struct record {
	__u64 time;
	enum kind kind;
	__u32 cpu;
	__s32 pid;
	__s32 what;
};

#include "records.h"

static __always_inline void put(enum kind kind, int pid, int what)
{
	struct record *r = reserve();

	if (!r)
		return;
	r->kind = kind;
	r->cpu = bpf_get_smp_processor_id();
	r->pid = pid;
	r->what = what;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	put(preempt || !prev_state ? KIND_PREEMPT : KIND_SWITCH, next->pid, prev->pid);
	return 0;
}

static __always_inline void put_wake(struct task_struct *p)
{
	put(KIND_WAKE, p->pid, p->nr_cpus_allowed == 1 ? (int)p->thread_info.cpu : -1);
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *p)
{
	put_wake(p);
	return 0;
}

/* A new task is queued before its own wake-up is traced (wake_up_new_task(), kernel/sched/core.c). */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *p)
{
	put_wake(p);
	return 0;
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(on_migrate, struct task_struct *p, int dest_cpu)
{
	put_wake(p);
	return 0;
}

/* fentry runs before, fexit after all LSM programs of the hook (kernel/bpf/trampoline.c). */
SEC("fentry/bpf_lsm_bprm_creds_for_exec")
int BPF_PROG(on_enter, struct linux_binprm *bprm)
{
	put(KIND_ENTER, bpf_get_current_pid_tgid() >> 32, 0);
	return 0;
}

SEC("fexit/bpf_lsm_bprm_creds_for_exec")
int BPF_PROG(on_leave, struct linux_binprm *bprm, int ret)
{
	put(KIND_LEAVE, bpf_get_current_pid_tgid() >> 32, ret);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
