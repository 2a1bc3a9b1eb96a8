/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a launch is, as far as the rules of a policy ask: the numbers of the strings that it meets.
 */
#ifndef COREGATE_FACTS_H
#define COREGATE_FACTS_H

#include "abi.h"
#include "counts.bpf.h"
#include "kernel.h"
#include "launch.bpf.h"
#include "strings.bpf.h"

/*
 * The candidates of each key, and the steps down the hierarchy of cgroups: in the slot of their
 * hash or soon after it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * KEY_SLOTS);
	__type(key, __u32);
	__type(value, struct key);
} keys SEC(".maps");

/* Of the launch that a task is making; few need it. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct details);
} details SEC(".maps");

static __always_inline bool is_among(const __u16 *atoms, __u32 count, __u32 most, __u32 atom)
{
#pragma unroll 1
	for (__u32 i = 0; i < most && i < count; i++)
		if (atoms[i] == atom)
			return true;
	return false;
}

/*
 * Whether the launcher's cgroup or an ancestor meets this string. In parts, the second time as a
 * function of its own: the verifier walks through a part once, and not through all of them.
 */
__noinline int is_place_from(const struct facts *f, __u32 first, __u32 atom)
{
#pragma unroll 1
	for (__u32 i = 0; f && i < PLACES_EACH; i++) {
		__u64 at = first + i;

		/* For the verifier, which must see that what is checked is the index. */
		barrier_var(at);
		if (at >= PLACES_MET || at >= f->met.places)
			break;
		if (f->met.place[at] == atom)
			return true;
	}
	return false;
}

static __always_inline bool is_place(const struct facts *f, __u32 atom)
{
#pragma unroll 1
	for (__u32 first = 0; first < PLACES_MET && first < f->met.places; first += PLACES_EACH)
		if (is_place_from(f, first, atom))
			return true;
	return false;
}

/*
 * Notes that the launch meets a string of this kind. For all of them there is room, for no policy
 * has more; a name can be met at several levels.
 */
__noinline int note_string(struct facts *f, __u32 kind, __u32 atom, __u32 more)
{
	struct matched *m;

	if (!f)
		return 0;
	m = &f->met;
	if (kind <= STRING_EXE_GLOB) {
		if (m->exes < EXES_MET)
			m->exe[m->exes++] = more << 16 | atom;
		m->shapes |= more;
	} else if (kind <= STRING_PARENT_GLOB) {
		if (m->parents < PARENTS_MET)
			m->parent[m->parents++] = atom;
	} else if (!is_place(f, atom)) {
		__u64 last = m->places;

		barrier_var(last);
		if (last < PLACES_MET) {
			m->place[last] = atom;
			m->places = last + 1;
		}
	}
	return 0;
}

static __always_inline bool has_kind(__u32 half, __u32 kind)
{
	return settings[half & 1].kinds >> kind & 1;
}

/* Whether there are folders or globs that go with this kind. */
static __always_inline bool has_patterns(__u32 half, __u32 kind)
{
	return settings[half & 1].kinds >> kind & 6;
}

static __always_inline bool has_length(__u32 half, __u32 kind, __u32 len)
{
	__u64 word = (half * STRING_KINDS + kind) * LENGTH_WORDS + len / 64;

	/* For the verifier, which does not see that it is less. */
	barrier_var(word);
	return lengths[word & (2 * STRING_KINDS * LENGTH_WORDS - 1)] >> len % 64 & 1;
}

/* Whether a text of len bytes ends with this suffix behind its byte `from`. */
static __always_inline bool ends_with(const union text *t, __u32 from, __u32 len,
				      const struct suffix *suffix)
{
	__u32 length = suffix->length;

	return from + length <= len && has_at(t, len - length, length, suffix->words);
}

/*
 * Notes what is there for the beginning of a text, which has this hash: a folder, or globs if the
 * rest is what they want. `ends` is where it ends and, 16 bits higher, where the text does.
 */
