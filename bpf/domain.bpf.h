/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Domains: the cores that the program of a claim may use, if that is not every one. Which of them
 * it will use is up to the scheduler; so no core is given to a claim, but domains are compared.
 */
#ifndef COREGATE_DOMAIN_H
#define COREGATE_DOMAIN_H

#include "abi.h"
#include "topology.bpf.h"

/* Some cores, each as the bit of its lowest CPU; those of CPUS_MAX or above are left out. */
struct cpus {
	__u64 word[CPUS_MAX / 64];
};

struct domain {
	struct cpus cpus;
};

/* Those of live claims, each once, and of some that ended; as many as there can be claims. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct domain);
} domains SEC(".maps");

/* What a launch sees, as sets. */
struct view {
	/* Of the node looked at last: all cores, and the free ones. */
	struct cpus node;
	struct cpus free;
	/* Those that the launch may use, of all nodes that were looked at. */
	struct cpus allowed;
	/* Those that are compared with domains; the free ones of them that are still nobody's. */
	struct cpus around;
	struct cpus left;
};

/* Of the launch under judgement on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct view);
} views SEC(".maps");

static __always_inline struct view *the_view(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&views, &key);
}

#define for_each_word(i)                                                                    \
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < CPUS_MAX / 64 &&        \
								i < (nr_cpu_ids + 63) / 64; \
						   i++)

static __always_inline void add_cpu(struct cpus *cpus, __u32 cpu)
{
	if (cpu < CPUS_MAX)
		cpus->word[cpu / 64] |= 1ULL << (cpu % 64);
}

static __always_inline void clear(struct cpus *cpus)
{
	for_each_word(i) cpus->word[i] = 0;
}

#endif
