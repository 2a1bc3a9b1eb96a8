#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# PID 1 of a guest with systemd until that is started: puts what the guest was
# given into the root on the disk.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin

/bin/busybox --install -s
mount -t devtmpfs devtmpfs /dev 2>/dev/null
until [ -b /dev/nvme0n1 ]; do
	sleep 0.1
done
mount -t ext4 /dev/nvme0n1 /root
cp -a /payload/. /root
umount /dev
exec switch_root /root /sbin/init
