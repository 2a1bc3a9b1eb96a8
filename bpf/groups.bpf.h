/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a task weighs: by its nice value, and by cpu.weight of its cgroup and of those above it.
 *
 * A cgroup has a share of what the one above it has: by its weight, among the tasks and the cgroups
 * there that want to run. Its tasks divide that. So the share of a task depends on who else wants to
 * run, which changes with each switch; it is known as an average over some tenths of a second,
 * which each group brings up to date when its tasks run. Nothing is shared between CPUs more often
 * than once in a millisecond of a task's, and nothing happens while nobody runs.
 */
#ifndef COREGATE_GROUPS_BPF_H
#define COREGATE_GROUPS_BPF_H

#include "places.bpf.h"

/* Cgroups with a place of their own; tasks of further ones count as tasks of the one above. */
#define GROUPS_MAX 8192
/* How many levels of them count. */
#define LEVELS_MAX 16
/* How often a group is brought up to date, and over which time the averages go, in ns. */
#define LOOK_NS 50000000ULL
#define AVERAGE_NS 200000000ULL
/* A task tells its group how long it wanted to run when it is this much, in ns. */
#define TELL_NS 1000000ULL
/* So many groups that nobody runs in are brought up to date along with one in which somebody does. */
#define SWEEP 32
/* The kernel's scale of weights: nice 0, and a cgroup that nobody gave a weight. */
#define WEIGHT_DFL 100
#define WEIGHT_MAX 10000
/* Averages are in units of 1 / the first of these, shares in units of 1 / the second. */
#define ONE (1ULL << 10)
#define ALL (1ULL << 30)

struct group {
	/* The cgroup's id; 0: the place is free. */
	__u64 id;
	/* The place of the one above; the root's is its own. */
	__u32 parent;
	/* Its cpu.weight. */
	__u32 weight;
	/* When it was last brought up to date. */
	__u64 looked;
	/* Since then: for how long its tasks, also those of groups below, wanted to run; in all. */
	__u64 wanted;
	/* The same, of its own tasks only, and each by its weight. */
	__u64 wanted_weight;
	/* How many of them want to run, on average. */
	__u64 tasks;
	/* What its own tasks that want to run weigh; and the groups right below in which one does. */
	__u64 own;
	__u64 below;
	/* What of the latter of the parent is because of this one. */
	__u64 part;
	/* Its share of the machine. */
	__u64 share;
	/* Of what is above, but for what tasks add by themselves. */
	struct bpf_spin_lock lock;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GROUPS_MAX);
	__type(key, __u32);
	__type(value, struct group);
} groups SEC(".maps");

/* The place of a cgroup's group, by its id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GROUPS_MAX);
	__type(key, __u64);
	__type(value, __u32);
} group_places SEC(".maps");

/* How many places were ever in use; the next one that is swept. */
__u32 groups_used;
__u32 sweep_next;
/* What all tasks that want to run weigh. */
__u64 all_own;

static struct group *group_at(__u32 at)
{
	return bpf_map_lookup_elem(&groups, &at);
}

/* An average that has come so far towards what was seen in the last `elapsed` ns. */
static __u64 averaged(__u64 old, __u64 seen, __u64 elapsed)
{
	if (elapsed >= AVERAGE_NS)
		return seen;
	return old - old * elapsed / AVERAGE_NS + seen * elapsed / AVERAGE_NS;
}

/* Sets what of `below` of the parent is because of a group. */
static void set_part(struct group *g, struct group *parent, __u64 part)
{
	__sync_fetch_and_add(&parent->below, part - g->part);
	g->part = part;
}

static void set_own(struct group *g, __u64 own)
{
	__sync_fetch_and_add(&all_own, own - g->own);
	g->own = own;
}

/*
 * A group's share is a part of its parent's: of the others there those count that want to run, and it
 * itself in full, as is right at the moment when it runs.
 */
static void set_share(struct group *g, const struct group *parent)
{
	__u64 others = (parent->own + parent->below - g->part) / ONE;

	g->share = parent->share * g->weight / (others + g->weight ?: 1);
}

/* Brings a group up to date, if it is time; whether it was. What it wants the one above wants too. */
__noinline int look(__u32 at, __u64 now)
{
	struct group *g = group_at(at), *parent = g ? group_at(g->parent) : NULL;
	__u64 elapsed, wanted = 0;

	if (!parent || before(now, g->looked + LOOK_NS))
		return 0;
	bpf_spin_lock(&g->lock);
	elapsed = now - g->looked;
	if (g->id && (__s64)elapsed >= (__s64)LOOK_NS) {
		g->looked = now;
		wanted = __sync_lock_test_and_set(&g->wanted, 0);
		g->tasks = averaged(g->tasks, wanted * ONE / elapsed, elapsed);
		set_own(g, averaged(g->own,
				    __sync_lock_test_and_set(&g->wanted_weight, 0) * ONE / elapsed,
				    elapsed));
		if (parent != g) {
			set_part(g, parent, g->weight * (g->tasks < ONE ? g->tasks : ONE));
			set_share(g, parent);
		}
	} else {
		elapsed = 0;
	}
	bpf_spin_unlock(&g->lock);
	if (parent != g && wanted)
		__sync_fetch_and_add(&parent->wanted, wanted);
	return !!elapsed;
}

