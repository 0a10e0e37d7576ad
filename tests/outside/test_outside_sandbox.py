"""Programs of agents: whatever one does to its folder, nothing outside is touched and its item keeps its score."""

import asyncio
import ctypes
import json
import os
import re
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest
import yaml
from plait.agents.sandbox import Sandbox
from plait.tests.fault_server import FaultServer, text

needs_view = pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bwrap: programs have no view of their own")
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


def passed_through(inside):
    """Let programs that are nobody pass through the test's own folders: those below the temporary folder."""
    above = Path(tempfile.gettempdir())
    for place in (inside, *inside.parents):
        if not place.is_relative_to(above) or place == above:
            break
        if place.stat().st_uid == os.geteuid():
            place.chmod(place.stat().st_mode | 0o711)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A temporary folder of the test's own, with the mode of /tmp, and a folder outside that nothing may touch."""
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    for place in (shared, outside):
        place.mkdir()
    (outside / "kept").write_text("kept")
    passed_through(tmp_path)
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


def refused(program: str) -> bool:
    """Whether a program that does something forbidden is kept from it; True also where the host offers no way."""
    ran = asyncio.run(Sandbox().run(f"{program}\nprint('DONE')"))
    return "DONE" not in ran.stdout


@pytest.mark.row("D: python-tool agent reads the run folder's items.jsonl")
@needs_view
@pytest.mark.parametrize("name", ["items.jsonl", "test.jsonl", "ledger.db", "deep/inside/gold.json"])
def test_a_run_folders_answers_are_not_there(places, name):
    _, outside = places
    path = outside / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"question": "6 * 7", "gold": 42}')
    reads = f"import json\nprint(json.load(open({str(path)!r}))['gold'])"
    assert "42" not in asyncio.run(Sandbox().run(reads)).stdout
    walks = (
        "import os\nfor top, _, files in os.walk('/'):\n    if top.startswith('/proc'): continue\n"
        f"    if {path.name!r} in files and {outside.name!r} in top: print('seen', top); break"
    )
    assert asyncio.run(Sandbox().run(walks)).stdout == ""


