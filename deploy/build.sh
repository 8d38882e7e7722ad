#!/bin/sh
# Builds what is out of date: native/build (eBPF objects, companions), dist/src and dist/test (the modules, one file for each
# source), dist/bin (the programs, bundled, which start in half the time). What has no source any more goes.
set -eu
cd "$(dirname "$0")/.."

make --silent -C native

stamp=dist/.built
inputs='src test package.json tsconfig.json node_modules/.installed-lock.json deploy/build.sh'
# A source that was deleted or renamed has changed its folder.
# shellcheck disable=SC2086 # the names have no blanks
if [ -e "$stamp" ] && [ -z "$(find $inputs -newer "$stamp" -print -quit)" ]; then exit 0; fi

mkdir -p dist
touch "$stamp.begun"
rm -f "$stamp"
node_modules/.bin/tsc -p .

find dist/src dist/test -name '*.js' | while read -r output; do
  source=${output#dist/}
  [ -e "${source%.js}.ts" ] || rm -f "$output" "$output.map"
done

# koffi has a native part, which finds its place by itself. Packages written for require() get one. What a program imports
# only when it is needed gets a file of its own.
bundle() {
  node_modules/.bin/esbuild "$1" --outdir=dist/bin --entry-names="$2" --splitting --chunk-names="$2-[name]" \
    --bundle --platform=node --format=esm --target=node20 --sourcemap \
    --external:koffi --log-level=warning --legal-comments=none \
    --banner:js='import { createRequire } from "node:module"; const require = createRequire(import.meta.url);'
  chmod +x "dist/bin/$2.js"
}
bundle dist/src/main.js l3af-agent
bundle dist/src/ctl/main.js l3afctl
# The agent looks for it beside itself, under the name of the module.
bundle dist/src/datapath/libbpf/objects/loader-process.js loader-process

mv "$stamp.begun" "$stamp"
