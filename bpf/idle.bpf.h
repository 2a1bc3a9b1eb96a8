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
#include "claims.bpf.h"
#include "kernel.h"

/* Highest CPU number of this machine plus one, online or not. */
const volatile __u32 nr_cpu_ids = 1;
/* Entries of cores. */
const volatile __u32 nr_cores = 1;

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

/* By CPU: the number of its core in cores plus 1; 0 where the daemon does not know it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} core_of SEC(".maps");

/* How many whole cores of a claim a walk has seen. */
struct seen {
	__u64 walk;
	__u32 cores;
	__u32 pad;
};

/* By the claim's slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} seen SEC(".maps");

/* How many walks there were on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} walks SEC(".maps");

/* What is known of the loaded scheduler; all 0 when there is none or nothing is known. */
struct scheduler {
	bool loaded;
	bool per_node;
	bool tracking;
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

	enabled = counter_at(&scx_builtin_idle_enabled);
	per_node = counter_at(&scx_builtin_idle_per_node);
	if (!s.tracking || enabled != 1 || !mask_has_settled())
		return s;
	if (s.per_node && per_node == 1)
		s.source = SOURCE_NODE;
	else if (!s.per_node && per_node == 0)
		s.source = SOURCE_FLAT;
	return s;
}
#endif

/*
 * The next two are functions of their own for the verifier: it looks at them once, not at each
 * way that leads to them.
 */

/* What runs on a CPU, from the slot of a claim on. */
enum {
	NOBODY,
	STRANGER,
	FIRST_SLOT,
};

/* For which claim a task runs. */
static __always_inline __u32 claim_of(struct task_struct *task)
{
	struct holder *h = holder_of(task);

	if (!h)
		return STRANGER;
	if (claim_at(h->exec_slot, h->exec_id))
		return FIRST_SLOT + h->exec_slot;
	return claim_at(h->slot, h->id) ? FIRST_SLOT + h->slot : STRANGER;
}

/*
 * Whether the task that runs here is the only one that would. Since 6.12 a task that went to sleep
 * may stay on the queue for a while, and in its count (set_delayed(), kernel/sched/fair.c).
 */
static __always_inline bool has_one(const struct rq *rq)
{
	__u32 asleep = 0;

	if (bpf_core_field_exists(rq->cfs.h_nr_runnable))
		asleep = rq->cfs.h_nr_queued - rq->cfs.h_nr_runnable;
	return rq->nr_running - asleep <= 1 && !rq->ttwu_pending;
}

static __always_inline bool runs_alone_on(__u32 cpu)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);

	return rq && has_one(rq);
}

/* K8: a CPU on which a woken task is already queued still runs its idle task. */
__u32 who_runs_on(__u32 cpu, bool ask_for_claims)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);
	struct task_struct *task;
	__u32 who = STRANGER;

	if (!rq)
		return STRANGER;
	if (rq->curr == rq->idle)
		return rq->nr_running || rq->ttwu_pending ? STRANGER : NOBODY;
	/* A holder that shares its CPU in turns has not got it. */
	if (!ask_for_claims || !has_one(rq))
		return STRANGER;
	/* Later kernels do not trust a pointer that was read from the queue. */
	if (bpf_ksym_exists(bpf_task_from_pid)) {
		task = bpf_task_from_pid(rq->curr->pid);
		if (task) {
			who = claim_of(task);
			bpf_task_release(task);
		}
	} else if (rq->curr) {
		who = claim_of(rq->curr);
	}
	return who;
}

/*
 * Who runs on a core: NOBODY, if only the looker on its own CPU and, with it, threads of the
 * program that its exec will replace; a claim, if nobody else; else STRANGER. own_slot is from
 * FIRST_SLOT on, like the answer.
 */
__u32 who_runs_on_core(__u32 index, __u32 own_cpu, __u32 own_slot, bool ask_for_claims)
{
	const struct core *core = bpf_map_lookup_elem(&cores, &index);
	bool mine = false;
	__u32 all = NOBODY;

	if (!core)
		return STRANGER;
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++) {
		__u32 cpu = core->cpu[i], who;

		if (cpu == own_cpu) {
			if (!runs_alone_on(cpu))
				return STRANGER;
			mine = true;
			continue;
		}
		who = who_runs_on(cpu, ask_for_claims);
		if (who == NOBODY)
			continue;
		if (who == own_slot) {
			mine = true;
			continue;
		}
		if (who == STRANGER || (all != NOBODY && all != who))
			return STRANGER;
		all = who;
	}
	return mine && all != NOBODY ? STRANGER : all;
}

static __always_inline bool cpu_is_allowed(const struct task_struct *task, __u32 cpu)
{
	unsigned long word = 0;

	if (bpf_probe_read_kernel(&word, sizeof(word), &task->cpus_mask.bits[0] + cpu / 64))
		return false;
	return word >> (cpu % 64) & 1;
}

