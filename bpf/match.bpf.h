/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a launch to its rule. The cost does not depend on the number of rules: most execs
 * end at a filter over the name of the file; of the others, what they are is looked up, and then
 * what there are rules for.
 */
#ifndef COREGATE_MATCH_H
#define COREGATE_MATCH_H

#include "abi.h"
#include "facts.bpf.h"
#include "kernel.h"
#include "strings.bpf.h"

/* Which half of all tables holds, see enum active. A launch asks once, and goes by its answer. */
__u32 active;

/* By half: one bit for each hash of a name that a rule's exe has. */
__u64 name_filter[2][NAME_FILTER_BITS / 64];

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * RULES_MAX);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * CANDIDATES_MAX);
	__type(key, __u32);
	__type(value, struct candidate);
} candidates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * LITERALS_MAX);
	__type(key, __u32);
	__type(value, struct literal);
} literals SEC(".maps");

/* The bit of a name in the filter, from its length and its first 8 bytes, NUL padded. */
static __always_inline __u32 name_bit(__u64 head, __u32 len)
{
	__u64 h = (head ^ len) * 0x9e3779b97f4a7c15ULL;

	/* The upper end of the product: only there each byte of the name has a say. */
	return h / ((__u64)-1 / NAME_FILTER_BITS + 1);
}

/*
 * Whether a rule may match a launch of this file. The path of a file ends in the name of its
 * dentry, unless the file is itself a mount point.
 */
static __always_inline bool may_match(struct file *file, __u32 half, enum hook hook)
{
	struct dentry *dentry = file->f_path.dentry;
	__u32 len = dentry->d_name.len;
	__u64 head = 0;
	__u32 bit;

	if (settings[half & 1].unfiltered >> hook & 1)
		return true;
	if (bpf_probe_read_kernel(&head, sizeof(head), dentry->d_name.name))
		return true;
	if (len < 8)
		head &= (1ULL << len * 8) - 1;
	bit = name_bit(head, len);
	if (name_filter[half & 1][bit / 64] >> (bit % 64) & 1)
		return true;
	return file->f_path.mnt->mnt_root == dentry;
}

/* Whether a literal holds for a launch. */
__noinline int holds(struct facts *f, __u32 kind, __u32 value)
{
	if (!f)
		return 0;
	switch (kind) {
	case LITERAL_PLACE:
		return is_place(f, value);
	case LITERAL_ARG:
		return is_among(f->met.arg, ARGS_READ, ARGS_READ, value);
	case LITERAL_PARENT:
		return is_among(f->met.parent, f->met.parents, PARENTS_MET, value);
	case LITERAL_COMM:
		return f->met.comm == value;
	case LITERAL_GROUP:
		return is_of_group(f, value);
	default:
		return 0;
	}
}

/*
 * Whether all clauses of a candidate hold. Little in the loop is a branch, for the verifier follows
 * each of them each time.
 */
__noinline int all_hold(struct facts *f, __u32 first, __u32 count)
{
	__u32 clause = 0;

	if (!f)
		return 0;
#pragma unroll 1
	for (__u32 i = 0; i < LITERALS_EACH && i < count; i++) {
		__u32 at = first + i, last;
		const struct literal *literal = bpf_map_lookup_elem(&literals, &at);

		if (!literal)
			return 0;
		clause |= holds(f, literal->kind & 0xff, literal->value);
		last = literal->kind / LITERAL_LAST & 1;
		if (last & ~clause)
			return 0;
		clause &= ~last;
	}
	return 1;
}

