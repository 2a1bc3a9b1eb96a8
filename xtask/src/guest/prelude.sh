# SPDX-License-Identifier: GPL-2.0-only
# The beginning of `cargo xtask demo` and `cargo xtask screens`: words that both use, and the log.

LOG=/var/log/messages
POLICY=/etc/coregate/policy.toml

show() {
	sed 's/^/    /'
}

fail() {
	echo
	echo "It failed: $*"
	echo "The log of the guest:"
	show <"$LOG"
	exit 1
}

# Waits until the command given succeeds, at most 60 seconds.
await() {
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -le 300 ] || return 1
		sleep 0.2
	done
}

companion_runs() {
	[ "$(cat /sys/kernel/sched_ext/state)" = enabled ]
}

syslogd
await test -e "$LOG" || fail "syslogd does not log"
mkdir -p /etc/coregate