/* One walk over cores. */
struct walk {
	/* NULL: read the runqueues only. */
	const struct cpumask *mask;
	/* NULL: every CPU is allowed. */
	const struct task_struct *task;
	struct tally *tally;
	__u64 id;
	__u32 own_cpu;
	__u32 own_slot;
	__u32 first_core;
	/* The node whose claims are asked for. */
	__u32 node;
	__u32 own_core;
	bool live;
	/* Another node's cores: only who runs there is of interest. */
	bool elsewhere;
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

/* A claim has a core whole. Up to what it holds on the node, it is owed one less. */
static __always_inline void see_whole(struct walk *w, __u32 slot)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	struct seen *s = bpf_map_lookup_elem(&seen, &slot);

	if (!c || !s)
		return;
	if (s->walk != w->id) {
		s->walk = w->id;
		s->cores = 0;
	}
	if (s->cores < c->held[place(w->node)]) {
		s->cores++;
		w->tally->met++;
	}
}

/*
 * In a mask a core's threads are set all or none, so its leader stands for it. What the mask
 * calls busy is taken for busy: a task may be on its way there. What it calls free is looked
 * at: two siblings that change at the same time can leave the mask wrong until one of them
 * changes again (update_builtin_idle(), kernel/sched/ext_idle.c). The looker's own core is
 * never in it.
 */
static long visit_core(__u32 i, struct walk *w)
{
	__u32 index = w->first_core + i;
	const struct core *core = bpf_map_lookup_elem(&cores, &index);
	bool may_be_free;
	__u32 who;

	if (!core)
		return 1;
	may_be_free = !w->mask || mask_has(w->mask, core->cpu[0]) || index == w->own_core;
	if (!may_be_free && !w->live)
		return 0;
	who = who_runs_on_core(index, w->own_cpu, w->own_slot, w->live);
	if (who >= FIRST_SLOT)
		see_whole(w, who - FIRST_SLOT);
	if (who != NOBODY || !may_be_free || w->elsewhere)
		return 0;
	w->tally->total++;
	if (core_is_allowed(w, core))
		w->tally->free++;
	return 0;
}

/* What came of looking at a node. */
enum look {
	LOOKED,
	/* The daemon knows no such node. */
	LOOKED_AT_NOTHING,
	/* Another launch cut in on this CPU: look again. */
	LOOKED_DISTURBED,
};

/*
 * Looks how a node stands for a launch; its tally then has the numbers. Call within an RCU read
 * section only. What it says of claims is true only if the ledger's ticket was the same
 * before and after. For the verifier, a function of its own.
 */
enum look look_at(struct need *n, __u32 node_id)
{
	__u32 zero = 0, cpu = n ? n->own_cpu : NO_CPU;
	struct walk w = { .node = node_id, .own_core = -1, .own_cpu = cpu };
	const struct node *node = bpf_map_lookup_elem(&nodes, &node_id);
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 *walk = bpf_map_lookup_elem(&walks, &zero);
	const struct ledger *l = the_ledger();
	const struct cpumask *mask;
	const struct claim *own;
	const __u32 *core;
	struct tally *t;
	__u32 held, met;

	if (!n || !node || !node->nr_cores || !l || !walk || node_id >= NODES_MAX)
		return LOOKED_AT_NOTHING;
	core = bpf_map_lookup_elem(&core_of, &cpu);
	if (core)
		w.own_core = *core - 1;
	if (!n->anybody && (__u32)task->nr_cpus_allowed < nr_cpu_ids)
		w.task = task;
	own = claim_at(n->taker.slot, n->taker.id);
	w.own_slot = own ? FIRST_SLOT + n->taker.slot : NOBODY;
	t = &n->tally;
	w.tally = t;
	w.id = __sync_fetch_and_add(walk, 1) + 1;
	w.first_core = node->first_core;
	w.live = l->live;
	t->free = 0;
	t->total = 0;
	t->met = 0;
	t->source = loaded_scheduler().source;

	if (t->source == SOURCE_NODE && bpf_ksym_exists(scx_bpf_get_idle_smtmask_node)) {
		mask = scx_bpf_get_idle_smtmask_node(node_id);
		w.mask = mask;
		bpf_loop(node->nr_cores, visit_core, &w, 0);
		scx_bpf_put_idle_cpumask(mask);
	} else if (t->source == SOURCE_FLAT && bpf_ksym_exists(scx_bpf_get_idle_smtmask)) {
		mask = scx_bpf_get_idle_smtmask();
		w.mask = mask;
		bpf_loop(node->nr_cores, visit_core, &w, 0);
		scx_bpf_put_idle_cpumask(mask);
	} else {
		bpf_loop(node->nr_cores, visit_core, &w, 0);
	}
	held = l->held[place(node_id)];
	if (own)
		held -= own->held[place(node_id)];
	met = t->met;
	/* Who is owed a core here may have one elsewhere. */
	if (held > met && t->free >= n->missing && t->total < n->missing + held - met) {
		w.mask = NULL;
		w.elsewhere = true;
		w.first_core = 0;
		bpf_loop(node->first_core, visit_core, &w, 0);
		w.first_core = node->first_core + node->nr_cores;
		bpf_loop(nr_cores - w.first_core, visit_core, &w, 0);
	}
	t->held = held;
	return *(volatile __u64 *)walk == w.id ? LOOKED : LOOKED_DISTURBED;
}

#endif
