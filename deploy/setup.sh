#!/bin/sh
# Brings a checkout to where the agent runs: Debian packages, npm packages, the build. Quick when there is nothing to do.
#
#   deploy/setup.sh           for the agent and the demo
#   deploy/setup.sh --test    for the tests too
set -eu
cd "$(dirname "$0")/.."

sh deploy/install-deps.sh "$@"
case " $* " in *' --test '*) sh deploy/test-nats.sh ;; esac

if ! cmp -s package-lock.json node_modules/.installed-lock.json; then
  echo 'npm packages: installing'
  npm ci --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/.installed-lock.json
fi

sh deploy/build.sh
