// SPDX-License-Identifier: GPL-2.0-only
/*
 * How launches take claims and give them up, for spin, which tries every order of events.
 *
 * One step here is what is one step in the kernel: reading the ticket, looking at one core,
 * and a section under the lock. Even a section that changes the ledger has two steps, as the
 * ticket is read without the lock. Between steps anybody may run, sleep and move.
 *
 * One launch, the witness, looks as the gate does. The others are let in at will, on any node
 * or on both, so they do all that a launch can do, and more: what holds for the witness among
 * them holds for each launch among launches. Who looks again is like one that comes later, so
 * each launch of the witness has one pair of looks.
 *
 * What is checked, by the names in the assertions, all for the moment between the two looks:
 *
 * over_admitted (I3)
 *	At a grant: the cores that are free cover the launch and what all other claims are owed.
 *	Whatever moves.
 * denied_wrongly (I4)
 *	At a denial: they do not cover that. Except where in both looks tasks go to cores or leave
 *	cores that are not in the print, so neither free on the node nor whole: what such a core
 *	does between two looks at it is not seen, so it may be free only while nobody looks.
 * claim_lost, claim_leaked (I7)
 *	Nobody else gives up a claim; when all processes are gone, nothing is held.
 *
 * A deadlock is found by spin itself. Each WITHOUT_..., and each other word that an #ifdef
 * below names, is a fault in the protocol: with it, spin must find one of these.
 */

#ifdef RACES
/* One node, launches that need one core, and all move about, also while they are strangers. */
#define NODE_0 3
#define STRANGERS 1
#define ALIVE (bit_of(TASKS) - 1)
#define runs(t) ((t) != WITNESS)
#define alike 1
#define RELOADS 0
#define REEXECS 0
#else
/*
 * Two nodes, a reload after which a launch needs two cores, and a holder that execs again. Of the
 * holders only one ever runs, so the two are not alike.
 */
#define NODE_0 2
#define STRANGERS 0
#define ALIVE 0
#define runs(t) ((t) == 0)
#define alike 0
#define RELOADS 1
#define REEXECS 1
#endif

#define CORES 3
#define LAUNCHES 3
#define WITNESS 2
#define STRANGER LAUNCHES
#define TASKS (LAUNCHES + STRANGERS)
#define SLOTS 3
#define NONE SLOTS

#define bit_of(t) (1 << (t))
#define mine bit_of(me)
#define is_one_launch(tasks) ((tasks) == 1 || (tasks) == 2 || (tasks) == 4)
#define node_of(c) ((c) >= NODE_0)
#define witnessed (me == WITNESS)

/* What a claim in a slot has on a node. */
#define part(s, d) (2 * (s) + (d))

/* The tasks that run on each core, and all that there are; each set is a mask. */
byte on[CORES];
byte alive = ALIVE;

/* The ledger; of each claim: whose it is, its cores, and how many of them `held` has. */
bit lock;
byte held[2];
byte owner[SLOTS];
byte size[2 * SLOTS];
byte booked[2 * SLOTS];
byte holders;

bit generation;
byte reexecs = REEXECS;
bit begun = !alike;
byte gone;

/* The witness: whether it is in its hook, the node that it wants, how far it is. */
#define FIRST_LOOK 0
#define SECOND_LOOK 1
#define TOO_FEW 2
#define ENOUGH 3
bit judging;
bit home;
byte stage;

/*
 * The ticket, and how often cores changed tasks: all that matters is whether they did since the
 * witness saw them. If so, it will look again, whatever else it sees.
 */
bit disturbed;

/*
 * The print, by core: nothing, or who was seen there with SEEN; and, from the first look at it
 * to the second, WATCHED.
 */
#define SEEN 8
#if defined WITHOUT_SECOND_LOOK || defined WITHOUT_SWITCHES
#define WATCHED 0
#else
#define WATCHED 16
#endif
#ifdef TWO_READINGS
#define PLACES (2 * CORES)
#define print_of(c) (print[c] | print[c + CORES])
#else
#define PLACES CORES
#define print_of(c) print[c]
#endif
byte print[PLACES];

