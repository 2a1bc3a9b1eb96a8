#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs /command with its output on the second serial port, tells the exit status
# in a last line, and powers off.

# Output goes through a pipe, so that a command does not find itself on a
# terminal, and one left behind does not hold up the last line.
port=/dev/ttyS1
stty -F "$port" raw -echo
mkfifo -m 666 /run/output
cat /run/output >"$port" &
exec 3>/run/output
setsid sh /command </dev/null >&3 2>&3 3>&-
echo "@@guest-exit $?" >&3
exec 3>&-
sleep 0.1
# Setting a port waits until all is sent.
stty -F "$port" raw
poweroff -f
