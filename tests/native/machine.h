/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A simulated machine for the gate's own C: CPUs with runqueues, tasks, and the maps. A launch is a
 * coroutine. The compiler calls us at each access to memory (-fsanitize=thread, without its runtime):
 * there the launch can be preempted, except under the lock, which keeps interrupts off.
 */
#ifndef COREGATE_NATIVE_MACHINE_H
#define COREGATE_NATIVE_MACHINE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The gate, as it is compiled for the kernel. */
#include "gate.bpf.c"

/* The launch of a task that a rule watches, from where the hook has found the rule. */
static int launch_at_hook(struct note *note, struct task_struct *task, enum hook hook)
{
	return judge(note, task, hook);
}

#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
			     apply_to = function)

enum {
	SIM_CPUS = 8,
	SIM_THREADS = 2,
	SIM_CORES = SIM_CPUS / SIM_THREADS,
	SIM_CLAIMS = SIM_CORES + SIM_CPUS,
	SIM_STACK = 65536,
};

/* A task, and the launch that it makes. */
struct sim_task {
	struct task_struct task;
	struct mm_struct mm;
	struct signal_struct signal;
	struct cred cred;
	struct css_set cgroups;
	struct note note;
	bool has_note;
	/* The CPU where it runs or waits, if it wants to run. */
	__u32 cpu;
	bool wants;

	/* The launch: its rule, where it goes on, and how it ended. */
	enum hook hook;
	bool ended;
	int answer;
	ucontext_t context;
	/* Made for its first launch, and kept. */
	char *stack;
};

/* What tests begin with; all of it is as in the kernel but for the sizes. */
static struct {
	bool locked;
	/* Whether tasks are of sched_ext, else of the fair class. */
	bool scx;
	struct rq rq[SIM_CPUS];
	struct sim_task idle[SIM_CPUS];
	/* The maps. */
	struct node node[2 * NODES_MAX];
	struct core core[2 * SIM_CPUS];
	__u32 core_of[2 * SIM_CPUS];
	struct rule rule[2];
	struct counters counter[2];
	struct lock lock;
	struct ledger ledger;
	struct claim claim[SIM_CLAIMS];
	struct domain domain[SIM_CLAIMS];
	/* Of each CPU. */
	__u64 walk[SIM_CPUS];
	struct view view[SIM_CPUS];
	struct seen seen[SIM_CPUS][SIM_CLAIMS];
	struct owed owed[SIM_CPUS][SIM_CLAIMS];
} sim;

/* The kernel's, which is only ever asked for by its address. */
const struct rq runqueues;

/* The task whose launch goes on, where it came from, and after how many accesses it is preempted. */
static struct sim_task *running;
static ucontext_t scheduler_context;
static long accesses_left;
static long accesses;

/*
 * An access to memory by the gate. Its stack, and what it keeps of its own launch, nobody else touches.
 */
static void on_access(const volatile void *address)
{
	struct sim_task *t = running;
	uintptr_t at = (uintptr_t)address;

	if (!t || sim.locked || at - (uintptr_t)t->stack < SIM_STACK ||
	    at - (uintptr_t)&t->note.facts < sizeof(t->note) - offsetof(struct note, facts))
		return;
	accesses++;
	if (accesses_left < 0 || accesses_left--)
		return;
	swapcontext(&t->context, &scheduler_context);
}

#define ON_ACCESS(bytes)                        \
	void __tsan_read##bytes(const void *at) \
	{                                       \
		on_access(at);                  \
	}                                       \
	void __tsan_write##bytes(void *at)      \
	{                                       \
		on_access(at);                  \
	}

ON_ACCESS(1)
ON_ACCESS(2)
ON_ACCESS(4)
ON_ACCESS(8)
ON_ACCESS(16)

#define ON_ATOMIC(bits)                                                                          \
	__u##bits __tsan_atomic##bits##_fetch_add(volatile __u##bits *at, __u##bits more, int o) \
	{                                                                                        \
		on_access(at);                                                                   \
		return __sync_fetch_and_add(at, more);                                           \
	}                                                                                        \
	__u##bits __tsan_atomic##bits##_exchange(volatile __u##bits *at, __u##bits now, int o)   \
	{                                                                                        \
		on_access(at);                                                                   \
		return __atomic_exchange_n(at, now, __ATOMIC_SEQ_CST);                           \
	}                                                                                        \
	__u##bits __tsan_atomic##bits##_compare_exchange_val(                                    \
		volatile __u##bits *at, __u##bits was, __u##bits now, int o, int f)              \
	{                                                                                        \
		on_access(at);                                                                   \
		return __sync_val_compare_and_swap(at, was, now);                                \
	}

ON_ATOMIC(32)
ON_ATOMIC(64)

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
}

void __tsan_func_exit(void)
{
}

/*
 * The linker hands on all copies of structs. Up to clang 15 they are no accesses to the compiler; later
 * ones call functions of their own.
 */