/* Only the cores in the print are looked at again. */
bit brief;

/* Whether the free cores covered the launch; whether what moves matters, and did so. */
bit covered;
bit counting;
bit moved;

/* Used within one step, so no part of the state. */
hidden byte a_core, a_slot, a_task, others, what, need, away, unmet, idle, met, was;
hidden byte over_admitted, denied_wrongly, claim_lost, claim_leaked;

inline scrub() {
	a_core = 0; a_slot = 0; a_task = 0; others = 0; what = 0; need = 0; away = 0; unmet = 0;
	idle = 0; met = 0; was = 0
}

/* What was seen before counts no more: forget it. */
inline forget() {
	for (a_slot : 0 .. PLACES - 1) {
		print[a_slot] = 0
	}
	a_slot = 0;
	brief = 0;
	covered = 0;
	counting = 0;
	moved = 0
}

inline disturb() {
	disturbed = 1;
	forget()
}

/* What may run on a core: nothing but the witness, or one holder and nobody else. */
#define is_free(set) (((set) & ~bit_of(WITNESS)) == 0)
#define is_whole(set) (is_one_launch(set) && ((set) & holders))
#define is_seen(c, set) (is_whole(set) || (is_free(set) && node_of(c) == home))

inline change(c, set) {
	if
	:: judging && on[c] != (set) ->
		moved = moved || (counting && (!is_seen(c, on[c]) || !is_seen(c, set)));
		on[c] = set;
		if
		:: print_of(c) & WATCHED -> disturb()
		:: else
		fi
	:: else
	fi
}

inline stop_running(t) {
	for (a_core : 0 .. CORES - 1) {
		change(a_core, on[a_core] & ~bit_of(t))
	}
	a_core = 0
}

inline run_on(t, c) {
	stop_running(t);
	change(c, on[c] | bit_of(t))
}

/*
 * What a process is owed on the node that the witness wants, and on the other. An exec under way
 * replaces its claim or leaves it.
 */
inline find_need(t) {
	need = 0;
	away = 0;
	for (a_slot : 0 .. SLOTS - 1) {
		if
		:: owner[a_slot] == t + 1 ->
			need = (size[part(a_slot, home)] > need -> size[part(a_slot, home)] : need);
			away = (size[part(a_slot, !home)] > away -> size[part(a_slot, !home)] : away)
		:: else
		fi
	}
}

/* A core counts once: on its own node, if its holder is owed any there. */
#define counts_here(c) (node_of(c) == home || !away)
#ifdef COUNTED_TWICE
#define seems_to_count_here(c) 1
#else
#define seems_to_count_here(c) counts_here(c)
#endif

/* The truth for the witness, at this moment: cores free for it, cores owed to others. */
inline survey() {
	scrub();
	for (a_core : 0 .. CORES - 1) {
		idle = idle + (node_of(a_core) == home && is_free(on[a_core]))
	}
	for (a_task : 0 .. LAUNCHES - 1) {
		find_need(a_task);
		if
		:: need && a_task != WITNESS ->
			unmet = unmet + need;
			for (a_core : 0 .. CORES - 1) {
				unmet = unmet - (on[a_core] == bit_of(a_task) && counts_here(a_core))
			}
		:: else
		fi
	}
	covered = idle >= unmet + cores;
	printf("between the looks %d free, %d owed\n", idle, unmet);
	scrub()
}

