#!/bin/sh
# Brings a checkout to where the agent runs: Debian packages, npm packages, the build. Quick when there is nothing to do.
set -eu
cd "$(dirname "$0")/.."

sh deploy/install-deps.sh

if ! cmp -s package-lock.json node_modules/.installed-lock.json; then
  echo 'npm packages: installing'
  npm ci --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/.installed-lock.json
fi

make --silent -C native
node_modules/.bin/tsc -p .
