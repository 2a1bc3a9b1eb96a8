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
/* Node numbers of this machine are below it. */
const volatile __u32 nr_nodes = 1;

volatile struct topology topology;

/* How many CPUs came online that the daemon has never seen. */
volatile __u32 newcomers;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct node);
} nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct core);
} cores SEC(".maps");

/* By CPU: the number of its core in cores plus 1; 0 where the daemon does not know it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} core_of SEC(".maps");

static __always_inline const struct node *node_at(__u32 version, __u32 id)
{
	__u32 key = (version & 1) * nr_nodes + id;

	return id < nr_nodes ? bpf_map_lookup_elem(&nodes, &key) : NULL;
}

static __always_inline const struct core *core_at(__u32 version, __u32 index)
{
	__u32 key = (version & 1) * nr_cpu_ids + index;

	return index < nr_cpu_ids ? bpf_map_lookup_elem(&cores, &key) : NULL;
}

/* The index of a CPU's core plus 1, or 0. */
static __always_inline __u32 index_of(__u32 version, __u32 cpu)
{
	__u32 key = (version & 1) * nr_cpu_ids + cpu;
	const __u32 *index = cpu < nr_cpu_ids ? bpf_map_lookup_elem(&core_of, &key) : NULL;

	return index ? *index : 0;
}

/* What a walk has seen of a claim. */
struct seen {
	__u64 walk;
	/* The node of the core seen last, and how many whole ones there. */
	__u32 node;
	__u32 cores;
	/* Cores of the node of the walk that it has, there or in place of them elsewhere. */
	__u32 met;
	/* Cores that it is owed on nodes before that one. */
	__u32 owed;
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
	    !bpf_ksym_exists(&cpu_bit_bitmap) || !bpf_ksym_exists(scx_bpf_get_idle_smtmask_node) ||
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

	/* One with sub-schedulers answers only its own; the kernel warns of all others. */
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
 * Of the tasks in a list of a queue, those of one process. It is read without the queue's lock, so
 * it may change meanwhile: what comes of it is compared with the queue's own count, and looked at
 * twice.
 */
static __always_inline __u32 count_threads(const struct list_head *head, __u32 node, int tgid)
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
		if (BPF_CORE_READ(task, tgid) != tgid)
			continue;
		if (bpf_core_field_exists(task->se.sched_delayed) &&
		    BPF_CORE_READ(task, se.sched_delayed))
			continue;
		nr++;
	}
	return nr;
}

/* Whether only one task would run on a CPU, or only threads of one process, if that matters. */
static __always_inline bool is_shared(const struct rq *rq, int tgid)
{
	__u32 nr;

	if (nr_runnable(rq) <= 1 || !tgid)
		return nr_runnable(rq) > 1;
	nr = count_threads(&rq->cfs_tasks, bpf_core_field_offset(struct task_struct, se.group_node),
			   tgid);
	if (bpf_core_field_exists(rq->scx.runnable_list))
		nr += count_threads(&rq->scx.runnable_list,
				    bpf_core_field_offset(struct task_struct, scx.runnable_node),
				    tgid);
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

/*
 * Who shares its CPU in turns with somebody else has not got it. K8: a CPU on which a woken task
 * is already queued still runs its idle task.
 */
__u32 who_runs_on(__u32 cpu, struct need *n)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, cpu);
	struct task_struct *task;
	__u32 who = STRANGER;
	int tgid = 0;

	if (!rq || !n)
		return STRANGER;
	if (!rq->online)
		return OFFLINE;
	n->switches += rq->nr_switches;
	if (rq->ttwu_pending)
		return STRANGER;
	if (rq->curr == rq->idle)
		return rq->nr_running ? STRANGER : NOBODY;
	if (cpu == n->own_cpu || (n->own_tgid && rq->curr->tgid == n->own_tgid)) {
		tgid = n->own_tgid;
		who = cpu == n->own_cpu && !n->own_core ? STRANGER : SELF;
	} else if (n->live && bpf_ksym_exists(bpf_task_from_pid)) {
		/* Later kernels do not trust a pointer that was read from the queue. */
		task = bpf_task_from_pid(rq->curr->pid);
		if (task) {
			who = claim_of(task, &tgid);
			bpf_task_release(task);
		}
	} else if (n->live && rq->curr) {
		who = claim_of(rq->curr, &tgid);
	}
	if (who == STRANGER || is_shared(rq, tgid))
		return STRANGER;
	return who == n->own_slot ? SELF : who;
}