/* What the witness has seen, and what the ledger says now: it is read without the lock. */
inline tally() {
	scrub();
	for (a_core : 0 .. PLACES - 1) {
		idle = idle + ((print[a_core] & ~WATCHED) == SEEN)
	}
	for (a_task : 0 .. LAUNCHES - 1) {
		find_need(a_task);
		if
		:: need && a_task != WITNESS ->
			was = met;
			for (a_core : 0 .. PLACES - 1) {
				met = met + ((print[a_core] & ~WATCHED) == (SEEN | bit_of(a_task)) &&
					     met < was + need && seems_to_count_here(a_core % CORES))
			}
		:: else
		fi
	}
	unmet = held[home] - (claim == NONE -> 0 : booked[part(claim, home)]);
	unmet = (unmet > met -> unmet - met : 0);
	stage = (idle >= unmet + cores -> ENOUGH : TOO_FEW);
	printf("%d free seen, %d owed\n", idle, unmet);
	scrub();
	for (a_core : 0 .. PLACES - 1) {
		print[a_core] = 0
	}
	a_core = 0;
	next = 0;
	/* All that matters now is whether this would be wrong. */
	covered = (stage == ENOUGH -> covered : covered && !moved);
	counting = 0;
	moved = 0
}

/*
 * While nobody holds a claim only free cores matter, and only as many as are needed: these alone are
 * looked at again.
 */
#ifdef BRIEF_BESIDE_CLAIMS
#define may_be_brief 1
#else
#define may_be_brief (owner[0] == 0 && owner[1] == 0 && owner[2] == 0)
#endif
#define is_free_in_print(c) (print[c] == (SEEN | WATCHED))

inline choose() {
	for (a_core : 0 .. PLACES - 1) {
		idle = idle + is_free_in_print(a_core)
	}
	brief = may_be_brief && idle >= cores;
	idle = 0;
	for (a_core : 0 .. PLACES - 1) {
		print[a_core] = (brief && (idle == cores || !is_free_in_print(a_core)) -> 0 : print[a_core]);
		idle = idle + is_free_in_print(a_core)
	}
	scrub()
}

#define is_skipped (brief && print[place_seen] == 0)

/*
 * A core counts once: as free, where at most the launch itself runs, or as what its holder
 * is owed. Both from one look: a holder that goes to sleep between two would count as neither.
 */
#ifdef TWO_READINGS
#define for_free (next < CORES)
#define for_whole (next >= CORES)
#else
#define for_free 1
#define for_whole 1
#endif
#define core_seen ((next + home * NODE_0) % CORES)
#define place_seen (core_seen + next / CORES * CORES)

inline see() {
	others = on[core_seen] & ~mine;
	what = 0;
	if
	:: for_free && others == 0 && node_of(core_seen) == home -> what = SEEN
	:: for_whole && is_whole(others) && others == on[core_seen] -> what = SEEN | others
	:: else
	fi;
	printf("%d sees tasks %x on core %d\n", me, others, core_seen);
	if
	:: stage == FIRST_LOOK -> print[place_seen] = (what -> what | WATCHED : 0); next++
	:: stage == SECOND_LOOK && is_skipped -> next++
	:: stage == SECOND_LOOK && !is_skipped && what != (print[place_seen] & ~WATCHED) -> disturb()
	:: else -> print[place_seen] = what; next++
	fi;
	others = 0;
	what = 0;
	if
	:: next == PLACES && stage == FIRST_LOOK ->
		survey();
		counting = moved && covered;
		moved = 0;
		choose();
#ifdef WITHOUT_SECOND_LOOK
		stage = SECOND_LOOK
#else
		stage = SECOND_LOOK;
		next = 0
#endif
	:: else
	fi;
	if
	:: next == PLACES && stage == SECOND_LOOK -> tally()
	:: else
	fi
}

/*
 * On one node a process is owed the larger of its claim and the one that is to replace it,
 * so only the difference is added.
 */
inline take_part(d, cores_there) {
	size[part(new, d)] = cores_there;
	booked[part(new, d)] = cores_there;
#ifndef BOOK_BOTH
	if
	:: claim != NONE ->
		was = size[part(claim, d)];
		booked[part(new, d)] = (cores_there > was -> cores_there - was : 0);
		was = 0
	:: else
	fi;
#endif
	held[d] = held[d] + booked[part(new, d)]
}

