/* SPDX-License-Identifier: GPL-2.0-only */
/* Where logs put what they see, one after the other; each defines its own struct record. */
#pragma once

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} records SEC(".maps");

/* Records that found no room; with one, nothing that was logged is worth anything. */
__u64 lost;

static __always_inline struct record *reserve(void)
{
	struct record *r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);

	if (!r) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	r->time = bpf_ktime_get_ns();
	return r;
}