void *__real_memcpy(void *to, const void *from, size_t size);
void *__real_memset(void *at, int byte, size_t size);

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
	on_access(from);
	on_access(to);
	return __real_memcpy(to, from, size);
}

void *__wrap_memset(void *at, int byte, size_t size)
{
	on_access(at);
	return __real_memset(at, byte, size);
}

void *__tsan_memcpy(void *to, const void *from, size_t size)
{
	return __wrap_memcpy(to, from, size);
}

void *__tsan_memset(void *at, int byte, size_t size)
{
	return __wrap_memset(at, byte, size);
}

/* The helpers. */

void *bpf_map_lookup_elem(void *map, const void *key)
{
	__u32 i = *(const __u32 *)key;
	__u32 cpu = running ? running->cpu : 0;

#define MAP(name, values)         \
	if (map == (void *)&name) \
	return i < sizeof(values) / sizeof((values)[0]) ? &(values)[i] : NULL
#define MAP_OF_ONE(name, value)   \
	if (map == (void *)&name) \
	return i ? NULL : &(value)
	MAP(nodes, sim.node);
	MAP(cores, sim.core);
	MAP(core_of, sim.core_of);
	MAP(rules, sim.rule);
	MAP(counters, sim.counter);
	MAP(claims, sim.claim);
	MAP(domains, sim.domain);
	MAP(seen, sim.seen[cpu]);
	MAP(owed, sim.owed[cpu]);
	MAP_OF_ONE(locks, sim.lock);
	MAP_OF_ONE(ledgers, sim.ledger);
	MAP_OF_ONE(walks, sim.walk[cpu]);
	MAP_OF_ONE(views, sim.view[cpu]);
	abort();
}

void *bpf_task_storage_get(void *map, void *task, void *value, __u64 flags)
{
	struct sim_task *t = task;

	if (map != &holders)
		abort();
	t->has_note |= flags & BPF_LOCAL_STORAGE_GET_F_CREATE;
	return t->has_note ? &t->note : NULL;
}

long bpf_loop(__u32 nr, void *callback, void *context, __u64 flags)
{
	long (*step)(__u32 i, void *context) = callback;

	for (__u32 i = 0; i < nr; i++)
		if (step(i, context))
			return i + 1;
	return nr;
}

void bpf_spin_lock(struct bpf_spin_lock *lock)
{
	on_access(lock);
	if (sim.locked)
		abort();
	sim.locked = true;
}

void bpf_spin_unlock(struct bpf_spin_lock *lock)
{
	sim.locked = false;
}

struct task_struct *bpf_get_current_task_btf(void)
{
	return &running->task;
}

__u32 bpf_get_smp_processor_id(void)
{
	return running->cpu;
}

long bpf_get_numa_node_id(void)
{
	return sim.core[running->cpu / SIM_THREADS].node;
}

void *bpf_per_cpu_ptr(const void *pointer, __u32 cpu)
{
	return pointer == &runqueues && cpu < SIM_CPUS ? &sim.rq[cpu] : NULL;
}

__u64 bpf_ktime_get_ns(void)
{
	return 1;
}

__u64 bpf_ktime_get_boot_ns(void)
{
	return 1;
}

long bpf_probe_read_kernel(void *to, __u32 size, const void *from)
{
	memcpy(to, from, size);
	return 0;
}

/* Nobody hears of events, which is counted. */
void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags)
{
	return NULL;
}

long bpf_ringbuf_output(void *ring, void *data, __u64 size, __u64 flags)
{
	return -1;
}

/* What is fixed when a program is loaded may be written until then. */
static void set_at_load(const volatile __u32 *constant, __u32 value)
{
	uintptr_t page = (uintptr_t)constant & ~4095UL;

	if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE))
		abort();
	*(volatile __u32 *)constant = value;
}

static void append(struct list_head *head, struct list_head *entry)
{
	struct list_head *last = head;

	while (last->next != head)
		last = last->next;
	last->next = entry;
	entry->next = head;
}

static void list(struct sim_task *t)
{
	struct rq *rq = &sim.rq[t->cpu];

	if (sim.scx)
		append(&rq->scx.runnable_list, &t->task.scx.runnable_node);
	else
		append(&rq->cfs_tasks, &t->task.se.group_node);
}

static void unlist(struct sim_task *t)
{
	struct rq *rq = &sim.rq[t->cpu];
	struct list_head *entry = sim.scx ? &t->task.scx.runnable_node : &t->task.se.group_node;
	struct list_head *before = sim.scx ? &rq->scx.runnable_list : &rq->cfs_tasks;

	while (before->next != entry)
		before = before->next;
	before->next = entry->next;
}

