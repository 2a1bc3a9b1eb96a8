/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a launch to its rule. The cost does not depend on the number of rules: most execs
 * end at a filter over the name of the file, the others at one lookup by path, and one by
 * user where there are rules for single users.
 */
#ifndef COREGATE_MATCH_H
#define COREGATE_MATCH_H

#include "abi.h"
#include "counts.bpf.h"
#include "kernel.h"

/* One bit for each hash of a name that a rule's exe has. */
__u64 name_filter[NAME_FILTER_BITS / 64];

struct settings settings;

/* By the hash of the path. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct exe);
} exes SEC(".maps");

/* The first rule, in the order of the policy, for an exe, a hook and one user. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct launch_key);
	__type(value, __u32);
} launches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps");

/* The bit of a name in the filter, from its length and its first 8 bytes, NUL padded. */
static __always_inline __u32 name_bit(__u64 head, __u32 len)
{
	__u64 h = (head ^ len) * 0x9e3779b97f4a7c15ULL;

	/* The upper end of the product: only there each byte of the name has a say. */
	return h / ((__u64)-1 / NAME_FILTER_BITS + 1);
}

/*
 * Whether a rule may name this file. The path of a file ends in the name of its dentry,
 * unless the file is itself a mount point.
 */
static __always_inline bool name_may_match(struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;
	__u32 len = dentry->d_name.len;
	__u64 head = 0;
	__u32 bit;

	if (bpf_probe_read_kernel(&head, sizeof(head), dentry->d_name.name))
		return true;
	if (len < 8)
		head &= (1ULL << len * 8) - 1;
	bit = name_bit(head, len);
	if (name_filter[bit / 64] >> (bit % 64) & 1)
		return true;
	return file->f_path.mnt->mnt_root == dentry;
}

/* Room for a path, in words. */
union path_words {
	char path[EXE_MAX];
	__u64 word[EXE_MAX / 8];
};

/*
 * The hash of a path of len bytes, its NUL included. What bpf_d_path() left behind it in its last
 * word is cleared; the words after that one are never looked at.
 */
static __always_inline __u64 finish_path(union path_words *p, __u32 len)
{
	__u64 h = settings.seed;

	/* Not unrolled: the compiler would want the stack for all of it. */
#pragma unroll 1
	for (__u32 i = 0; i < EXE_MAX / 8 && i * 8 < len; i++) {
		__u32 left = len - i * 8;

		if (left < 8)
			p->word[i] &= (1ULL << left * 8) - 1;
		h = (h ^ p->word[i]) * 0x9e3779b97f4a7c15ULL;
	}
	return h;
}

/* Whether a path of len bytes is an exe's; so it is if the words up to its NUL are the same. */
static __always_inline bool same_path(const union path_words *p, __u32 len, const struct exe *exe)
{
	const __u64 *word = (const __u64 *)exe->path;
	__u64 differ = 0;

#pragma unroll 1
	for (__u32 i = 0; i < EXE_MAX / 8 && i * 8 < len; i++)
		differ |= p->word[i] ^ word[i];
	return !differ;
}

/* What rules know of a file, by its path; NULL if none names it. */
static __noinline struct exe *find_exe(struct file *file)
{
	/* Set, as 6.1 wants it to be. */
	union path_words p = {};
	long len = bpf_d_path(&file->f_path, p.path, sizeof(p.path));
	struct exe *exe;
	__u64 hash;

	if (len == -ENAMETOOLONG)
		return NULL;
	if (len <= 0 || len > EXE_MAX) {
		__sync_fetch_and_add(&failures.paths_unread, 1);
		return NULL;
	}
	hash = finish_path(&p, len);
	exe = bpf_map_lookup_elem(&exes, &hash);
	return exe && same_path(&p, len, exe) ? exe : NULL;
}

/* The number of the first rule for an exe, a hook and a user; or NO_RULE. */
static __always_inline __u32 find_rule(const struct exe *exe, enum hook hook, __u32 uid)
{
	struct launch_key key = { .exe = exe->number, .hook = hook, .uid = uid };
	__u32 any = exe->any[hook];
	const __u32 *own;

	if (!exe->users)
		return any;
	own = bpf_map_lookup_elem(&launches, &key);
	return own && *own < any ? *own : any;
}

#endif
