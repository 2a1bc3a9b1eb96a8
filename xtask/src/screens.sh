# SPDX-License-Identifier: GPL-2.0-only
# The scene of `cargo xtask screens`: four cores on two nodes. One program runs on its core, on the
# other node one sleeps, and work fills that, where launches are denied again and again.

# Shows what coregate writes to a terminal: its name, columns, lines, seconds, and the command.
record() {
	name=$1
	shift
	echo "screen $name $1 $2"
	coregate-vm record-a-terminal "$@" || fail "nothing was recorded"
	echo "end"
}

# Whether so many claims are held.
holds() {
	[ "$(coregate top --json | grep -c '"tid"')" = "$1" ]
}

denied() {
	coregate status --json | grep -q '"denied": [1-9]'
}

mkdir -p /opt/trading
printf '#!/bin/sh\nwhile :; do :; done\n' >/opt/trading/feed-handler
printf '#!/bin/sh\nsleep 10000\n' >/opt/trading/order-gateway
chmod 755 /opt/trading/*
cat >"$POLICY" <<'EOF'
[gate]
mode = "enforce"
on_unknown = "admit"

[[rule]]
name = "order-gateway"
exe = "/opt/trading/order-gateway"
user = "root"
cores = 1

[[rule]]
name = "feed-handler"
exe = "/opt/trading/feed-handler"
user = "root"
cores = 1
EOF
coregate companion >/tmp/companion 2>&1 &
await companion_runs || fail "the companion did not start: $(cat /tmp/companion)"
coregate daemon >/tmp/daemon 2>&1 &
await coregate status || fail "the daemon did not start: $(cat /tmp/daemon)"

# Starts a program on these CPUs, as soon as it is admitted.
start() {
	until taskset -c "$@" 2>/dev/null; do sleep 1; done &
}

start 4-7 /opt/trading/order-gateway
start 0,1 /opt/trading/feed-handler
await holds 2 || fail "two programs were not admitted: $(cat /tmp/daemon)"
for cpu in 4 6; do
	taskset -c $cpu sh -c 'while :; do :; done' &
done
sleep 2
while :; do
	taskset -c 4-7 /opt/trading/feed-handler 2>/dev/null
	sleep 1
done &
await denied || fail "nothing was denied: $(cat /tmp/daemon)"
record top-80x24 80 24 12 top
record top-120x24 120 24 12 top

# A mistake, as people make them.
sed -i 's/^mode/mod/' "$POLICY"
coregate reload >/dev/null 2>&1 && fail "the mistake was not refused"
record status-80x24 80 24 5 status
record status-120x24 120 24 5 status
