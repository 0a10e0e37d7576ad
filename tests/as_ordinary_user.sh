#!/bin/sh
# The whole of `make test` as an ordinary user: root copies this checkout (and ../shared, where it is there) to a
# temporary folder, and user id 1500 makes an environment of the system's Python there and runs the tests in it.
#
# The model is pulled anew: a cache's entries name their folder, which here is another user's.
#
#   tests/as_ordinary_user.sh [arguments of pytest, instead of make test]
#
# PLAIT_USER_PYTHON: another Python that this user may run. PLAIT_USER_VENV: an environment to use instead of a fresh one.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    echo "as_ordinary_user.sh: run it as root; an ordinary user runs make test" >&2
    exit 2
fi
user=1500
python=${PLAIT_USER_PYTHON:-/usr/bin/python3.11}
if ! "$python" -c "import ensurepip, venv" 2>/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3.11 python3.11-venv >/dev/null
fi
place=$(mktemp -d /tmp/ordinary.XXXXXX)
trap 'rm -rf "$place"' EXIT
mkdir "$place/checkout" "$place/home"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$place/checkout"
if [ -d ../shared ]; then cp -rL ../shared "$place/shared"; fi
chmod 755 "$place"
chown -R "$user:$user" "$place/checkout" "$place/home"

as_user() {
    env -u PLAIT_HOME -u XDG_CACHE_HOME -u RAY_ADDRESS -u RAY_TMPDIR -u PYTHONPATH -u VIRTUAL_ENV \
        HOME="$place/home" USER=ordinary LOGNAME=ordinary \
        setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
}

cd "$place/checkout"
as_user git init -q # some tests ask git for the files
as_user git add -A
if [ -n "${PLAIT_USER_VENV:-}" ]; then
    mkdir "$place/path" && ln -s "$place/checkout" "$place/path/plait"
    as_user env PYTHONPATH="$place/path" "$PLAIT_USER_VENV/bin/python" -m pytest "$@"
elif [ $# -gt 0 ]; then
    as_user make -s .venv/installed PYTHON="$python"
    as_user .venv/bin/python -m pytest "$@"
else
    as_user make test PYTHON="$python"
fi
