#!/bin/sh
# Makes the release: one archive with everything that a host needs but libbpf and iproute2. It installs without a registry and
# without a compiler. Below dist/release: l3af-agent-<version>-linux-<architecture>.tar.gz and, beside it, its SHA-256.
#
# The same commit gives the same bytes on the same architecture, with the same versions of Node.js, clang and tar.
set -eu
cd "$(dirname "$0")/.."

sh deploy/setup.sh

version=$(node -p 'require("./package.json").version')
name="l3af-agent-$version-linux-$(node -p process.arch)"
release=dist/release
folder="$release/$name"
rm -rf "$release"
mkdir -p "$folder/dist" "$folder/native/build"

cp -r package.json package-lock.json .npmrc LICENSE README.md schemas deploy "$folder/"
cp -r dist/bin dist/src "$folder/dist/"
cp native/build/*.bpf.o "$folder/native/build/"
find "$folder/dist" -name '*.map' -delete
(cd "$folder" && npm ci --omit=dev --no-audit --no-fund --loglevel=error)
rm "$folder/node_modules/.package-lock.json"

# What was changed on the way, or by hand later, shows: sha256sum --check --quiet SHA256SUMS.
(cd "$folder" && find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS)

tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=u=rwX,go=rX -C "$release" -cf - "$name" | gzip -n >"$folder.tar.gz"
(cd "$release" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
rm -rf "$folder"
echo "$folder.tar.gz"
