// SPDX-License-Identifier: GPL-2.0-only
/* The cheapest programs that the gate's hooks can have: what the bench compares with. */
#include "kernel.h"

SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(bare_exec, struct linux_binprm *bprm, int ret)
{
	return 0;
}

/* What a denial saves: the kernel does nothing more for the exec. */
SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(bare_denial, struct linux_binprm *bprm, int ret)
{
	return -EAGAIN;
}

SEC("lsm/task_alloc")
int BPF_PROG(bare_fork, struct task_struct *task, unsigned long clone_flags, int ret)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