__noinline int note_beginning(struct facts *f, __u64 hash, __u32 kind, const union text *t,
			      __u32 ends)
{
	const struct string *string;
	__u32 slot;

	if (!f)
		return 0;
	slot = find_string(hash, f->half << 8 | kind, t, ends & 0xffff);
	if (!slot--)
		return 0;
	string = bpf_map_lookup_elem(&strings, &slot);
	if (!string)
		return 0;
	if (kind % 3 == STRING_EXE_FOLDER % 3) {
		note_string(f, kind, string->atom, string->more);
		return 0;
	}
#pragma unroll 1
	for (__u32 i = 0; i < SUFFIXES_EACH && i < string->atom; i++) {
		__u32 number = string->more + i;
		const struct suffix *suffix = bpf_map_lookup_elem(&suffixes, &number);

		if (suffix && ends_with(t, ends & 0xffff, ends >> 16, suffix))
			note_string(f, kind, suffix->atom, suffix->shapes);
	}
	return 0;
}

/*
 * Where the last name of a path begins. A function of its own: what follows it the verifier would
 * else look at for each length.
 */
__noinline __u32 last_name(const union text *t, __u32 len)
{
	__u32 last = 0;

	if (!t)
		return 0;
#pragma unroll 1
	for (__u32 i = 0; i < EXE_MAX && i < len; i++) {
		/* 1 for a slash: a branch here would double the verifier's work each time. */
		__u32 slash = (((__u8)t->byte[i] ^ '/') - 1U) >> 31;

		last += (i + 1 - last) * slash;
	}
	return last;
}

/* A text whose patterns are looked for. */
struct patterns {
	struct facts *facts;
	const union text *text;
	__u32 len;
	__u32 kind;
	/* Where its last name begins. */
	__u32 last;
	/* Of what comes before the byte that is looked at. */
	__u64 hash;
};

/* Notes the folders and globs for its first i bytes. */
static long note_patterns_at(__u32 i, struct patterns *p)
{
	struct facts *f = p->facts;

	/* Something must follow a folder. */
	if (i < p->len && has_length(f->half, p->kind + 1, i))
		note_beginning(f, p->hash, p->kind + 1, p->text, p->len << 16 | i);
	/* No slash is in what a `*` stands for. */
	if (i >= p->last && has_length(f->half, p->kind + 2, i))
		note_beginning(f, p->hash, p->kind + 2, p->text, p->len << 16 | i);
	p->hash = hash_next(p->hash, (__u8)*byte_at(p->text, i));
	return 0;
}

/* Notes the folders and globs that a text meets. */
__noinline int note_patterns(struct facts *f, const union text *t, __u32 len, __u32 kind)
{
	struct patterns p = { .facts = f, .text = t, .len = len, .kind = kind };

	if (!f || !t || len >= EXE_MAX)
		return 0;
	p.last = last_name(t, len);
	p.hash = hash_begin(f->half, kind + 1);
	bpf_loop(len + 1, note_patterns_at, &p, 0);
	return 0;
}

/* The slot plus 1 of the string of this kind that a text of len bytes is as a whole; or 0. */
__noinline __u32 slot_of(__u32 half, __u32 kind, const union text *t, __u32 len)
{
	if (!t || len >= EXE_MAX)
		return 0;
	return find_string(hash_of(t, len, hash_begin(half, kind)), half << 8 | kind, t, len);
}

static __always_inline const struct string *whole(__u32 half, __u32 kind, const union text *t,
						  __u32 len)
{
	__u32 slot = slot_of(half, kind, t, len);

	if (!slot--)
		return NULL;
	return bpf_map_lookup_elem(&strings, &slot);
}

/* Notes the string that a path is as a whole. */
__noinline int note_whole(struct facts *f, const union text *t, __u32 len, __u32 kind)
{
	const struct string *s;

	if (!f || !t || len >= EXE_MAX)
		return 0;
	s = whole(f->half, kind, t, len);
	if (s)
		note_string(f, kind, s->atom, s->more);
	return 0;
}

/* The user namespace to which the mounts of a task belong. */
static __always_inline struct user_namespace *owner_of_mounts(struct task_struct *task)
{
	return peek(struct task_struct, task, nsproxy, mnt_ns, user_ns);
}

static __always_inline struct task_struct *pid_1(void)
{
	return peek(struct pid_namespace, &init_pid_ns, child_reaper);
}

/*
 * Whether the path of a file says where it is. A launcher can be handed a file that is open
 * elsewhere: by a mount that an unprivileged user made for itself, over whatever it liked, or by
 * one that is in no namespace, where the path is that from its own root on. A function of its own,
 * as the calls that follow need the stack.
 */
