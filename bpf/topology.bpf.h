/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The machine's nodes and cores, as the daemon has told them.
 */
#ifndef COREGATE_TOPOLOGY_H
#define COREGATE_TOPOLOGY_H

#include "abi.h"
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

#endif
