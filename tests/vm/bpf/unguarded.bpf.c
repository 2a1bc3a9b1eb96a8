// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate's way to free cores with its guard compiled out: the proof that the test of the
 * guard can fail.
 */
#define COREGATE_WITHOUT_GUARD
#include "idle.bpf.h"

__u64 calls;

/* Too large for the stack. What it finds does not matter, so launches may share it. */
static struct need anybody = { .own_cpu = NO_CPU, .anybody = true };

SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(unguarded_exec, struct linux_binprm *bprm, int ret)
{
	look_at(&anybody, bpf_get_numa_node_id());
	__sync_fetch_and_add(&calls, 1);
	return ret;
}

char LICENSE[] SEC("license") = "GPL";
