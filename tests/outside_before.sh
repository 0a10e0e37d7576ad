#!/bin/sh
# The cases from outside on the state that they were collected on, and on this one: prints row, before, after. Each must
# fail before by a wrong value or a traceback (not by a name that was missing then) and pass now; else the status is 1.
#
#   tests/outside_before.sh [further arguments of pytest, such as -k judge]
#
# PLAIT_PYTHON: the Python with the packages that both need, instead of .venv/bin/python.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
first=1a73364
python=${PLAIT_PYTHON:-$root/.venv/bin/python}
cd "$root"
if ! git cat-file -e "$first^{commit}" 2>/dev/null; then
    echo "outside_before.sh: commit $first is not in this clone: git fetch --unshallow" >&2
    exit 2
fi
place=$(mktemp -d)
trap 'git worktree remove --force "$place/before" 2>/dev/null; rm -rf "$place"; git worktree prune' EXIT
git worktree add --quiet --detach "$place/before" "$first"
if [ -d ../shared ]; then ln -s "$(cd ../shared && pwd)" "$place/shared"; fi

# The cases, and the servers and helpers beside the tests that they use; no test of then, and nothing of the package.
rm -rf "$place/before/tests/outside"
cp -r tests/outside "$place/before/tests/outside"
for file in tests/*.py; do
    case $file in tests/test_*) ;; *) cp "$file" "$place/before/tests/" ;; esac
done

rows() { # rows NAME CHECKOUT [arguments of pytest]: run the cases on the package that this checkout is
    name=$1 checkout=$2
    shift 2
    mkdir "$place/path-$name"
    ln -s "$checkout" "$place/path-$name/plait"
    : >"$place/$name.jsonl"
    (
        cd "$checkout"
        PLAIT_OUTSIDE_ROWS="$place/$name.jsonl" PYTHONPATH="$place/path-$name" "$python" -m pytest tests/outside \
            -c "$root/pyproject.toml" --rootdir "$checkout" -p no:cacheprovider -o timeout=900 \
            -m "not postgres and not two_node" "$@" >"$place/$name.log" 2>&1
    ) || true # what failed is in the rows
    tail -n 1 "$place/$name.log"
}

rows before "$place/before" "$@"
rows after "$root" "$@"
"$python" tests/outside_table.py "$place/before.jsonl" "$place/after.jsonl"
