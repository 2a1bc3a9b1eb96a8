/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The companion's last words: what the kernel says of the end, kept for the loader.
 */
#ifndef COREGATE_FAREWELL_BPF_H
#define COREGATE_FAREWELL_BPF_H

#include "scx.h"
#include "companion.h"

/* Rings once, when farewell is written. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} bell SEC(".maps");

struct farewell farewell;

static enum leave why(__s32 kind)
{
	if (kind == (__s32)EXIT(DONE))
		return LEAVE_DONE;
	if (kind == (__s32)EXIT(UNREG))
		return LEAVE_UNREG;
	if (kind == (__s32)EXIT(UNREG_BPF))
		return LEAVE_UNREG_BPF;
	if (kind == (__s32)EXIT(UNREG_KERN))
		return LEAVE_UNREG_KERN;
	if (kind == (__s32)EXIT(SYSRQ))
		return LEAVE_SYSRQ;
	if (kind == (__s32)EXIT(ERROR))
		return LEAVE_ERROR;
	if (kind == (__s32)EXIT(ERROR_BPF))
		return LEAVE_ERROR_BPF;
	if (kind == (__s32)EXIT(ERROR_STALL))
		return LEAVE_STALL;
	return LEAVE_OTHER;
}

SEC("struct_ops.s/companion_exit")
void BPF_PROG(companion_exit, struct scx_exit_info *info)
{
	__u64 ring = 1;

	farewell.kind = info->kind;
	farewell.code = info->exit_code;
	farewell.restart = !!(info->exit_code & EXIT_CODE(ACT_RESTART));
	bpf_probe_read_kernel_str(farewell.reason, sizeof(farewell.reason), info->reason);
	bpf_probe_read_kernel_str(farewell.message, sizeof(farewell.message), info->msg);
	farewell.why = why(info->kind);
	bpf_ringbuf_output(&bell, &ring, sizeof(ring), 0);
}

#endif
