"""The README's Python examples run as they stand, and its test command is the Makefile's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example_runs(index, tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLES[index])
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


TEST = 'pytest -n 2 --dist loadfile -m "not slow and not postgres and not two_node"'


def test_there_are_examples_and_the_test_command_is_the_makefiles():
    assert len(EXAMPLES) >= 2
    for name in ("README.md", "Makefile"):
        assert TEST in (ROOT / name).read_text()
