// SPDX-License-Identifier: GPL-2.0-only
/* Another LSM, which denies every exec by one user with an errno of its own. */
#include "kernel.h"

__u32 denied_uid = 0xffffffff;

SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(deny_exec, struct linux_binprm *bprm, int ret)
{
	if (ret)
		return ret;
	return (__u32)bpf_get_current_uid_gid() == denied_uid ? -EXDEV : 0;
}

char LICENSE[] SEC("license") = "GPL";
