# SPDX-License-Identifier: GPL-2.0-only
# The demo, as the guest tells it: a real server is admitted while a core is
# free, and refused while none is. Any step that turns out otherwise ends it.

SERVER=/usr/bin/redis-server

step() {
	echo
	echo "==> $*"
}

# Starts the server as the user redis; its errors go to /tmp/launch. The guest's
# CPUs run in turns, so one that a program just left looks busy for a moment:
# the launch waits, without a program of its own, until all else here sleeps.
launch() {
	echo "    $ su redis -c '$SERVER --save \"\"'"
	su -s /bin/sh redis -c "read -t 2 x <>/tmp/quiet
		exec $SERVER --save '' --logfile /dev/null" >/tmp/launch 2>&1 &
	server=$!
	sleep 4
}

answers() {
	[ "$(redis-cli ping 2>/dev/null)" = PONG ]
}

no_scheduler_left() {
	[ "$(cat /sys/kernel/sched_ext/state)" = disabled ]
}

# Shows the newest line of the log on a launch that was $1; fails without one.
show_logged() {
	await grep -q "$1 rule=cache" "$LOG" || fail "the log says nothing of it"
	echo "    in $LOG:"
	grep "$1 rule=cache" "$LOG" | tail -n 1 | fold -s -w 76 | show
}

mkfifo -m 666 /tmp/quiet

step "This is Linux $(uname -r) with $(nproc) hardware threads on 4 cores, 2 on each of 2 nodes."

step "The policy: redis, started by the user redis, needs one whole free core."
cat >"$POLICY" <<'EOF'
[gate]
mode = "enforce"
on_unknown = "admit"

[[rule]]
name = "cache"
exe = "/usr/bin/redis-server"
user = "redis"
cores = 1
action = "deny"
errno = "EAGAIN"
EOF
show <"$POLICY"
coregate check "$POLICY" | show

step "The companion scheduler starts; it keeps count of the idle cores of each node."
coregate companion >/tmp/companion 2>&1 &
companion=$!
if ! await companion_runs; then
	show </tmp/companion
	fail "the companion did not start"
fi
show </tmp/companion

step "The daemon puts up the gate."
coregate daemon --policy "$POLICY" >/tmp/daemon 2>&1 &
daemon=$!
if ! await coregate status; then
	show </tmp/daemon
	fail "the daemon did not start"
fi
coregate status | show

step "Cores are free, so redis is admitted."
launch
await answers || fail "redis does not answer: $(cat /tmp/launch)"
echo "    $ redis-cli ping"
redis-cli ping | show
show_logged admitted
redis-cli shutdown nosave
wait "$server"

step "Now a busy loop runs on each hardware thread: no core is free."
hogs=
for cpu in $(seq 0 $(($(nproc) - 1))); do
	taskset -c "$cpu" sh -c 'while :; do :; done' &
	hogs="$hogs $!"
done
sleep 2
coregate status | sed -n '/^node/,/^$/{/./p}' | show

step "The same launch is refused, with a clear error."
launch
wait "$server"
code=$?
show </tmp/launch
[ "$code" -ne 0 ] || fail "the launch was not refused"
grep -q 'Resource temporarily unavailable' /tmp/launch || fail "the launch failed otherwise than by EAGAIN"
! answers || fail "redis answers, but it was refused"
show_logged denied

step "A program that no rule names still starts, on the same full machine."
echo "    $ redis-cli --version"
redis-cli --version >/tmp/neighbour || fail "redis-cli does not start"
show </tmp/neighbour

step "The load ends, and redis is admitted again."
kill $hogs
wait $hogs 2>/dev/null
launch
await answers || fail "redis does not answer: $(cat /tmp/launch)"
echo "    $ redis-cli ping"
redis-cli ping | show
redis-cli shutdown nosave
wait "$server"

step "What the gate counted:"
coregate status | sed -n '/^rule/,$p' | show
kill "$daemon" && wait "$daemon" || fail "the daemon did not end cleanly"
kill "$companion" && wait "$companion" || fail "the companion did not end cleanly"
await no_scheduler_left || fail "the companion is still loaded"

cat <<'EOF'

In short: while a whole core was free, Debian's redis-server started and
answered. While every core was busy, the same launch failed at once with
"Resource temporarily unavailable" instead of running slowly, the log says why
in numbers, and no other program was touched. When the load was gone, redis
started again.
EOF