/* The one who runs on a core, and nobody else; or NOBODY; else STRANGER. */
__u32 who_runs_on_core(__u32 index, struct need *n)
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

/* How many cores a claim holds on nodes before this one. */
__u32 held_before(__u32 slot, __u32 node)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	__u32 cores = 0;

	if (!c)
		return 0;
#pragma unroll 1
	for (__u32 i = 0; i < NODES_MAX && i < node; i++)
		cores += c->held[i];
	return cores;
}

static __always_inline bool cpu_is_allowed(const struct task_struct *task, __u32 cpu)
{
	unsigned long word = 0;

	if (bpf_probe_read_kernel(&word, sizeof(word), &task->cpus_mask.bits[0] + cpu / 64))
		return false;
	return word >> (cpu % 64) & 1;
}

/* What a walk over cores needs besides numbers. */
struct walk {
	struct need *need;
	/* NULL: read the runqueues only. */
	const struct cpumask *mask;
	/* NULL: every CPU is allowed. */
	const struct task_struct *task;
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

/* In a mask the online threads of a core are set all or none; of the others it says nothing. */
static __always_inline bool mask_has_core(const struct cpumask *mask, const struct core *core)
{
	for (__u32 i = 0; i < CORE_CPUS_MAX && i < core->nr_cpus; i++)
		if (mask_has(mask, core->cpu[i]))
			return true;
	return false;
}

/*
 * A claim has a core whole. First it stands for one that the claim holds on the same node; one
 * more than these, for one on the first node where the claim has too few. So each counts once,
 * whichever nodes are looked at.
 */
static __always_inline void see_whole(struct need *n, const struct core *core, __u32 slot)
{
	const struct claim *c = bpf_map_lookup_elem(&claims, &slot);
	struct seen *s = bpf_map_lookup_elem(&seen, &slot);

	if (!c || !s)
		return;
	if (s->walk != n->walk) {
		s->walk = n->walk;
		s->node = core->node;
		s->cores = 0;
		s->met = 0;
		s->owed = held_before(slot, n->at);
	}
	if (s->node != core->node) {
		s->node = core->node;
		s->cores = 0;
	}
	s->cores++;
	if (s->cores <= c->held[place(core->node)]) {
		if (core->node > n->at)
			return;
		if (core->node < n->at && s->owed) {
			s->owed--;
			return;
		}
	} else if (s->owed) {
		s->owed--;
		return;
	}
	if (s->met < c->held[place(n->at)]) {
		s->met++;
		n->tally.met++;
	}
}

/* What was seen becomes part of the print: which core, who, and since when. */
static __always_inline void sign(struct need *n, __u32 index, __u32 who)
{
	n->print = (n->print ^ ((__u64)index << 32 | who)) * 0x9e3779b97f4a7c15;
	n->print = (n->print ^ n->switches) * 0x9e3779b97f4a7c15;
}

/*
 * What the mask calls busy is taken for busy: a task may be on its way there. What it calls free
 * is looked at: two siblings that change at the same time can leave the mask wrong until one of
 * them changes again (update_builtin_idle(), kernel/sched/ext_idle.c). The looker's own core is
 * never in it.
 */
static long visit_core(__u32 i, struct walk *w)
{
	struct need *n = w->need;
	__u32 index = n->first_core + i;
	const struct core *core = core_at(n->version, index);
	bool may_be_free;
	__u32 who;

	if (!core)
		return 1;
	may_be_free = !w->mask || mask_has_core(w->mask, core);
	if (!may_be_free && !n->live && !n->own_tgid && index + 1 != n->own_index)
		return 0;
	who = who_runs_on_core(index, n);
	if (who >= FIRST_SLOT)
		see_whole(n, core, who - FIRST_SLOT);
	else if (n->elsewhere || !(who == SELF || (who == NOBODY && may_be_free)))
		return 0;
	sign(n, index, who);
	if (who >= FIRST_SLOT)
		return 0;
	n->tally.total++;
	if (core_is_allowed(w, core))
		n->tally.free++;
	return 0;
}

/*
 * Looks at cores by a mask. A program for which the kernel finds no scheduler gets the mask of no
 * CPU itself (scx_prog_sched(), kernel/sched/ext_internal.h). That does not mean that all are busy:
 * the runqueues are read.
 */
static __always_inline void look_by(const struct cpumask *mask, struct walk *w, __u32 nr_cores)
{
	if (mask == (const void *)&cpu_bit_bitmap)
		w->need->tally.source = SOURCE_RUNQUEUE;
	else
		w->mask = mask;
	bpf_loop(nr_cores, visit_core, w, 0);
	scx_bpf_put_idle_cpumask(mask);
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
 * Looks how a node stands for a launch; its tally then has the numbers, and its print is more by
 * what was seen. Call within an RCU read section only. What it says of claims is true only if the
 * ledger's ticket was the same before and after.
 */
enum look look_at(struct need *n, __u32 node_id)
{
	struct walk w = { .need = n };
	struct task_struct *task = bpf_get_current_task_btf();
	const struct ledger *l = the_ledger();
	const struct node *node;
	const struct claim *own;
	__u32 zero = 0, held, want;
	struct tally *t;
	__u64 *walk;

	walk = bpf_map_lookup_elem(&walks, &zero);
	if (!n || !l || !walk || node_id >= NODES_MAX)
		return LOOKED_AT_NOTHING;
	node = node_at(n->version, node_id);
	if (!node || !node->nr_cores)
		return LOOKED_AT_NOTHING;
	n->own_index = index_of(n->version, n->own_cpu);
	if (!n->anybody && (__u32)task->nr_cpus_allowed < nr_cpu_ids)
		w.task = task;
	own = claim_at(n->taker.slot, n->taker.id);
	n->own_slot = own ? FIRST_SLOT + n->taker.slot : NOBODY;
	n->live = l->live;
	t = &n->tally;
	n->walk = __sync_fetch_and_add(walk, 1) + 1;
	n->at = node_id;
	n->elsewhere = false;
	n->first_core = node->first_core;
	t->free = 0;
	t->total = 0;
	t->met = 0;
	t->source = loaded_scheduler().source;

	if (t->source == SOURCE_NODE && bpf_ksym_exists(scx_bpf_get_idle_smtmask_node)) {
		look_by(scx_bpf_get_idle_smtmask_node(node_id), &w, node->nr_cores);
	} else if (t->source == SOURCE_FLAT && bpf_ksym_exists(scx_bpf_get_idle_smtmask)) {
		look_by(scx_bpf_get_idle_smtmask(), &w, node->nr_cores);
	} else {
		bpf_loop(node->nr_cores, visit_core, &w, 0);
	}
	held = l->held[place(node_id)];
	if (own)
		held -= own->held[place(node_id)];
	/* Who is owed a core here may have one elsewhere; that matters if it decides. */
	want = n->scope == SCOPE_SPREAD && t->free < n->missing ? t->free : n->missing;
	if (want && t->free >= want && held > t->met && t->total < want + held - t->met) {
		w.mask = NULL;
		n->elsewhere = true;
		n->first_core = 0;
		bpf_loop(node->first_core, visit_core, &w, 0);
		n->first_core = node->first_core + node->nr_cores;
		bpf_loop(topology.nr_cores[n->version & 1] - n->first_core, visit_core, &w, 0);
	}
	t->held = held;
	return *(volatile __u64 *)walk == n->walk ? LOOKED : LOOKED_DISTURBED;
}

#endif
