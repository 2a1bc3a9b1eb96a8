/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a text of a launch to the strings of the policy that it meets: whole, as what it begins
 * with, or as a pattern with a `*`. The cost depends on the length of the text, and not on how
 * many strings there are.
 */
#ifndef COREGATE_STRINGS_H
#define COREGATE_STRINGS_H

#include "abi.h"
#include "kernel.h"

#define MULTIPLIER 0x9e3779b97f4a7c15ULL

/* By half; see `active`. */
struct settings settings[2];

#define LENGTH_WORDS (EXE_MAX / 64)

/* By half and kind: a bit for each length that folders, and what stands before a `*`, have. */
__u64 lengths[2 * STRING_KINDS * LENGTH_WORDS];

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * STRING_SLOTS);
	__type(key, __u32);
	__type(value, struct string);
} strings SEC(".maps");

/* The bytes of strings, NUL padded to words. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * POOL_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} pool SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * SUFFIXES_MAX);
	__type(key, __u32);
	__type(value, struct suffix);
} suffixes SEC(".maps");

/* Room for a text, in words; what stands behind its end is read, but never looked at. */
union text {
	char byte[EXE_MAX + 8];
	__u64 word[EXE_MAX / 8 + 1];
};

static __always_inline const char *byte_at(const union text *t, __u64 i)
{
	/* For the verifier, which does not see that it is less. */
	barrier_var(i);
	return &t->byte[i & (EXE_MAX - 1)];
}

/* A hash with one more part: what is multiplied goes up, so the upper half is brought down again. */
static __always_inline __u64 hash_next(__u64 hash, __u64 part)
{
	hash = (hash ^ part) * MULTIPLIER;
	return hash ^ hash >> 32;
}

/* The slot of a hash, or what comes i later; before the mask. */
static __always_inline __u32 slot_near(__u64 hash, __u32 i)
{
	return (hash * MULTIPLIER >> 32) + i;
}

/* Where the hash of a string of this kind begins. */
static __always_inline __u64 hash_begin(__u32 half, __u32 kind)
{
	return settings[half & 1].seed ^ kind;
}

/* The first bytes of a word, and zeros. */
static __always_inline __u64 first_bytes(__u64 word, __u32 count)
{
	return count < 8 ? word & ((1ULL << count * 8) - 1) : word;
}

/*
 * Whether the len bytes of a text from its byte `from` on are those that begin at this word of the
 * pool.
 */
__noinline int has_at(const union text *t, __u32 from, __u32 len, __u32 first)
{
	if (!t || from >= EXE_MAX || len >= EXE_MAX)
		return 0;
		/* Not unrolled: the compiler would want the stack for all of it. */
#pragma unroll 1
	for (__u32 i = 0; i < EXE_MAX && i < len; i += 8) {
		__u32 at = first + i / 8;
		const __u64 *word = bpf_map_lookup_elem(&pool, &at);

		if (!word || *word != first_bytes(*(__u64 *)byte_at(t, from + i), len - i))
			return 0;
	}
	return 1;
}

/*
 * The string of this kind and hash that the first len bytes of a text are: the number of its slot
 * plus 1, or 0. `where` is the kind, and the half in its bit 8.
 */
__noinline __u32 find_string(__u64 hash, __u32 where, const union text *t, __u32 len)
{
	__u32 half = where >> 8 & 1;

	if (!t || len >= EXE_MAX)
		return 0;
#pragma unroll 1
	for (__u32 i = 0; i < PROBES; i++) {
		__u32 slot = slot_near(hash, i) & settings[half].string_mask & (STRING_SLOTS - 1);
		const struct string *string;

		slot += half * STRING_SLOTS;
		string = bpf_map_lookup_elem(&strings, &slot);
		if (!string || !string->kind)
			return 0;
		if (string->hash == hash && string->kind == (where & 0xff) &&
		    string->length == len && has_at(t, 0, len, string->words))
			return slot + 1;
	}
	return 0;
}

/* The hash of a text of len bytes, as of this kind. */
static __always_inline __u64 hash_of(const union text *t, __u32 len, __u64 h)
{
#pragma unroll 1
	for (__u32 i = 0; i < EXE_MAX / 8 && i * 8 < len; i++)
		h = hash_next(h, first_bytes(t->word[i], len - i * 8));
	return h;
}

#endif