static __noinline int has_path(const struct file *file)
{
	struct task_struct *task = bpf_get_current_task_btf();
	void *mnt = file->f_path.mnt;
	struct mount *mount = mnt - bpf_core_field_offset(struct mount, mnt);
	struct mnt_namespace *ns = peek(struct mount, mount, mnt_ns);
	struct user_namespace *owner;

	if (ns == task->nsproxy->mnt_ns)
		return true;
	owner = peek(struct mnt_namespace, ns, user_ns);
	return owner && (owner == owner_of_mounts(task) || owner == owner_of_mounts(pid_1()));
}

/* Whether bpf_d_path() says of a path that it is deleted (d_unlinked(), linux/dcache.h). */
static __always_inline bool is_deleted(const struct dentry *dentry)
{
	return !dentry->d_hash.pprev && dentry->d_parent != dentry;
}

/* Notes by its path what rules know of a file, as a program or as one that launches. */
static __always_inline void note_file(struct facts *f, struct file *file, union text *t, __u32 kind)
{
	/* Asked first: of a path that is not deleted yet nothing may be cut off. */
	bool deleted = is_deleted(file->f_path.dentry);
	const long added = sizeof(" (deleted)") - 1;
	long len = -ENAMETOOLONG;

	if (has_path(file))
		len = bpf_d_path(&file->f_path, t->byte, EXE_MAX);
	if (len <= 0 || len > EXE_MAX) {
		t->byte[0] = 0;
		if (len != -ENAMETOOLONG)
			__sync_fetch_and_add(&kept.failures.paths_unread, 1);
		return;
	}
	if (deleted && len > added) {
		len -= added;
		t->byte[(len - 1) & (EXE_MAX - 1)] = 0;
	}
	if (has_kind(f->half, kind))
		note_whole(f, t, len - 1, kind);
	if (has_patterns(f->half, kind))
		note_patterns(f, t, len - 1, kind);
}

/* Likewise the program that a task runs. */
static __always_inline void note_program(struct facts *f, struct task_struct *task, union text *t,
					 __u32 kind)
{
	struct file *file;

	if (bpf_ksym_exists(bpf_get_task_exe_file)) {
		file = bpf_get_task_exe_file(task);
		if (file) {
			note_file(f, file, t, kind);
			bpf_put_file(file);
		}
	} else {
		note_file(f, task->mm->exe_file, t, kind);
	}
}

/* By the numbers in a key: its candidates, or where an edge leads; NULL if there is none. */
static __always_inline const struct key *find_key(__u32 half, __u32 exe, __u32 place, __u32 user,
						  __u32 arg)
{
	__u64 h = settings[half & 1].seed;

	h = hash_next(h, exe | (__u64)place << 32);
	h = hash_next(h, user | (__u64)arg << 32);
#pragma unroll 1
	for (__u32 i = 0; i < PROBES; i++) {
		__u32 slot = slot_near(h, i) & settings[half & 1].key_mask & (KEY_SLOTS - 1);
		const struct key *key;

		slot += (half & 1) * KEY_SLOTS;
		key = bpf_map_lookup_elem(&keys, &slot);
		if (!key || !key->count)
			return NULL;
		if (key->exe == exe && key->place == place && key->user == user && key->arg == arg)
			return key;
	}
	return NULL;
}

/* The next step down the hierarchy of cgroups, by the number of a name; 0 if no rule goes there. */
__noinline __u32 step_down(struct facts *f, __u32 from, __u32 name)
{
	const struct key *edge;

	if (!f)
		return 0;
	edge = find_key(f->half, EDGE, from, 0, name);
	if (!edge)
		return 0;
	if (edge->count > 1)
		note_string(f, STRING_NAME, edge->count - 1, 0);
	return edge->first;
}

/* The ancestor of a cgroup at this level, itself included. */
static __always_inline struct cgroup *ancestor(struct cgroup *cgroup, __u32 level)
{
	void *at =
		(void *)cgroup + bpf_core_field_offset(cgroup->ancestors) + level * sizeof(void *);
	struct cgroup *found = NULL;

	if (bpf_ksym_exists(bpf_rdonly_cast))
		return (void *)kernel_cast(struct hlist_head, at)->first;
	bpf_probe_read_kernel(&found, sizeof(found), at);
	return found;
}

