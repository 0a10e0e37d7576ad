"""The README's Python examples run, and its test command is the Makefile's.

`make test` runs them with small budgets, `make full` as they stand.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


SHORT = {"simulations=20": "simulations=2", "budget=40, final_epochs=10": "budget=6, final_epochs=1, seeds=1"}


def ran(code, folder):
    (folder / "example.py").write_text(code)
    return subprocess.run(
        [sys.executable, "example.py"], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.ray
@pytest.mark.weights
@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example_runs_short(index, smollm2, tmp_path):
    code = EXAMPLES[index]
    for text, other in SHORT.items():
        code = code.replace(text, other)
    done = ran(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_every_short_form_is_of_an_example():
    for text in SHORT:
        assert any(text in example for example in EXAMPLES), f"README no longer says {text}"


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example_runs(index, tmp_path):
    done = ran(EXAMPLES[index], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


TEST = 'pytest -n 2 --dist loadfile -m "not slow and not postgres and not two_node"'


def test_there_are_examples_and_the_test_command_is_the_makefiles():
    assert len(EXAMPLES) >= 2
    for name in ("README.md", "Makefile"):
        assert TEST in (ROOT / name).read_text()