/* The CPU of a task changes to it. sched_ext takes the one that runs off its list. */
static void switch_to(struct sim_task *t)
{
	struct rq *rq = &sim.rq[t->cpu];
	struct sim_task *before = (struct sim_task *)rq->curr;

	if (before == t)
		return;
	if (sim.scx && before->wants)
		list(before);
	if (sim.scx && t->wants)
		unlist(t);
	rq->curr = &t->task;
	rq->nr_switches++;
}

/* A task wants to run on a CPU, and waits there. */
static void wake(struct sim_task *t, __u32 cpu)
{
	t->cpu = cpu;
	t->wants = true;
	sim.rq[cpu].nr_running++;
	sim.rq[cpu].cfs.h_nr_queued++;
	sim.rq[cpu].cfs.h_nr_runnable++;
	list(t);
}

/* A task that runs does not want to any more; its CPU is idle until somebody is switched to. */
static void sleep_now(struct sim_task *t)
{
	struct rq *rq = &sim.rq[t->cpu];

	if (!sim.scx)
		unlist(t);
	t->wants = false;
	rq->nr_running--;
	rq->cfs.h_nr_queued--;
	rq->cfs.h_nr_runnable--;
	switch_to(&sim.idle[t->cpu]);
}

/* A task of its own process, which may use these CPUs. */
static void make_task(struct sim_task *t, int pid, unsigned long cpus)
{
	__real_memset(t, 0, offsetof(struct sim_task, stack));
	t->task.pid = pid;
	t->task.tgid = pid;
	t->task.mm = &t->mm;
	t->task.cred = &t->cred;
	t->task.cgroups = &t->cgroups;
	t->signal.live.counter = 1;
	t->task.signal = &t->signal;
	t->task.cpus_mask.bits[0] = cpus;
	t->task.nr_cpus_allowed = __builtin_popcountl(cpus);
}

/* An idle machine with this many nodes, and a rule by which launches need a core each. */
static void make_machine(__u32 nr, bool scx)
{
	__u32 cores_each = SIM_CORES / nr;

	__real_memset(&sim, 0, sizeof(sim));
	sim.scx = scx;
	kept = (struct kept){};
	set_at_load(&nr_cpu_ids, SIM_CPUS);
	set_at_load(&nr_nodes, nr);
	topology.nr_cores[0] = SIM_CORES;
	settings[0].mode = MODE_ENFORCE;
	settings[0].on_unknown = ACTION_DENY;
	sim.rule[0] = (struct rule){
		.cores = 1,
		.action = ACTION_DENY,
		.denial = -EAGAIN,
		.scope = SCOPE_NODE,
		.own_core = 1 << HOOK_EXEC,
		.key = 1,
	};
	for (__u32 n = 0; n < nr; n++)
		sim.node[n] = (struct node){ .first_core = n * cores_each, .nr_cores = cores_each };
	for (__u32 cpu = 0; cpu < SIM_CPUS; cpu++) {
		struct core *core = &sim.core[cpu / SIM_THREADS];
		struct rq *rq = &sim.rq[cpu];

		core->node = cpu / SIM_THREADS / cores_each;
		core->cpu[core->nr_cpus++] = cpu;
		sim.core_of[cpu] = cpu / SIM_THREADS + 1;
		make_task(&sim.idle[cpu], 0, 1UL << cpu);
		sim.idle[cpu].cpu = cpu;
		rq->online = 1;
		rq->idle = &sim.idle[cpu].task;
		rq->curr = rq->idle;
		rq->cfs_tasks.next = &rq->cfs_tasks;
		rq->scx.runnable_list.next = &rq->scx.runnable_list;
	}
}

static void launch_of_running(void)
{
	struct sim_task *t = running;

	t->answer = launch_at_hook(&t->note, &t->task, t->hook);
	t->ended = true;
	setcontext(&scheduler_context);
}

/* A task is about to launch something. */
static void begin_launch(struct sim_task *t, enum hook hook)
{
	t->hook = hook;
	t->ended = false;
	t->has_note = true;
	t->note.facts.half = 0;
	t->note.facts.rule = 0;
	t->note.facts.rehearsed = 0;
	t->note.facts.mode = MODE_ENFORCE;
	if (!t->stack)
		t->stack = malloc(SIM_STACK);
	if (!t->stack || getcontext(&t->context))
		abort();
	t->context.uc_stack.ss_sp = t->stack;
	t->context.uc_stack.ss_size = SIM_STACK;
	makecontext(&t->context, launch_of_running, 0);
}

/*
 * Lets the launch of a task go on for so many accesses, or if that is negative to its end. Whether it
 * has ended.
 */
static bool go_on(struct sim_task *t, long most)
{
	if (t->ended)
		return true;
	switch_to(t);
	running = t;
	accesses_left = most;
	if (swapcontext(&scheduler_context, &t->context))
		abort();
	running = NULL;
	return t->ended;
}

/* How many launches were admitted. */
static __u64 admitted(void)
{
	return sim.counter[0].admitted;
}

#pragma clang attribute pop

#endif