/* Writes the name of that ancestor, as EXE_MAX bytes; its length with the NUL, or an error. */
static __always_inline long cgroup_name(struct cgroup *cgroup, __u32 level, void *to)
{
	return bpf_probe_read_kernel_str(to, EXE_MAX,
					 peek(struct cgroup, ancestor(cgroup, level), kn, name));
}

/*
 * Notes what rules know of the launcher's cgroup or its ancestor at this level. `at` is where the
 * steps down the hierarchy have come to, or 0; returns where they come to next, or less than 0.
 */
__noinline int note_place(struct facts *f, int level, __u32 at)
{
	struct cgroup *cgroup = bpf_get_current_task_btf()->cgroups->dfl_cgrp;
	const struct string *name;
	long len;

	if (!f)
		return -EINVAL;
	len = cgroup_name(cgroup, level, f->text.byte);
	if (len <= 0 || len > EXE_MAX)
		return -ENAMETOOLONG;
	name = whole(f->half, STRING_NAME, &f->text, len - 1);
	if (name && name->more)
		note_string(f, STRING_NAME, name->atom, 0);
	if (has_patterns(f->half, STRING_NAME))
		note_patterns(f, &f->text, len - 1, STRING_NAME);
	return name && at ? step_down(f, at, name->atom) : 0;
}

/* Notes what rules know of the launcher's cgroup and its ancestors. */
static __always_inline void note_places(struct facts *f)
{
	int last = bpf_get_current_task_btf()->cgroups->dfl_cgrp->level;
	/* Where the hierarchy begins. */
	int at = 1;

	if (last >= LEVELS_READ)
		__sync_fetch_and_add(&kept.failures.cgroups_unread, 1);
#pragma unroll 1
	for (int level = 1; level < LEVELS_READ && level <= last; level++) {
		at = note_place(f, level, at);
		if (at < 0) {
			__sync_fetch_and_add(&kept.failures.cgroups_unread, 1);
			return;
		}
	}
}

/* Where the arguments of an exec are in the launcher's memory, and how large a pointer is there. */
struct argv {
	__u64 at;
	__u32 size;
};

/*
 * By the registers of its system call; `at` is 0 if it is no call that is known here: execve(2) or
 * execveat(2), of a 32-bit program too on x86 (arch/x86/entry/syscalls).
 */
static __always_inline struct argv argv_of(struct task_struct *task)
{
	struct pt_regs___call *regs = (void *)bpf_task_pt_regs(task);
	struct argv argv = { .size = sizeof(__u64) };

#if defined(__TARGET_ARCH_x86)
	long call = BPF_CORE_READ(regs, orig_ax);

	if (task->thread_info.status & TS_COMPAT) {
		argv.size = sizeof(__u32);
		if (call == 11)
			argv.at = (__u32)BPF_CORE_READ(regs, cx);
		else if (call == 358)
			argv.at = (__u32)BPF_CORE_READ(regs, dx);
	} else if (call == 59) {
		argv.at = BPF_CORE_READ(regs, si);
	} else if (call == 322) {
		argv.at = BPF_CORE_READ(regs, dx);
	}
#elif defined(__TARGET_ARCH_arm64)
	int call = BPF_CORE_READ(regs, syscallno);

	if (call == 221)
		argv.at = BPF_CORE_READ(regs, regs[1]);
	else if (call == 281)
		argv.at = BPF_CORE_READ(regs, regs[2]);
#endif
	return argv;
}

/* Argument i of the exec that this task asks for, in its memory; 0 if there is none. */
static __always_inline __u64 argument(__u64 argv, __u32 size, __u32 i)
{
	__u64 pointer = 0;
	void *at = (void *)(argv + i * size);
	long error = size == sizeof(__u32) ? bpf_probe_read_user(&pointer, sizeof(__u32), at)
					   : bpf_probe_read_user(&pointer, sizeof(__u64), at);

	if (error) {
		__sync_fetch_and_add(&kept.failures.args_unread, 1);
		return 0;
	}
	return pointer;
}

/*
 * Notes the arguments of an exec that rules name. They are read where the launcher has them: the
 * kernel's own copy is in a memory that a program which may not sleep cannot read.
 */