inline take(on_0, on_1) {
	lock = 1;
	alive = alive | mine;
	owner[new] = me + 1;
	take_part(0, on_0);
	take_part(1, on_1);
#ifndef MARK_LATER
	holders = holders | mine;
#endif
	printf("%d takes slot %d: %d and %d cores\n", me, new, on_0, on_1)
}

inline drop_part(s, d) {
	held[d] = held[d] - booked[part(s, d)];
	size[part(s, d)] = 0;
	booked[part(s, d)] = 0
}

inline drop(s) {
	claim_lost = owner[s] != me + 1;
	assert(!claim_lost);
	drop_part(s, 0);
	drop_part(s, 1);
	owner[s] = 0;
	holders = holders & ~mine;
	for (a_slot : 0 .. SLOTS - 1) {
		holders = holders | (owner[a_slot] == me + 1 -> mine : 0)
	}
	a_slot = 0;
	printf("%d gives up slot %d\n", me, s)
}

/* Of an exec that is done, the new claim stands alone. */
inline book_whole(d) {
	held[d] = held[d] + size[part(new, d)] - booked[part(new, d)];
	booked[part(new, d)] = size[part(new, d)]
}

inline bump() {
	if
#ifndef WITHOUT_TICKET
	:: judging -> disturb()
#endif
	:: else
	fi
}

/* The ticket comes last: who reads the new one must see the new state of claims. */
inline begin_release(s) {
	lock = 1;
#ifdef BUMP_FIRST
	bump()
#else
	drop(s)
#endif
}

inline end_release(s) {
#ifdef BUMP_FIRST
	drop(s);
#else
#ifndef WITHOUT_BUMP_ON_RELEASE
	bump();
#endif
#endif
	lock = 0
}

/* Two threads may both be the last of a process; the slot may be another's by then. */
#ifdef RELEASE_BY_SLOT
#define stands(s) (owner[s] != 0)
#else
#define stands(s) (owner[s] == me + 1)
#endif

inline find_slot() {
	new = 0;
	do
	:: new < SLOTS && owner[new] != 0 -> new++
	:: else -> break
	od
}

/* In its hook a launch stays on the core that it is on; it wants cores of that node. */
inline start_judging() {
	judging = 1;
	disturbed = 1;
	if
	:: next = 0
	:: next = 1
	:: next = 2
	fi;
	printf("%d launches on core %d\n", me, next);
	home = node_of(next);
	on[next] = mine;
	next = 0
}

/* The policy is read once; whatever is loaded later does not matter. */
inline read_ticket() {
	cores = 1 + generation;
	disturbed = 0;
	counting = 1
}

/* Where tasks run is forgotten while nobody looks: they may move before somebody does. */
inline stop_judging() {
	judging = 0;
	disturbed = 0;
	forget();
	stage = FIRST_LOOK;
	home = 0;
	cores = 0;
	next = 0;
	for (a_core : 0 .. CORES - 1) {
		on[a_core] = 0
	}
	scrub()
}

/* A verdict belongs to the ticket; only under the lock it is known that no section is under way. */
#ifdef DENY_WITHOUT_LOCK
#define may_settle (stage == TOO_FEW || (stage == ENOUGH && lock == 0))
#else
#define may_settle (stage >= TOO_FEW && lock == 0)
#endif

inline try() {
	atomic { start_judging() }
	d_step { read_ticket() }
	do
	:: d_step { !disturbed && stage <= SECOND_LOOK -> see() }
	:: atomic { disturbed -> printf("%d looks again\n", me); stop_judging(); break }
	:: atomic { !disturbed && may_settle ->
		d_step { find_slot() }
		if
		:: stage == TOO_FEW ->
			printf("%d: deny\n", me);
			denied_wrongly = covered;
#ifndef ONLY_OVER_ADMITTED
			assert(!denied_wrongly);
#endif
			new = NONE
		:: stage == ENOUGH && new == NONE -> printf("%d: unknown, the table is full\n", me)
		:: else ->
			printf("%d: admit\n", me);
			over_admitted = !covered;
			assert(!over_admitted);
			take(cores * !home, cores * home)
		fi;
		stop_judging();
		break
	   }
	od
}

