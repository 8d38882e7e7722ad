#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the agent needs from outside npm, on Debian 12 and 13 and their relatives. Only what is missing: it looks for
# each thing itself, not for a package, so that a tool that came another way (a newer nats-server in /usr/local/bin) is
# left alone. With nothing to do it takes some 10 ms. On other systems it names what is missing.
set -eu

usage() {
	cat <<'END'
Usage: install-deps.sh [--runtime | --test]

  --runtime   only what the agent needs to run
  --test      what the tests need, beside what building and the demo need
  --help      this text

Without an option: what building and the demo need. Exits with 0 when everything is there in the end, else with 1.
END
}

main() {
	scope=demo
	for argument in "$@"; do
		case $argument in
		--runtime) scope=runtime ;;
		--test) scope=test ;;
		--help) usage && exit 0 ;;
		*) usage >&2 && exit 1 ;;
		esac
	done

	# Debian keeps system tools where an ordinary user's PATH does not look.
	PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

	check_node
	packages=$(missing_packages)
	if [ -z "$packages" ]; then
		echo 'Dependencies: all present'
		exit 0
	fi

	if ! command -v apt-get >/dev/null; then
		fail "Missing: $packages (Debian's names). This system has no apt-get: install their counterparts by hand."
	fi
	if [ "$(id -u)" -ne 0 ]; then
		fail "Missing: $packages. Only root can install them: run this as root, or apt-get install $packages."
	fi
	install "$packages"

	packages=$(missing_packages)
	if [ -n "$packages" ]; then
		fail "apt-get has run, but this still does not work as it should: $packages"
	fi
	echo 'Dependencies: installed'
}

# The Debian packages, each with the thing in it that we need.
#
# Kernel headers and the C library's come with libbpf-dev and clang. What every Debian has is not named here: util-linux (nsenter,
# unshare, mount), coreutils, tar, gzip.
missing_packages() {
	missing=
	need libbpf1 library libbpf.so.1
	need iproute2 command ip
	if [ "$scope" != runtime ]; then
		need nats-server command nats-server
		need clang command clang
		need llvm command llvm-strip
		need make command make
		need libbpf-dev header bpf/bpf_helpers.h
		need linux-libc-dev header linux/bpf.h
		need bpftool command bpftool
		need ethtool command ethtool
	fi
	if [ "$scope" = test ]; then
		need openssl command openssl
		need prometheus command promtool
		need python3-pip command pip3
	fi
	echo "$missing"
}

# need <package> command|library|header <name>: adds the package to $missing unless the thing is there.
need() {
	case $2 in
	command) command -v "$3" >/dev/null && return ;;
	library) ldconfig -p | grep -qF "$3 " && return ;;
	header) [ -e "/usr/include/$3" ] && return ;;
	esac
	missing="${missing:+$missing }$1"
}

# Node runs the agent, but Debian 12's is too old: where to get it is the machine owner's choice.
check_node() {
	command -v node >/dev/null ||
		fail 'Node.js is missing: install version 20.15 or later (https://nodejs.org/en/download).'

	version=$(node --version)
	major=${version#v}
	minor=${major#*.}
	major=${major%%.*}
	minor=${minor%%.*}
	if [ "$major" -lt 20 ] || { [ "$major" -eq 20 ] && [ "$minor" -lt 15 ]; }; then
		fail "Node.js $version is too old: install version 20.15 or later (https://nodejs.org/en/download)."
	fi
}

install() {
	export DEBIAN_FRONTEND=noninteractive
	echo "Installing: $1"
	keep_services_down
	# Unquoted on purpose: one word for each package.
	# shellcheck disable=SC2086
	{ apt-get update -qq && apt-get install -qq --no-install-recommends $1; } ||
		fail "apt-get could not install $1: see its messages above."
	# The tests start a Prometheus of their own; one that came for them alone is not to run from the next boot on.
	case " $1 " in *' prometheus '*) update-rc.d prometheus disable >/dev/null 2>&1 || true ;; esac
}

# Has packages start none of their services while this script runs (invoke-rc.d(8): 101 is "forbidden by policy"). A policy
# that the machine has already is left as it is.
keep_services_down() {
	policy=/usr/sbin/policy-rc.d
	[ ! -e "$policy" ] || return 0
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
}

fail() {
	echo "install-deps.sh: $1" >&2
	exit 1
}

main "$@"
