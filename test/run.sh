#!/bin/sh
# Runs the tests: all of them as root on a kernel with BPF, else those that need no privileges.
#   test/run.sh [folder or name pattern ...]      e.g. test/run.sh unit kernel/libbpf
set -eu
cd "$(dirname "$0")/.."

groups='unit contract broker fault kernel e2e architecture'
if [ "$(id -u)" != 0 ] || [ ! -e /sys/fs/bpf ]; then
  if [ "${CI:-}" = true ]; then
    echo 'The tests of the kernel need root and a kernel with BPF, and CI must run them.' >&2
    exit 1
  fi
  echo 'Not root, or a kernel without BPF: running the tests that need neither (unit, contract in memory, broker, fault).'
  groups='unit contract broker fault architecture'
fi
[ $# -eq 0 ] || groups=$*

files=''
for group in $groups; do
  files="$files $(find dist/test -path "dist/test/$group*" -name '*.test.js' | sort)"
done
# shellcheck disable=SC2086 # the names have no blanks
exec node --enable-source-maps --expose-gc --test --test-concurrency=2 --test-timeout=240000 --test-reporter=spec $files
