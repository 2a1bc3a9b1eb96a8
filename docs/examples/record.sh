# SPDX-License-Identifier: GPL-2.0-only
# How launches.jsonl was made, in a guest with Debian's newest kernel:
#
#   cargo xtask guest --demo-root \
#     --file docs/examples/recorded.toml:/etc/coregate/policy.toml \
#     -- "$(cat docs/examples/record.sh)" | grep '^{' >docs/examples/launches.jsonl

await() {
	until "$@" >/dev/null 2>&1; do sleep 0.2; done
}

is_enabled() {
	[ "$(cat /sys/kernel/sched_ext/state)" = enabled ]
}

# Writes a script that waits $2 seconds, without a program of its own, after it has spun for a
# while if its last argument is --full.
script() {
	mkdir -p "${1%/*}"
	cat >"$1" <<-EOF
		#!/bin/sh
		i=0
		while [ "\$1" = --full ] && [ \$i -lt 3000 ]; do i=\$((i + 1)); done
		read -t $2 x <>/tmp/quiet
	EOF
	chmod 755 "$1"
}

# Runs $3 as the user $2 in the cgroup $1.
launch() {
	mkdir -p "/sys/fs/cgroup$1"
	sh -c 'echo $$ >"/sys/fs/cgroup$0/cgroup.procs"; exec su -s /bin/sh "$1" -c "exec $2"' \
		"$1" "$2" "$3" >/dev/null 2>&1 &
}

mkfifo -m 666 /tmp/quiet
script /opt/exchange/bin/matcher-eu 3
script /opt/exchange/bin/matcher-us 2
script /opt/batch/report 1
script /opt/batch/cleanup 1
syslogd
coregate companion &
await is_enabled
coregate daemon &
await coregate status

for round in $(seq 32); do
	launch /system.slice/matcher@eu.service user /opt/exchange/bin/matcher-eu
	sleep 0.3
	launch /system.slice/matcher@us.service user /opt/exchange/bin/matcher-us
	sleep 0.3
	launch /batch.slice/report.service nobody "/opt/batch/report --full"
	launch /batch.slice/report.service nobody /opt/batch/report
	sleep 0.3
	launch /system.slice/redis-server.service redis "/usr/bin/redis-server --save '' --port 0"
	launch /batch.slice/cleanup.service nobody /opt/batch/cleanup
	launch /batch.slice/report.service user "/opt/batch/report --full"
	sleep 1.5
	launch /system.slice/matcher@eu.service user /opt/exchange/bin/matcher-eu
	launch /system.slice/matcher@us.service user /opt/exchange/bin/matcher-us
	[ $((round % 3)) != 0 ] || sleep 3
done
sleep 4
coregate events --json
