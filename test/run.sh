#!/bin/sh
# Runs the tests: all of them as root on a kernel with BPF, else those that need no privileges.
#   test/run.sh [folder or name pattern ...]      e.g. test/run.sh unit kernel/libbpf
# The long ones of test/soak run only when they are asked for.
set -eu
cd "$(dirname "$0")/.."

groups='unit contract broker fault property kernel e2e architecture'
if [ "$(id -u)" != 0 ] || [ ! -e /sys/fs/bpf ]; then
  if [ "${CI:-}" = true ]; then
    echo 'The tests of the kernel need root and a kernel with BPF, and CI must run them.' >&2
    exit 1
  fi
  echo 'Not root, or a kernel without BPF: running the tests that need neither.'
  groups='unit contract broker fault property/memory architecture'
fi
[ $# -eq 0 ] || groups=$*
case $groups in
  soak*) limit_ms=86400000 ;;
  *) limit_ms=240000 ;;
esac

files=''
for group in $groups; do
  files="$files $(find dist/test -path "dist/test/$group*" -name '*.test.js' | sort)"
done
# shellcheck disable=SC2086 # the names have no blanks
exec node --enable-source-maps --expose-gc --test --test-concurrency=3 --test-timeout="$limit_ms" --test-reporter=spec $files
