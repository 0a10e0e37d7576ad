#!/bin/sh
# The lowest versions that pyproject.toml allows: a copy of this checkout, in a fresh environment of exactly those, runs
# the tests that need no cluster, and CoLa end to end. torch alone stays at the version of constraints.txt: an older
# one is gigabytes more. What pulls in what is pip's choice, so only our own bounds are put to the test.
#
#   tests/lower_bounds.sh [arguments of pytest, instead of the usual tests]
set -eu
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/checkout"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$place/checkout"
cd "$place/checkout"
${PYTHON:-python3.11} -m venv "$place/venv"
python="$place/venv/bin/python"
"$python" - <<'END' >"$place/lowest.txt"
import re
import tomllib
from pathlib import Path

tested = dict(line.split("==") for line in Path("constraints.txt").read_text().splitlines() if "==" in line)
project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for line in [*project["dependencies"], *project["optional-dependencies"]["postgres"]]:
    name, floor = re.match(r"([\w-]+(?:\[\w+\])?)>=([\w.]+)", line).groups()
    print(f"{name}=={tested['torch'] if name == 'torch' else floor}")
for name in ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "jsonschema", "ruff", "fastapi", "uvicorn"):  # tools, none of them a dependency
    print(f"{name}=={tested[name]}")
END
"$python" -m pip install --quiet --upgrade pip
"$python" -m pip install --quiet --requirement "$place/lowest.txt"
"$python" -m pip install --quiet --no-deps --editable .
export OMP_NUM_THREADS=1
if [ $# -gt 0 ]; then
    "$python" -m pytest "$@"
    exit
fi
# test_house.py asks git and builds wheels: no matter of versions.
"$python" -m pytest -n 2 --dist loadfile -m "not ray and not slow and not postgres and not two_node" --ignore tests/test_house.py
"$python" -m pytest tests/test_cola.py