/* Notes the first rule for a key, if it is before what was found so far. */
__noinline int try_key(struct facts *f, __u32 exe, __u32 place, __u32 user, __u32 arg)
{
	const struct key *key;

	if (!f)
		return 0;
	key = find_key(f->half, exe, place, user, arg);
	if (!key)
		return 0;
#pragma unroll 1
	for (__u32 i = 0; i < CANDIDATES_EACH && i < key->count; i++) {
		__u32 at = key->first + i;
		const struct candidate *c = bpf_map_lookup_elem(&candidates, &at);

		if (!c || c->rule >= f->rule)
			return 0;
		if (c->hooks & f->hooks && all_hold(f, c->first_literal, c->literals)) {
			f->rule = c->rule;
			return 0;
		}
	}
	return 0;
}

/* The keys of one program, one place and one user, by the arguments. */
static __always_inline void try_args(struct facts *f, __u32 exe, __u32 place, __u32 user,
				     __u32 shapes)
{
	__u32 shape = (place ? SHAPE_PLACE : 0) | (user ? SHAPE_USER : 0);

	if (shapes >> shape & 1)
		try_key(f, exe, place, user, 0);
	if (!(shapes >> (shape | SHAPE_ARG) & 1))
		return;
#pragma unroll 1
	for (__u32 i = 0; i < ARGS_READ; i++) {
		if (f->met.arg[i])
			try_key(f, exe, place, user, f->met.arg[i]);
	}
}

/* The keys of a program, or of any, in these shapes. */
struct trial {
	struct facts *facts;
	__u32 exe;
	__u32 shapes;
};

/* Those without a place, or those of one of the places that the launch meets. */
static long try_place(__u32 i, struct trial *t)
{
	struct facts *f = t->facts;
	__u64 before = i - 1;
	__u32 place = 0;

	/* For the verifier, which must see that what is checked is the index. */
	barrier_var(before);
	if (i) {
		if (before >= PLACES_MET)
			return 1;
		place = f->met.place[before];
	}
	/* Of users: those by whom there is one, and any. */
	try_args(f, t->exe, place, 0, t->shapes);
	if (t->shapes & SHAPES_OF_USERS)
		try_args(f, t->exe, place, f->uid + 1, t->shapes);
	return 0;
}

/*
 * Those of each place that the launch meets, and those without one. A function of its own, as 7.0's
 * verifier follows a loop with a callback once more for each state that leads to it.
 */
__noinline int try_exe(struct facts *f, __u32 exe, __u32 shapes)
{
	struct trial t = { .facts = f, .exe = exe, .shapes = shapes };

	if (!f)
		return 0;
	bpf_loop(1 + (shapes & SHAPES_OF_PLACES ? f->met.places : 0), try_place, &t, 0);
	return 0;
}

/*
 * Finds the first rule of a half for a launch, which is then noted: an exec of this file or, without
 * one, a fork or thread of the program that the task runs. Whether there is one.
 */
static __noinline bool find_rule(struct facts *f, struct file *file, __u32 hook)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 own = settings[f->half & 1].shapes, shapes = own;

	__builtin_memset(&f->met, 0, offsetof(struct matched, exe));
	f->rule = NO_RULE;
	f->uid = task->cred->euid.val;
	f->exe.byte[0] = 0;
	if (file)
		note_file(f, file, &f->exe, STRING_EXE);
	else
		note_program(f, task, &f->exe, STRING_EXE);
	shapes |= f->met.shapes;
	if (!shapes)
		return false;
	f->hooks = 1 << (hook + (is_contained() ? CONTAINED : 0));
	if (shapes & NEED_PLACES)
		note_places(f);
	if (shapes & (NEED_ARGS | NEED_PARENT) && hook == HOOK_EXEC && !note_details(f, shapes)) {
		__sync_fetch_and_add(&kept.failures.rules_unread, 1);
		return false;
	}
	if (shapes & NEED_COMM)
		note_comm(f);
	if (own)
		try_exe(f, 0, own);
#pragma unroll 1
	for (__u32 i = 0; i < EXES_MET && i < f->met.exes; i++)
		try_exe(f, f->met.exe[i] & 0xffff, f->met.exe[i] >> 16);
	return f->rule != NO_RULE;
}

#endif
