"""Programs of agents: whatever one does to its folder, nothing outside is touched and its item keeps its score."""

import asyncio
import os
import stat
import tempfile
from pathlib import Path

import pytest
from plait.agents.sandbox import Sandbox

HOSTILE = {
    "removes its folder": "import shutil, os\nshutil.rmtree(os.getcwd(), ignore_errors=True)",
    "renames its folder": "import os\nhere = os.getcwd()\ntry: os.rename(here, here + '-moved')\nexcept OSError: pass",
    "puts a link in its place": (
        "import os, shutil\nhere = os.getcwd()\n"
        "try:\n    os.rename(here, here + '-moved'); os.symlink({outside!r}, here)\nexcept OSError: pass"
    ),
    "closes its folder": "import os\nos.mkdir('in'); open('in/f', 'w').close(); os.chmod('in', 0); os.chmod('.', 0)",
    "nests deeper than a stack": "import os\nfor _ in range(200):\n    os.mkdir('d'); os.chdir('d')",
    "leaves a fifo and a link": "import os\nos.mkfifo('f'); os.symlink({outside!r}, 'l')",
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A temporary folder of the test's own, with the mode of /tmp, and a folder outside that nothing may touch."""
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    for place in (shared, outside):
        place.mkdir()
    (outside / "kept").write_text("kept")
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == os.geteuid() and place != Path("/"):
            place.chmod(place.stat().st_mode | 0o711)
        if place == Path(tempfile.gettempdir()):
            break
    shared.chmod(0o1777)
    outside.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    return shared, outside


@pytest.mark.row("D: a program removes, renames or swaps its folder")
def test_nothing_outside_the_folder_is_touched(places):
    shared, outside = places
    for name, program in HOSTILE.items():
        ran = asyncio.run(Sandbox().run(program.format(outside=str(outside)) if "{" in program else program))
        assert ran.reason in {"", "Files", "Exit"}, name
        assert stat.S_IMODE(shared.stat().st_mode) == 0o1777, name
        assert stat.S_IMODE(outside.stat().st_mode) == 0o755, name
        assert (outside / "kept").read_text() == "kept", name
    left = [place for place in shared.iterdir() if any(place.iterdir())]
    assert left == []


@pytest.mark.row("D: a program removes, renames or swaps its folder")
def test_a_right_program_that_removes_its_folder_keeps_its_score(places):
    shared, _ = places
    program = "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)\ndef f(x):\n    return x + 1\n"
    checked = asyncio.run(Sandbox().check(program, ["assert f(1) == 2"]))
    assert (checked.passed, checked.total) == (1, 1)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


@pytest.mark.row("D: a host that refuses namespaces runs no team at all")
def test_a_sandbox_that_runs_nothing_needs_no_namespaces(monkeypatch):
    from plait.agents import sandbox as module

    class Refuses:
        namespaces, problem, proc, capped, nobody, command = False, "Operation not permitted", False, False, False, ()

    monkeypatch.setattr(module, "host", lambda: Refuses)
    box = Sandbox()
    with pytest.raises(Exception, match="allow_network"):
        asyncio.run(box.run("print(1)"))
