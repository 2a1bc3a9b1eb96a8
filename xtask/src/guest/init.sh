#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# PID 1 of a guest: sets the machine up and lets the command run.
# A test of what PID 1 may do sends it SIGUSR1: it then executes
# /run/init-again, which comes back here with --again, to wait on.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8

set_up() {
	/bin/busybox --install -s

	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev 2>/dev/null
	mkdir -p /dev/pts /dev/shm
	mount -t devpts devpts /dev/pts
	mount -t tmpfs tmpfs /dev/shm
	mount -t tmpfs tmpfs /tmp
	mount -t tmpfs tmpfs /run
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t bpf bpf /sys/fs/bpf
	mount -t securityfs securityfs /sys/kernel/security
	mount -t tracefs tracefs /sys/kernel/tracing
	mount -t debugfs debugfs /sys/kernel/debug
	chmod 1777 /tmp /dev/shm
	chmod 0700 /sys/fs/bpf
	ln -sf /proc/self/fd /dev/fd
	ln -sf fd/0 /dev/stdin
	ln -sf fd/1 /dev/stdout
	ln -sf fd/2 /dev/stderr

	ip link set lo up
	hostname guest
	ulimit -l unlimited
	ulimit -n 65536
	ulimit -c 0
}

if [ "$1" != --again ]; then
	set_up
	/run-command &
fi
trap 'exec /run/init-again' USR1
while :; do
	sleep 3600 &
	wait $!
done