/* Groups of which no task runs have no part in what is divided. */
static void sweep(__u64 now)
{
	__u32 at = sweep_next;
	int i;

	bpf_for(i, 0, SWEEP) {
		if (at >= groups_used)
			at = 0;
		look(at++, now);
	}
	sweep_next = at;
}

/* The group of a task, and those above it. */
static void look_up(__u32 at, __u64 now)
{
	int i;

	bpf_for(i, 0, LEVELS_MAX) {
		struct group *g = group_at(at);

		if (!g || !look(at, now) || g->parent == at)
			return;
		at = g->parent;
	}
}

/*
 * What a task weighs, on the scale of nice values, where a task that wants to run has 100 on average:
 * the sum of all is what nice values alone would make it.
 */
static __u32 weight_in(const struct group *g, __u64 nice)
{
	__u64 total = (g->own + g->below) / ONE, all = all_own / ONE, weight;

	/* The averages of tasks that sleep most of the time are less than what runs now. */
	total = total > nice ? total : nice;
	all = all > nice ? all : nice;
	weight = nice * all / (total ?: 1) * g->share / ALL;
	if (weight > WEIGHT_MAX)
		return WEIGHT_MAX;
	return weight ?: 1;
}

/* What a task weighs now. */
static void weigh(struct task_struct *p, struct task *t)
{
	struct group *g = group_at(t->group);

	if (g)
		t->weight = weight_in(g, p->scx.weight);
}

/* A task wanted to run since it last said so. */
static void tell(struct task_struct *p, struct task *t, __u64 now)
{
	struct group *g;

	if (before(t->wants, now))
		t->wanted += now - t->wants;
	t->wants = now;
	if (t->wanted < TELL_NS)
		return;
	g = group_at(t->group);
	if (!g)
		return;
	__sync_fetch_and_add(&g->wanted, t->wanted);
	__sync_fetch_and_add(&g->wanted_weight, t->wanted * p->scx.weight);
	t->wanted = 0;
	if (!before(now, g->looked + LOOK_NS)) {
		look_up(t->group, now);
		sweep(now);
	}
	weigh(p, t);
}

/* The place of the group of a cgroup: its own, or that of one above it. */
static __u32 place_of(const struct cgroup *cgroup)
{
	__u64 id = cgroup->kn->id;
	__u32 *at = bpf_map_lookup_elem(&group_places, &id);

	return at ? *at : 0;
}

/* That of the cgroup above. */
static __u32 place_above(struct cgroup *cgroup)
{
	struct cgroup *above;
	__u32 at = 0;

	above = cgroup->level > 0 ? bpf_cgroup_ancestor(cgroup, cgroup->level - 1) : NULL;
	if (above) {
		at = place_of(above);
		bpf_cgroup_release(above);
	}
	return at;
}

/* A place for a group that nobody has; 0: there is none, and the root's has to do. */
static __u32 free_place(void)
{
	int i;

	bpf_for(i, 1, GROUPS_MAX) {
		struct group *g = group_at(i);

		if (g && !g->id)
			return i;
	}
	return 0;
}

/* A cgroup has come; those above it are there. */
static void join(struct cgroup *cgroup, __u32 weight)
{
	__u32 above = place_above(cgroup), at = cgroup->level > 0 ? free_place() ?: above : 0;
	struct group *g = group_at(at), *parent = group_at(above);
	__u64 id = cgroup->kn->id, now = scx_bpf_now();

	/* If that fails its tasks count as the root's. */
	if (!g || !parent || bpf_map_update_elem(&group_places, &id, &at, BPF_ANY) || g == parent)
		return;
	if (at >= groups_used)
		groups_used = at + 1;
	bpf_spin_lock(&g->lock);
	g->parent = above;
	g->weight = weight;
	g->looked = now;
	g->id = id;
	set_share(g, parent);
	bpf_spin_unlock(&g->lock);
}

/* It is gone, with all that it wanted. */
static void leave(struct cgroup *cgroup)
{
	struct group *g = group_at(place_of(cgroup)), *parent = g ? group_at(g->parent) : NULL;
	__u64 id = cgroup->kn->id;

	bpf_map_delete_elem(&group_places, &id);
	if (!parent || parent == g || g->id != id)
		return;
	bpf_spin_lock(&g->lock);
	set_part(g, parent, 0);
	set_own(g, 0);
	g->wanted = 0;
	g->wanted_weight = 0;
	g->tasks = 0;
	g->id = 0;
	bpf_spin_unlock(&g->lock);
}

/* All tasks are of the root's, until cgroups come: on a kernel without them that stays so. */
static __s32 init_root(void)
{
	struct group *root = group_at(0);

	if (!root)
		return -EINVAL;
	root->id = 1;
	root->share = ALL;
	groups_used = 1;
	return 0;
}

#endif
