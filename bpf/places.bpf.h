/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the companion keeps of CPUs, of nodes and of tasks, by their numbers.
 */
#ifndef COREGATE_PLACES_BPF_H
#define COREGATE_PLACES_BPF_H

#include "scx.h"
#include "companion.h"

/* The kernel's nr_cpu_ids and the highest node id plus one; the loader sets both. */
const volatile __s32 nr_cpus = 1;
const volatile __s32 nr_nodes = 1;

/*
 * Queue ids: a CPU's own queue is its number; a node's, that of a core's holders, and that of a CPU's
 * kernel threads that are held back, has a bit.
 */
#define NODE_QUEUE (1ULL << 32)
#define HOLD_QUEUE (1ULL << 33)
#define BACK_QUEUE (1ULL << 34)
#define NO_QUEUE (~0ULL)

struct node {
	/* Virtual time of the node's queue. */
	__u64 clock;
	/* What the tasks weigh that want to run on its CPUs; when it last had one of another's. */
	__u64 load;
	__u64 helped;
	__u32 nr_cpus;
	/* Its cores; how many of them are reserved, and how many have to stay open to all. */
	__u32 cores;
	__u32 reserved;
	__u32 open;
	/*
	 * Its online CPUs. The kernel's functions take plain memory for a cpumask of theirs if
	 * it is as large; a bpf_cpumask would need a type tag, which clang 14 does not write.
	 */
	struct cpumask cpus;
};

struct task {
	/* Weighted time it has had, on the clock of the queue below. */
	__u64 vtime;
	/* When its present turn began. */
	__u64 started;
	__u64 queue;
	/* Since when it wants to run, 0: it does not; and for how long it did that its group does not know. */
	__u64 wants;
	__u64 wanted;
	/* When it began to want to run. */
	__u64 woke;
	/* Of a CPU's kernel thread: until when it waits for holders to sleep; 0: it has not waited yet. */
	__u64 patient;
	/* Its group, and what it weighs; see groups.bpf.h. */
	__u32 group;
	__u32 weight;
	/* What of it is in the load of which node. */
	__u32 load;
	__u32 node;
	/* It is of all tasks of a CPU that have none. */
	__u32 spare;
	__u32 pad;
};

/* The loader sets the sizes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node);
} nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task);
} tasks SEC(".maps");

/* By CPU; the loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct task);
} spares SEC(".maps");

/*
 * What the entry into a BPF program adds to migration_disabled of the current task: 1, or 0
 * on kernels without preemptible RCU that have rcu_read_lock_dont_migrate() (6.18,
 * kernel/bpf/trampoline.c). Seen rather than known: the least value ever seen.
 */
__u32 entry_disables = 1;

static bool before(__u64 a, __u64 b)
{
	return (__s64)(a - b) < 0;
}

static struct cpu *known_cpu(__u32 cpu)
{
	return bpf_map_lookup_elem(&cpus, &cpu);
}

static struct cpu *cpu_of(__s32 cpu)
{
	struct cpu *c = known_cpu(cpu);

	if (!c)
		scx_error("CPU %lld is not one the loader knows", cpu);
	return c;
}

static struct node *node_of(__u32 node)
{
	struct node *n = bpf_map_lookup_elem(&nodes, &node);

	if (!n)
		scx_error("node %lld is not one the loader knows", node);
	return n;
}

/*
 * What is kept of a task. Allocating it does not wait (bpf_local_storage_map_alloc(),
 * kernel/bpf/bpf_local_storage.c), so it may fail where others get memory. Until a later try succeeds the
 * task shares a record with all such tasks of its CPU, as if they were one.
 */
static struct task *task_of(struct task_struct *p)
{
	struct task *t = bpf_task_storage_get(&tasks, p, NULL, 0);
	__u32 cpu = scx_bpf_task_cpu(p);

	if (t)
		return t;
	t = bpf_task_storage_get(&tasks, p, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (t) {
		t->queue = NO_QUEUE;
		return t;
	}
	t = bpf_map_lookup_elem(&spares, &cpu);
	if (!t)
		scx_error("CPU %lld is not one the loader knows", cpu);
	else if (!t->spare) {
		t->spare = 1;
		t->queue = NO_QUEUE;
	}
	return t;
}

/* Whether the task may run on the CPU where it is only. */
static bool must_stay(struct task_struct *p)
{
	struct task_struct *current = bpf_get_current_task_btf();
	__u32 disabled = current->migration_disabled;

	if (disabled < entry_disables)
		entry_disables = disabled;
	if (p->nr_cpus_allowed == 1)
		return true;
	return p->migration_disabled > (p->pid == current->pid ? entry_disables : 0);
}

/* A kernel thread of one CPU: what it does can be done nowhere else. */
static bool is_of_cpu(const struct task_struct *p)
{
	return (p->flags & PF_KTHREAD) && p->nr_cpus_allowed == 1;
}

#endif