static __noinline int note_args(struct facts *f, struct details *d)
{
	struct argv argv = argv_of(bpf_get_current_task_btf());

	d->args = 0;
	if (!argv.at) {
		__sync_fetch_and_add(&kept.failures.args_unread, 1);
		return 0;
	}
#pragma unroll 1
	for (__u32 i = 0; i < ARGS_READ; i++) {
		__u64 pointer = argument(argv.at, argv.size, i);
		/* What is behind the last argument has room for the rest of a text. */
		union text *text = (void *)&d->arg[i * ARG_MAX];
		const struct string *arg;
		long len;

		if (!pointer)
			return 0;
		d->args = i + 1;
		/* A longer one fills its place: no rule has one like that. */
		len = bpf_probe_read_user_str(text->byte, ARG_MAX + 1, (void *)pointer);
		if (len <= 0 || len > ARG_MAX + 1) {
			__sync_fetch_and_add(&kept.failures.args_unread, 1);
			text->byte[0] = 0;
			continue;
		}
		arg = whole(f->half, STRING_ARG, text, len - 1);
		if (arg)
			f->met.arg[i] = arg->atom;
	}
	return 0;
}

/* Notes those details of an exec that are asked for; whether there was room for them. */
__noinline int note_details(struct facts *f, __u32 shapes)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct details *d = made_of(&details, task);

	if (!f || !d)
		return 0;
	f->asked |= shapes & (NEED_ARGS | NEED_PARENT);
	d->read = f->asked;
	if (shapes & NEED_ARGS)
		note_args(f, d);
	if (shapes & NEED_PARENT) {
		d->parent[0] = 0;
		note_program(f, task, (void *)d->parent, STRING_PARENT);
	}
	return 1;
}

/*
 * Writes the launcher's name, which is padded with NULs (__set_task_comm(), fs/exec.c). As words, for
 * the helper that does it goes from byte to byte.
 */
static __always_inline void write_comm(__u8 *to)
{
	const __u64 *name = (const void *)bpf_get_current_task_btf()->comm;

	((__u64 *)to)[0] = name[0];
	((__u64 *)to)[1] = name[1];
}

/* Notes the launcher's name. */
__noinline int note_comm(struct facts *f)
{
	const struct string *comm;
	__u32 len = 0;

	if (!f)
		return 0;
	write_comm((__u8 *)f->text.byte);
#pragma unroll 1
	while (len < 16 && f->text.byte[len])
		len++;
	comm = whole(f->half, STRING_COMM, &f->text, len);
	if (comm)
		f->met.comm = comm->atom;
	return 0;
}

/* Supplementary group i of the launcher. */
static __always_inline __u32 group_at(__u32 i)
{
	struct group_info *groups = bpf_get_current_task_btf()->cred->group_info;
	__u32 gid = 0;

	bpf_probe_read_kernel(&gid, sizeof(gid),
			      (void *)groups + bpf_core_field_offset(groups->gid) +
				      i * sizeof(gid));
	return gid;
}

/*
 * Halves what is left of the supplementary groups that may be this one. One call for each step, for
 * the same reason as above.
 */
__noinline int halve_groups(struct facts *f, __u32 gid, __u32 half)
{
	__u32 next;

	if (!f)
		return 0;
	next = f->before + half;
	if (next <= f->groups && group_at(next - 1) < gid)
		f->before = next;
	return 0;
}

/*
 * Whether the launcher is of this group, by its effective one or a supplementary one. Of these
 * there are 65,536 at most, in ascending order (groups_sort(), kernel/groups.c).
 */
static __always_inline bool is_of_group(struct facts *f, __u32 gid)
{
	const struct cred *cred = bpf_get_current_task_btf()->cred;

	if (cred->egid.val == gid)
		return true;
	f->groups = cred->group_info->ngroups;
	f->before = 0;
#pragma unroll 1
	for (__u32 half = 65536; half; half >>= 1)
		halve_groups(f, gid, half);
	return f->before < f->groups && group_at(f->before) == gid;
}

/*
 * Whether a path means something else to the launcher than to PID 1: it has another root directory,
 * or a mount namespace that is not of the first user namespace.
 */
static __always_inline bool is_contained(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *first = pid_1();

	return task->fs->root.dentry != peek(struct task_struct, first, fs, root.dentry) ||
	       task->nsproxy->mnt_ns->user_ns != owner_of_mounts(first);
}

#endif
