# make demo | quick | test | lint | bench | full. Each makes .venv first where it is absent or older than pyproject.toml.
PYTHON ?= python3.11
BIN := .venv/bin
CORES := 2

.PHONY: demo quick test lint bench full clean

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,postgres]"
	touch .venv/installed

demo: .venv/installed ## search a real model over the shipped questions
	$(BIN)/plait demo

test: .venv/installed ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not postgres and not two_node"

quick: .venv/installed ## what needs no cluster, no weights and no run from end to end
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not ray and not weights and not e2e and not slow and not postgres and not two_node"

lint: .venv/installed ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/typecheck.sh

bench: .venv/installed ## every benchmark; the last line of each is JSON
	for script in benchmarks/[a-z]*.py; do case $$script in *baseline.py) ;; *) $(BIN)/python $$script || exit 1;; esac; done

full: .venv/installed ## what is slow, needs PostgreSQL, or starts a second node; property tests on many more examples
	$(BIN)/python -m pytest -m "slow or postgres or two_node"
	$(BIN)/python -m pytest -n 2 --dist loadfile --hypothesis-profile full -o timeout=1800 -m "hypothesis and not slow"
