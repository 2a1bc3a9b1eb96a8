/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the companion and its loader share. Only fixed-width fields, explicit padding; the
 * Rust side uses types generated from here.
 */
#ifndef COREGATE_COMPANION_H
#define COREGATE_COMPANION_H

#include <linux/types.h>

/* Hardware threads of one core; the most that any machine with Linux has. */
#define MAX_THREADS 8

/* What the loader tells of one CPU, and what the scheduler keeps for it. */
struct cpu {
	/* Virtual time of this CPU's own queue. */
	__u64 clock;
	/* Weighted time that the own queue is ahead of the node's queue on this CPU. */
	__s64 lead;
	/* Of the core whose first thread this CPU is: virtual time of its holders' queue. */
	__u64 hold_clock;
	/* The claim that it is reserved for, or 0; until when, if none of its threads runs there. */
	__u64 owner;
	__u64 until;
	/* How long it stays reserved once they sleep, in ns. */
	__u64 keep_ns;
	/* The claim of the task that runs on this CPU, or 0. */
	__u64 runs_for;
	/* Since when the one that runs here, or is about to, has not slept, or 0. */
	__u64 awake;
	/*
	 * By every switch: the claim that it runs for, or IDLE or OTHERS; until when that is counted; since
	 * when another CPU of its core runs for somebody else, or 0. See beside.bpf.h.
	 */
	__u64 whose;
	__u64 since;
	__u64 beside;
	/* Until when kernel threads of this CPU wait, if any does. */
	__u64 held_until;
	/* Somebody else runs there who may be sent away; it could run nowhere else, so it may stay. */
	__u32 runs_other;
	__u32 runs_guest;
	/* So many tasks that can run nowhere else have waited long enough; one of them runs next. */
	__u32 guest_due;
	__u32 guest_next;
	/* Kernel threads of this CPU wait until the holder beside it sleeps; one runs that could. */
	__u32 held_back;
	__u32 runs_patient;
	/* Where that claim is. */
	__u32 slot;
	__u32 pad;
	/* Of the core: others may not use it at all; its alarm is set. */
	__u32 shut;
	__u32 alarmed;
	/* Its node. */
	__u32 node;
	/* How many entries of thread[] count; 0 while the CPU is offline. */
	__u32 threads;
	/* The online threads of its core, itself among them. */
	__u32 thread[MAX_THREADS];
};

/* Why the scheduler left; numbers of our own, since the kernel may move its. */
enum leave {
	LEAVE_NOT = 0,
	LEAVE_DONE = 1,
	LEAVE_UNREG = 2,
	LEAVE_UNREG_BPF = 3,
	LEAVE_UNREG_KERN = 4,
	LEAVE_SYSRQ = 5,
	LEAVE_ERROR = 6,
	LEAVE_ERROR_BPF = 7,
	LEAVE_STALL = 8,
	LEAVE_OTHER = 9,
};

/* The kernel's account of the end. */
struct farewell {
	enum leave why;
	/* 1: the kernel asks for a restart, as after CPU hotplug. */
	__u32 restart;
	/* The kernel's own number for why, for kinds that have no name here. */
	__s32 kind;
	__u32 pad;
	__s64 code;
	char reason[128];
	char message[1024];
};

_Static_assert(sizeof(struct cpu) == 176, "struct cpu has padding");
_Static_assert(sizeof(struct farewell) == 1176, "struct farewell has padding");

#endif
