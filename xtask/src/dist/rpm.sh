# SPDX-License-Identifier: GPL-2.0-only
# The life of the RPM in a root with systemd, $1, where it and the next release are: installed,
# upgraded and erased, with its scriptlets. Nothing of systemd runs there, as where images are made.
set -eu
root=$1
policy=$root/etc/coregate/policy.toml
log=$root/var/log/coregate/events.json
presets=$root/etc/systemd/system-preset/50-test.preset

fail() {
	echo "$*" >&2
	exit 1
}

# Fails if a scriptlet does. The root has systemd, but not as an RPM; and Debian's rpm keeps what it
# installed elsewhere.
rpm_there() {
	said=$(rpm --root "$root" --dbpath /var/lib/rpm --nodeps "$@" 2>&1) || fail "rpm $*: $said"
	case $said in *scriptlet*) fail "rpm $*: $said" ;; esac
}

# Whether the unit $1 is $2.
is() {
	state=$(chroot "$root" systemctl is-enabled "$1" || :)
	[ "$state" = "$2" ] || fail "$1 is $state, and not $2"
}

# All that is there, but for what rpm and the tools of users write for themselves.
files() {
	(cd "$root" && find . -xdev \( -path ./var/lib/rpm -o -path ./run -o -path ./tmp \) -prune -o -print) |
		grep -v -x -E '\./etc/(group|gshadow|passwd|shadow|\.pwd\.lock)-?' | sort
}

# The folders of fish and zsh are theirs.
mkdir -p "${presets%/*}" "$root/usr/share/fish/vendor_completions.d" "$root/usr/share/zsh/site-functions"
echo "disable *" >"$presets"
files >"$root/tmp/before"

# $1: what may be left of it.
erase() {
	rpm_there --erase coregate
	left=$(files | comm -13 "$root/tmp/before" -)
	[ "$left" = "$1" ] || fail "left behind: $left"
}

rpm_there --install "$root/coregate.rpm"
rpm_there --verify coregate
is coregate.service disabled
is coregate-companion.service disabled
grep -q '^coregate:' "$root/etc/group" || fail "no group was made"
[ -d "$root/etc/coregate/policy.d" ] || fail "no folder for drop-ins was made"
erase ""

echo "enable coregate.service
disable *" >"$presets"
rpm_there --install "$root/coregate.rpm"
is coregate.service enabled
is coregate-companion.service disabled

# What an administrator did stays in an upgrade.
echo "# edited" >>"$policy"
mkdir -p "${log%/*}"
echo "{}" >"$log"
cp "$policy" "$root/tmp/policy.toml"
chroot "$root" systemctl --quiet disable coregate.service
rpm_there --upgrade "$root/next.rpm"
cmp "$policy" "$root/tmp/policy.toml" || fail "an upgrade changed the policy"
[ -e "$policy.rpmnew" ] || fail "the policy of the next release is missing"
is coregate.service disabled

chroot "$root" systemctl --quiet enable coregate.service coregate-companion.service
erase "./etc/coregate
./etc/coregate/policy.toml.rpmnew
./etc/coregate/policy.toml.rpmsave
./var/log/coregate
./var/log/coregate/events.json"
cmp "$policy.rpmsave" "$root/tmp/policy.toml" || fail "the edited policy was not kept"
