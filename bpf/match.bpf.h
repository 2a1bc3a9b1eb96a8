/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a launch to its rule. The cost does not depend on the number of rules: most execs
 * end at a filter over the name of the file, the others at one lookup by path and two by
 * user.
 */
#ifndef COREGATE_MATCH_H
#define COREGATE_MATCH_H

#include "abi.h"
#include "kernel.h"

#define NO_RULE (-1)

/* One bit for each hash of a name that a rule's exe has. */
__u64 name_filter[NAME_FILTER_BITS / 64];

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct exe_key);
	__type(value, __u32);
} exes SEC(".maps");

/* The first rule, in the order of the policy, for an exe and a user. */
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

struct failures failures;

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

/* Clears what bpf_d_path() left behind the path of len bytes, its NUL included. */
static __always_inline void pad_with_nul(struct exe_key *key, __u32 len)
{
	__u64 *words = (__u64 *)key->path;

#pragma unroll
	for (int i = 0; i < EXE_MAX / 8; i++) {
		__u32 at = i * 8;

		if (at >= len)
			words[i] = 0;
		else if (len - at < 8)
			words[i] &= (1ULL << (len - at) * 8) - 1;
	}
}

/* Reads the path of the file that was asked for; false when no rule can name it. */
static __always_inline bool read_exe(struct file *file, struct exe_key *key)
{
	long len = bpf_d_path(&file->f_path, (char *)key->path, sizeof(key->path));

	if (len == -ENAMETOOLONG)
		return false;
	if (len <= 0 || len > EXE_MAX) {
		__sync_fetch_and_add(&failures.paths_unread, 1);
		return false;
	}
	pad_with_nul(key, len);
	return true;
}

/* The number of the first rule for an exe and a user, or NO_RULE. */
static __always_inline __s64 find_rule(const struct exe_key *exe, __u32 uid)
{
	const __u32 *number = bpf_map_lookup_elem(&exes, exe);
	const __u32 *own, *any;
	struct launch_key key;

	if (!number)
		return NO_RULE;
	key.exe = *number;
	key.uid = uid;
	own = bpf_map_lookup_elem(&launches, &key);
	key.uid = ANY_UID;
	any = bpf_map_lookup_elem(&launches, &key);
	if (own && any)
		return *own < *any ? *own : *any;
	if (own)
		return *own;
	return any ? *any : NO_RULE;
}

#endif
