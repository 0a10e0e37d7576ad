"""What programs try, at each level that this host offers: the table of docs/security.md, row by row."""

import contextlib
import ctypes
import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from plait.agents.sandbox import SandboxLimits
from plait.agents.sandbox_filter import system_call_filter
from plait.tests.sandbox_levels import LEVELS, forced, runner

SMALL = SandboxLimits(seconds=8.0, cpu_seconds=4, memory_mb=512, files=100, processes=8)
run = runner(SMALL)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "security.md"

SYSCALL = (
    "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(name, *given):\n"
    "    done = getattr(libc, name)(*given)\n"
    "    if done == -1: raise OSError(ctypes.get_errno(), name)\n"
)
"""Calls of the C library that say when they were refused."""
ATTEMPTS = {
    # row of the table: (program that raises where it is refused, what it comes to at each level)
    "reads a run's answers": ("assert '42' in open({gold!r}).read()", "refused open open"),
    "reads a file of the user": ("assert open({secret!r}).read()", "refused open open"),
    "writes where the user can write": ("open({outside!r} + '/written', 'w').close()", "refused open open"),
    "removes a file of the user": ("import os; os.remove({victim!r})", "refused open open"),
    "writes to the interpreter's packages": (
        "import sys, os\nfor place in sys.path:\n"
        "    if os.path.isdir(place) and os.access(place, os.W_OK) and place != os.getcwd(): break\n"
        "else: raise PermissionError", "refused user user",
    ),
    "sees homes, /run and /var": (
        "import os\nassert any(os.path.isdir(p) and os.listdir(p) for p in ('/home', '/run', '/var'))",
        "refused open open",
    ),
    "reads who has an account": ("assert open('/etc/passwd').read()", "refused open open"),
    "finds the package's own examples": ("import os; assert os.listdir({package!r})", "refused open open"),
    "opens a socket that lies in a file": (
        "import socket; socket.socket(socket.AF_UNIX).connect({socket!r})", "refused open open",
    ),
    "opens a socket without a file": (
        "import socket; socket.socket(socket.AF_UNIX).connect({abstract!r})", "refused refused open",
    ),
    "opens a connection to this host": (
        "import socket; socket.create_connection(('127.0.0.1', {port}), 2)", "refused refused open",
    ),
    "sees another process": ("import os; assert os.path.exists('/proc/{pid}')", "refused refused open"),
    "ends another process": ("import os; os.kill({pid}, 0)", "refused refused same"),
    "writes the kernel's settings": (
        "import os\nfor name in ('core_pattern', 'pid_max', 'shmmax'):\n"
        "    path = '/proc/sys/kernel/' + name\n"
        "    if os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY: break\n"
        "else: raise PermissionError", "refused refused root",
    ),
    "attaches shared memory of another process": (
        SYSCALL + "libc.shmat.restype = ctypes.c_ssize_t\ncall('shmat', {shm}, None, 0o10000)",
        "refused refused refused",
    ),
    "holds memory in shared segments": (SYSCALL + "call('shmget', 0, 1 << 20, 0o1600)", "refused refused refused"),
    "holds memory in a memfd": ("import os; os.memfd_create('held')", "refused refused refused"),
    "makes namespaces": (SYSCALL + "call('unshare', 0x10000000)", "refused refused refused"),
    "makes namespaces by another way": (
        "import os, subprocess\nif subprocess.run(['unshare', '--user', 'true'], capture_output=True).returncode:\n"
        "    raise PermissionError", "refused refused refused",
    ),
    "covers /proc": (SYSCALL + "call('mount', b'none', b'/proc', b'tmpfs', 0, None)", "refused refused refused"),
    "keeps a key for later": (
        SYSCALL + "call('syscall', {key}, b'user', b'k', b'v', 1, -5)", "refused refused refused",
    ),
    "traces its keeper": (SYSCALL + "call('ptrace', 16, os.getppid(), 0, 0)", "refused refused refused"),
    "writes in its folder": ("open('here', 'w').write('x')", "open open open"),
    "writes a temporary file": (
        "import tempfile\nwith tempfile.NamedTemporaryFile() as file: file.write(b'x')", "open open open",
    ),
    "shares work among processes": (
        "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1]) == [1]",
        "open open open",
    ),
    "imports numpy": ("import numpy; assert numpy.ones(3).sum() == 3", "open open open"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outside():
    """What programs try to reach: files of the user, sockets, a process, shared memory. Nothing of the host's own."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-outside-")))
        place.chmod(0o777)
        for name, text in (("items.jsonl", '{"gold": 42}'), ("secret", "key"), ("victim", "kept")):
            (place / name).write_text(text)
        file_socket, bare, net = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.socket()
        for each in (file_socket, bare, net):
            stack.enter_context(each)
        abstract = f"\0plait-test-{os.getpid()}"
        file_socket.bind(str(place / "socket"))
        (place / "socket").chmod(0o777)
        bare.bind(abstract)
        net.bind(("127.0.0.1", 0))
        for each in (file_socket, bare, net):
            each.listen(64)
        held = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(held.kill)
        libc = ctypes.CDLL(None)
        segment = libc.shmget(0, 4096, 0o1666)
        stack.callback(libc.shmctl, segment, 0, None)
        yield {
            "gold": str(place / "items.jsonl"), "secret": str(place / "secret"), "victim": str(place / "victim"),
            "outside": str(place), "socket": str(place / "socket"), "abstract": abstract,
            "key": {"aarch64": 217}.get(os.uname().machine, 248), "port": net.getsockname()[1],
            "pid": held.pid, "shm": segment,
            "package": str(Path(__file__).resolve().parents[1] / "agents"),
        }  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_comes_to_what_the_page_says(attempt, level, outside, monkeypatch):
    host = forced(monkeypatch, level)
    program, meant = ATTEMPTS[attempt]
    expected = dict(zip(LEVELS, meant.split(), strict=True))[level]
    if not host.filtered and expected == "refused" and level != "bubblewrap":
        pytest.skip("no filter of system calls on this machine")
    if expected in {"user", "root", "same"}:  # it depends on who runs programs
        if expected == "user":
            site = Path(os.__file__).parent
            opens = any(os.access(place, os.W_OK) for place in (site, Path(pytest.__file__).parents[1]))
            opens = opens and not host.nobody
        else:
            opens = host.root if expected == "root" else not host.nobody
        expected = "open" if opens else "refused"
    if "package" in program and not readable_by_all(outside["package"]) and host.nobody:
        pytest.skip("nobody cannot read this checkout")
    Path(outside["victim"]).write_text("kept")
    ran = run(re.sub(r"\{(\w+)(!r)?\}", lambda found: shown(outside[found[1]], found[2]), program))
    assert ran.ok == (expected == "open"), ran
    if expected == "refused":
        assert re.search(r"OSError|PermissionError|FileNotFoundError|ConnectionRefused|ProcessLookup|AssertionError",
                         ran.stderr), ran  # fmt: skip


def shown(value: object, as_python: str | None) -> str:
    return repr(value) if as_python else str(value)


def readable_by_all(place: str) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (Path(place), *Path(place).parents))


LIMITS = {
    "files in a folder closed to listing": (
        "import os\nos.mkdir('in')\nfor n in range(200): open(f'in/{n}', 'w').close()\nos.chmod('in', 0)", "Files",
    ),
    "files deeper than a path is long": (
        "import os\nfor _ in range(40):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n"
        "for n in range(200): open(str(n), 'w').close()", "Files",
    ),
    "folders closed one in another": (
        "import os\nos.makedirs('a/b')\nfor n in range(200): open(f'a/b/{n}', 'w').close()\n"
        "os.chmod('a/b', 0); os.chmod('a', 0); os.chmod('.', 0)", "Files",
    ),
    "a program that takes all memory": ("held = bytearray(2 << 30)", "Exit Memory"),
}  # fmt: skip
IN_MEMORY = {
    "memory in temporary files": (
        "for n in range(90):\n    with open(f'/tmp/{n}', 'wb') as file: file.write(bytes(15 << 20))", "Memory Exit",
    ),
    "memory in shared memory files": (
        "for n in range(90):\n    with open(f'/dev/shm/{n}', 'wb') as file: file.write(bytes(15 << 20))",
        "Memory Exit",
    ),
    "many temporary files": ("for n in range(5000): open(f'/tmp/{n}', 'w').close()", "Files"),
    "files in other places": ("for n in range(9):\n    open(f'/dev/{n}', 'w').close()", "Exit"),
}  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("attempt", LIMITS)
def test_a_limit_holds_at_each_level(attempt, level, monkeypatch):
    forced(monkeypatch, level)
    program, reasons = LIMITS[attempt]
    ran = run(program)
    assert (ran.ok, ran.reason in reasons.split()) == (False, True), ran


@pytest.mark.parametrize("attempt", IN_MEMORY)
def test_a_views_memory_is_bounded(attempt, monkeypatch):
    forced(monkeypatch, "bubblewrap")
    program, reasons = IN_MEMORY[attempt]
    ran = run(program)
    assert (ran.ok, ran.reason in reasons.split()) == (False, True), ran


@pytest.mark.parametrize("level", LEVELS)
def test_a_closed_folder_keeps_its_mode_and_costs_nothing(level, monkeypatch):
    forced(monkeypatch, level)
    program = (
        "import os, stat, time\nos.makedirs('a/b')\nos.chmod('a/b', 0o200)\nos.chmod('a', 0)\ntime.sleep(0.4)\n"
        "for _ in range(50):\n    mode = stat.S_IMODE(os.stat('a').st_mode)\n    if mode == 0: break\n"
        "    time.sleep(0.01)\nprint(mode)\nos.chmod('a', 0o700)\nprint(oct(os.stat('a/b').st_mode)[-3:])"
    )
    ran = run(program)
    assert (ran.ok, ran.stdout) == (True, "0\n200\n"), ran


def test_programs_of_one_host_do_not_share_their_limit_of_processes(monkeypatch):
    """A program's processes are its own, however many its neighbours have."""
    import asyncio

    from plait.agents.sandbox import Sandbox

    forced(monkeypatch, "bubblewrap")
    program = (
        "import os, time\nfor _ in range(5):\n    if not os.fork():\n        time.sleep(1.5)\n        os._exit(0)\n"
        "for _ in range(5): os.wait()\nprint('all')"
    )

    async def many():
        box = Sandbox(SMALL)
        return await asyncio.gather(*[box.run(program) for _ in range(6)])

    assert [ran.stdout for ran in asyncio.run(many())] == ["all\n"] * 6


def test_the_filter_has_an_entry_for_each_machine_and_none_elsewhere():
    for machine in ("x86_64", "aarch64"):
        rules = system_call_filter(machine)
        assert len(rules) % 8 == 0
        assert 30 < len(rules) // 8 < 256  # a jump is a byte
    assert system_call_filter("riscv64") == b""


@pytest.mark.parametrize("level", LEVELS)
def test_doctor_says_which_level_holds_and_what_it_leaves_open(level, monkeypatch):
    from plait.orchestrator.doctor import _sandbox

    host = forced(monkeypatch, level)
    checks = {check.name: check for check in _sandbox()}
    first = checks["sandbox"]
    assert (first.status == "ok") == (level == "bubblewrap")
    assert first.detail.startswith(level)
    if level == "bubblewrap":
        assert "no network" in first.detail
    else:
        assert "answers" in first.detail
        assert ("bubblewrap" if level == "namespaces" else "allow_network") in first.advice
    assert ("sandbox calls" in checks) == (not host.filtered)


ROWS = {
    "reads a run's answers": ["reads a run's answers"],
    "reads other files of the user": [
        "reads a file of the user", "sees homes, /run and /var", "reads who has an account",
        "finds the package's own examples",
    ],
    "writes or removes files outside": ["writes where the user can write", "removes a file of the user"],
    "writes to the interpreter's packages": ["writes to the interpreter's packages"],
    "connects to a socket that lies in a file": ["opens a socket that lies in a file"],
    "connects to a socket without a file": ["opens a socket without a file", "opens a connection to this host"],
    "sees other processes": ["sees another process"],
    "signals other processes": ["ends another process"],
    "writes the kernel's settings": ["writes the kernel's settings"],
    "covers `/proc`, mounts": ["covers /proc", "makes namespaces", "makes namespaces by another way"],
    "attaches SysV memory": ["attaches shared memory of another process", "holds memory in shared segments"],
    "holds memory in a memfd": ["holds memory in a memfd"],
    "leaves keys in the kernel": ["keeps a key for later", "traces its keeper"],
}  # fmt: skip
"""Rows of the table by how they begin, and the attempts that show them."""
ELSEWHERE = {
    "reads the caller's environment": "test_nothing_of_the_callers_environment_is_inside",
    "runs on after its time": "test_a_hazard_is_contained_and_passes_nothing",
    "takes more memory than allowed, in one": "test_a_limit_holds_at_each_level",
    "takes more memory than allowed, in several": "test_processes_are_bounded_and_end_with_the_run",
    "takes memory through files": "test_a_views_memory_is_bounded",
    "makes more files than allowed in its folder": "test_a_limit_holds_at_each_level",
    "makes more files than allowed elsewhere": "test_a_views_memory_is_bounded",
    "writes more than 64 KiB": "test_output_is_cut_and_output_at_the_limit_is_kept",
    "makes more processes than allowed": "test_processes_are_bounded_and_end_with_the_run",
    "removes, renames or closes its folder": "test_nothing_outside_the_folder_is_touched",
}
"""Rows that other tests show."""


def test_the_pages_table_says_what_the_attempts_show():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| [a-z]", line)]
    table = {cells[1].strip(): cells[2:5] for line in lines if len(cells := line.split("|")) == 6}
    table.pop("a program that")
    assert len(table) == len(ROWS) + len(ELSEWHERE)
    tests = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("**/test_*sandbox*.py")))
    for row, levels in table.items():
        (begun,) = [name for name in (*ROWS, *ELSEWHERE) if row.startswith(name)]
        for name in ROWS.get(begun, ()):
            for cell, meant in zip(levels, ATTEMPTS[name][1].split(), strict=True):
                if meant in {"open", "refused"}:
                    assert ("**no**" not in cell) == (meant == "refused"), (row, name)
                else:
                    assert cell.strip() not in {"yes", "**no**"}, (row, name)
        assert begun in ROWS or f"def {ELSEWHERE[begun]}(" in tests, row
    assert {name for names in ROWS.values() for name in names} == {
        name for name, (_, meant) in ATTEMPTS.items() if meant != "open open open"
    }