@pytest.mark.row("D: python-tool agent reads the run folder's items.jsonl")
@needs_view
def test_an_agent_that_reads_the_answers_out_of_the_run_folder_has_none_right(plait, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    schema = {"kind": "number"}
    agent = {"name": "coder", "output": schema, "tools": ["python"]}
    layer = {"name": "solve", "task": "Answer.", "blocks": [{"name": "one", "agents": [agent]}]}
    (tmp_path / "team.yaml").write_text(yaml.safe_dump({"layers": [layer], "answer": schema}))
    rows = [{"question": f"Case {n}: how many?", "kind": "number", "gold": 7000 + n} for n in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    passed_through(tmp_path)

    def reply(index, body):
        case = re.search(r"Case (\d+)", json.dumps(body))[1]
        cheat = (
            f"import json\nfor name in ('run/items.jsonl', 'data.jsonl'):\n"
            f"    for row in map(json.loads, open({str(tmp_path)!r} + '/' + name)):\n"
            f"        if 'Case {case}:' in row['question']: print(row['gold']); raise SystemExit"
        )
        return text(f"```python\n{cheat}\n```")

    with FaultServer(reply, keep=False) as server:
        code, _, err = plait(
            "team", "run", "team.yaml", "--data", "data.jsonl", "--model", f"openai:m@{server.url}", "--out", "run",
            "--json", "--quiet",
        )  # fmt: skip
    assert code == 0, err
    answers = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [row["score"] for row in answers] == [0, 0, 0]


@pytest.mark.row("D: unix socket, SysV shared memory, kernel settings, writing to the user's files")
@needs_view
def test_a_program_writes_nowhere_but_in_its_folder(places):
    _, outside = places
    outside.chmod(0o777)
    assert refused(f"open({str(outside / 'written')!r}, 'w').close()")
    assert refused("import sys, os\nassert any(os.access(p, os.W_OK) for p in sys.path if 'packages' in p)")
    assert sorted(path.name for path in outside.iterdir()) == ["kept"]
    assert asyncio.run(Sandbox().run("import os\nos.makedirs('a'); open('a/b', 'w').write('x')")).ok


@pytest.mark.row("D: unix socket, SysV shared memory, kernel settings, writing to the user's files")
@needs_view
def test_a_socket_of_another_process_is_not_there(places):
    _, outside = places
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(outside / "s"))
        server.listen()
        (outside / "s").chmod(0o777)
        assert refused(f"import socket\nsocket.socket(socket.AF_UNIX).connect({str(outside / 's')!r})")


@pytest.mark.row("D: unix socket, SysV shared memory, kernel settings, writing to the user's files")
def test_shared_memory_outlives_no_program():
    key = 0x50000000 | os.getpid() & 0xFFFFFF
    make = f"import ctypes\nprint(ctypes.CDLL(None).shmget({key}, 1 << 20, 0o1666) >= 0)"
    said = asyncio.run(Sandbox().run(make)).stdout
    libc = ctypes.CDLL(None)
    left = libc.shmget(key, 0, 0)
    if left >= 0:
        libc.shmctl(left, 0, None)
    assert (said, left) == ("False\n", -1)


@pytest.mark.row("D: unix socket, SysV shared memory, kernel settings, writing to the user's files")
@pytest.mark.parametrize("name", ["kernel/core_pattern", "kernel/pid_max", "vm/overcommit_memory"])
def test_the_kernels_settings_cannot_be_written(name):
    """Looked at by the mode alone, never by writing."""
    looks = (
        f"import os\npath = '/proc/sys/{name}'\n"
        "assert os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY"
    )
    assert refused(looks)


@pytest.mark.row("D: unix socket, SysV shared memory, kernel settings, writing to the user's files")
def test_proc_cannot_be_covered_and_namespaces_cannot_be_made():
    libc = "import ctypes\nlibc = ctypes.CDLL(None)\n"
    assert refused(f"{libc}assert libc.mount(b'none', b'/proc', b'tmpfs', 0, None) == 0")
    assert refused(f"{libc}assert libc.unshare(0x10000000) == 0")


@pytest.mark.row("D: memory by memfd or tmpfs, files in folders that cannot be listed")
def test_memory_that_no_process_maps_is_not_to_be_had():
    assert refused("import os\nheld = os.memfd_create('held')\nos.write(held, bytes(1 << 20))")


@pytest.mark.row("D: memory by memfd or tmpfs, files in folders that cannot be listed")
@pytest.mark.parametrize("where", ["closed", "deep", "all closed"])
def test_files_are_counted_wherever_they_lie(where):
    program = {
        "closed": "import os\nos.mkdir('in', 0o300)\n"
                  "for n in range(400): open(f'in/{n}', 'w').close()\nos.chmod('in', 0)",
        "deep": "import os\nfor _ in range(30):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n"
                "for n in range(400): open(str(n), 'w').close()",
        "all closed": "import os\nos.makedirs('a/b')\nos.chmod('a/b', 0o300)\n"
                      "for n in range(400): open(f'a/b/{n}', 'w').close()\n"
                      "for name in ('a/b', 'a', '.'): os.chmod(name, 0)",
    }[where]  # fmt: skip
    assert asyncio.run(Sandbox().run(f"{program}\nimport time\ntime.sleep(0.5)")).reason == "Files"


@pytest.mark.row("D: a host that refuses namespaces runs no team at all")
def test_a_sandbox_that_runs_nothing_needs_no_namespaces(monkeypatch):
    from plait.agents import sandbox as module

    class Refuses:
        namespaces, problem, proc, capped, nobody, command = False, "Operation not permitted", False, False, False, ()

    monkeypatch.setattr(module, "host", lambda: Refuses)
    box = Sandbox()
    with pytest.raises(Exception, match="allow_network"):
        asyncio.run(box.run("print(1)"))