/* Of launches that are alike the order does not matter. */
#define may_go_on (!witnessed && (me != 1 || begun) && lock == 0)

/* Others are let in at will. */
inline admit() {
	begun = 1;
	d_step { find_slot() }
	if
	:: new != NONE -> take(1, 0)
#ifndef RACES
	:: new != NONE -> take(0, 1)
	:: new != NONE && generation -> take(2, 0)
	:: new != NONE && generation -> take(1, 1)
#endif
	:: new == NONE
	fi
}

/* Who leaves has gone to sleep before. */
#define asleep (((on[0] | on[1] | on[2]) & mine) == 0)

inline leave() {
	printf("%d is gone\n", me);
	begun = 1;
	alive = alive & ~mine;
	claim = NONE;
	gone++
}

proctype launch(byte me) {
	byte cores, next;
	byte claim = NONE, new = NONE;

judge:
	if
	:: witnessed -> try()
	:: atomic { may_go_on -> admit() }
	:: atomic { may_go_on && claim == NONE && asleep -> leave(); goto end }
	fi;
	if
	:: d_step { new != NONE ->
		bump();
		lock = 0;
		if
		:: claim == NONE -> claim = new; new = NONE
		:: else
		fi
	   }
	:: atomic { new == NONE && claim == NONE && asleep -> leave(); goto end }
	:: new == NONE && claim != NONE
	fi;
	/* An exec under way, by a process that has a claim. A kill now is a failure, then an exit. */
	if
	:: new == NONE
	:: atomic { new != NONE && lock == 0 ->
		printf("%d: exec fails\n", me);
		begin_release(new)
	   };
	   d_step { end_release(new); new = NONE }
	:: atomic { new != NONE && lock == 0 ->
		printf("%d: exec succeeds\n", me);
		lock = 1;
		book_whole(0);
		book_whole(1);
		drop(claim);
		claim = new;
		new = NONE
	   };
	   d_step { bump(); lock = 0 }
	fi;
#ifdef MARK_LATER
	atomic { holders = holders | mine };
#endif
	if
	:: atomic { reexecs > 0 -> reexecs--; goto judge }
	/* An exec that fails, an exit and a kill: the claim goes while the process still runs. */
	:: do
	   :: atomic { lock == 0 && stands(claim) -> begin_release(claim) };
	      d_step { end_release(claim) }
	   :: atomic { lock == 0 && !stands(claim) && asleep -> leave(); break }
	   od
	fi;
end:
	false
}

/* Tasks run, sleep and move between all cores, but for the witness in its hook. */
#define may_move (judging && (alive & mine))
#define may_run(c) (may_move && !(on[c] & mine))

proctype motion(byte me) {
end:
	do
	:: d_step { may_run(0) -> run_on(me, 0); printf("%d runs on core 0\n", me) }
	:: d_step { may_run(1) -> run_on(me, 1); printf("%d runs on core 1\n", me) }
	:: d_step { may_run(2) -> run_on(me, 2); printf("%d runs on core 2\n", me) }
	:: d_step { may_move && !asleep ->
		stop_running(me);
		printf("%d sleeps\n", me)
	   }
	od
}

init {
	byte t;

	atomic {
		for (t : 0 .. TASKS - 1) {
			if
			:: runs(t) -> run motion(t)
			:: else
			fi
		}
		for (t : 0 .. LAUNCHES - 1) {
			run launch(t)
		}
		t = 0
	}
	generation = RELOADS;
	gone == LAUNCHES;
	claim_leaked = held[0] || held[1] || owner[0] || owner[1] || owner[2];
	assert(!claim_leaked)
}
