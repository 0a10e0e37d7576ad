#!/bin/sh
# The checkout's folder may have any name; the package is called plait. A link of that name lets mypy find it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
ln -s "$root" "$place/plait"
cd "$place"
mypy --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" -p plait --exclude 'tests|benchmarks|build'
