"""The sandbox: every hazard is contained within its limit, and none passes; every reference solution does."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from plait.agents import sandbox_host, sandbox_process
from plait.agents.sandbox import Checked, Ran, Sandbox, SandboxLimits, SandboxModel, sandbox_of
from plait.agents.sandbox_asserts import guarded
from plait.errors import SpecError
from plait.graphs import Upper
from plait.models.chat import CallFailed, ChatModel
from plait.orchestrator.calls import CallWorker, Metered
from plait.orchestrator.limiter import Limiter
from plait.records import Request, Scored
from pydantic import BaseModel

TEXT = Path(__file__).resolve().parents[2] / "shared" / "data" / "text"
ISOLATED = sandbox_process.host().namespaces
needs_namespaces = pytest.mark.skipif(not ISOLATED, reason="this host offers no user, network and pid namespaces")
SMALL = SandboxLimits(seconds=4.0, cpu_seconds=2, memory_mb=512, files=100, processes=8)
TIGHT = SandboxLimits(seconds=4.0, cpu_seconds=2, memory_mb=128, files=100, processes=8)
OVER = 2.0
"""Seconds over its limit within which a run has ended."""
ANSWER = "def answer():\n    return 42\n"
TESTS = ("assert answer() == 42", "assert answer() + 1 == 43")


def run(program: str, limits: SandboxLimits = SMALL, **given) -> Ran:
    return asyncio.run(Sandbox(limits, allow_network=not ISOLATED).run(program, **given))


def check(program: str, tests=TESTS, limits: SandboxLimits = SMALL, **given) -> Checked:
    return asyncio.run(Sandbox(limits, allow_network=not ISOLATED).check(program, tests, **given))


def folders_left() -> set[str]:
    import tempfile

    return {path.name for path in Path(tempfile.gettempdir()).glob("plait-sandbox-*")}


HAZARDS = {
    "an endless loop": ("while True: pass", {"Timeout"}),
    "an endless loop deaf to signals": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", {"Timeout"},
    ),
    "an endless sleep": ("import time\ntime.sleep(1000)", {"Timeout"}),
    "an endless loop that swallows errors": (
        "import signal, time\nfor each in set(signal.Signals) - {9, 19}:\n"
        "    try: signal.signal(each, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True:\n    try: time.sleep(0.01)\n    except BaseException: pass", {"Timeout"},
    ),
    "an allocation of 4 GiB": ("held = bytearray(4 << 30)", {"Memory"}),
    "an allocation that grows": ("held = []\nwhile True: held.append('x' * (1 << 24))", {"Memory"}),
    "1 GiB of output": ("import sys\nfor _ in range(1 << 14): sys.stdout.write('x' * (1 << 16))", {"Output"}),
    "1 GiB of errors": ("import os\nfor _ in range(1 << 14): os.write(2, b'x' * (1 << 16))", {"Output"}),
    "1 GiB in a file": (
        "with open('big', 'wb') as file:\n    for _ in range(1 << 10): file.write(bytes(1 << 20))", {"Exit"},
    ),
    "10,000 files": ("for n in range(10_000):\n    with open(f'f{n}', 'w') as file: file.write('x')", {"Files"}),
    "10,000 open files": ("held = [open('one', 'w') for _ in range(10_000)]", {"Exit"}),
    "10,000 folders": ("import os\nfor n in range(10_000): os.makedirs(f'a{n % 9}/b{n}')", {"Files"}),
    "a chain of folders": (
        "import os\nfor n in range(5_000):\n    os.mkdir('a')\n    os.chdir('a')\nos.mkdir('b', 0)", {"Files"},
    ),
    "a recursion": ("def f(): f()\nf()", {"Exit"}),
    "a crash": ("import ctypes\nctypes.string_at(0)", {"Killed"}),
    "exit(0)": ("exit(0)", {"Exit"}),
    "sys.exit()": ("import sys\nsys.exit()", {"Exit"}),
    "raise SystemExit": ("raise SystemExit(0)", {"Exit"}),
    "os._exit(0)": ("import os\nos._exit(0)", {"Exit"}),
    "a kill of itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", {"Killed"}),
    "a kill of its parent": ("import os\nos.kill(os.getppid(), 9)\nexit(0)", {"Exit", "Killed"}),
    "another program in its place": ("import os\nos.execv('/bin/true', ['true'])", {"Exit"}),
    "closed descriptors": ("import os\nos.closerange(0, 64)\n" + ANSWER, {"Exit"}),
}  # fmt: skip


@pytest.mark.parametrize("hazard", HAZARDS)
def test_a_hazard_is_contained_and_passes_nothing(hazard):
    program, reasons = HAZARDS[hazard]
    before = folders_left()
    checked = check(program, limits=TIGHT)
    assert (checked.passed, checked.total, checked.all_pass) == (0, 2, False)
    assert checked.reason in reasons, checked
    assert checked.detail
    assert checked.seconds < TIGHT.seconds + OVER
    assert folders_left() <= before


ENDINGS = {
    "a test that ends everything with code 0": ("import os\ndef answer(): os._exit(0)", "Exit"),
    "a test that raises SystemExit": ("def answer(): raise SystemExit(0)", "Failed"),
    "a test that never ends": ("def answer():\n    while True: pass", "Timeout"),
    "a test that takes all memory": ("def answer(): return bytearray(4 << 30)", "Memory"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_tests_before_an_early_end_count_and_those_from_it_on_do_not(ending):
    program, reason = ENDINGS[ending]
    checked = check(
        program, limits=TIGHT, tests=("assert 1 + 1 == 2", "assert answer() == 42", "assert answer() == 43")
    )
    assert (checked.passed, checked.all_pass, checked.reason) == (1, False, reason), checked
    assert "test 2 of 3: assert answer() == 42" in checked.detail


def test_a_run_that_is_stopped_for_what_it_uses_passes_nothing():
    """How far it had come would be chance."""
    tests = ("assert 1 + 1 == 2", "assert answer() == 42")
    loud = f"def answer():\n    print('x' * {(TIGHT.output_kb << 10) + 1})\n    return 42"
    littering = "def answer():\n    for n in range(200): open(str(n), 'w').close()\n    return 42"
    for program, reason in ((loud, "Output"), (littering, "Files")):
        checked = check(program, tests, TIGHT)
        assert (checked.passed, checked.all_pass, checked.reason) == (0, False, reason), checked


TRICKS = {
    "an object that equals everything": "class E:\n    def __eq__(self, other): return True\ndef answer(): return E()",
    "one that hides behind a metaclass": (
        "class M(type):\n    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n"
        "class E(metaclass=M): pass\ndef answer(): return E"
    ),
    "one that says it is an int": (
        "class E(int):\n    def __eq__(self, other): return True\n    def __add__(self, other): return self\n"
        "    __class__ = int\nE.__module__ = 'builtins'\nE.__name__ = E.__qualname__ = 'int'\n"
        "def answer(): return E()"
    ),
    "one in a list": (
        "class E:\n    def __eq__(self, other): return True\n    def __add__(self, other): return [self]\n"
        "def answer(): return E()"
    ),
    "a replaced AssertionError": (
        "import builtins\nclass Quiet(BaseException): pass\nbuiltins.AssertionError = Quiet\n"
        "AssertionError = Quiet\ndef answer(): return 0"
    ),
    "a monkeypatched assert": (
        "import builtins, sys\n__debug__and = True\nbuiltins.__dict__['__debug__'] = False\n"
        "sys.flags = type('F', (), {'optimize': 2})()\ndef answer(): return 0"
    ),
    "a trace that jumps over the tests": (
        "import sys\ndef jump(frame, event, value):\n"
        "    if event == 'line' and frame.f_code.co_filename == 'test.py':\n"
        "        try: frame.f_lineno = frame.f_lineno + 1\n        except ValueError: pass\n"
        "    return jump\nsys.settrace(jump)\ndef answer(): return 0"
    ),
    "a replaced compile and exec": (
        "import builtins\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a: 0\ndef answer(): return 0"
    ),
    "a replaced comparison": "def __compare__(*a): return True\ndef answer(): return 0",
    "a token that it makes up": (
        "print('{\"test\": 0, \"token\": \"' + '0' * 32 + '\"}', flush=True)\nimport os\n"
        "for fd in range(3, 32):\n    for n in (0, 1):\n"
        "        try: os.write(fd, b'{\"test\": %d, \"token\": \"%s\"}\\n' % (n, b'0' * 32))\n"
        "        except OSError: pass\nos._exit(0)"
    ),
    "a test that passes itself on exit": "import atexit, os\natexit.register(os._exit, 0)\ndef answer(): return 0",
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_passes_nothing(trick):
    checked = check(TRICKS[trick])
    assert (checked.passed, checked.all_pass) == (0, False), checked


@pytest.mark.parametrize("name", ["set", "sorted", "all", "isinstance", "abs"])
def test_a_builtin_of_the_programs_own_means_pythons_in_tests(name):
    program = f"class Yes:\n    def __eq__(self, other): return True\n{name} = lambda *a, **k: 1\n{ANSWER}"
    tests = {
        "set": "assert set([answer()]) == set([1])", "sorted": "assert sorted([answer()]) == sorted([1])",
        "all": "assert all([answer() == 1])", "isinstance": "assert isinstance(answer(), str)",
        "abs": "assert abs(answer() - 1) < 1e-6",
    }  # fmt: skip
    assert check(program, [tests[name]]).passed == 0
    assert check(program, [tests[name].replace("1]", "42]").replace("== 1", "== 42").replace("str", "int")
                           .replace("- 1)", "- 42)")]).all_pass  # fmt: skip


def test_the_function_under_test_may_have_a_builtins_name():
    program = "def sum(a, b):\n    return a * b"
    assert check(program, ["assert sum(3, 4) == 12"], entry_point="sum").all_pass


def test_the_programs_own_classes_may_be_compared_with_each_other():
    program = "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef make(x): return P(x)"
    assert check(program, ["assert make(1) == P(1)", "assert make(1) != P(2)", "assert [make(1)] == [P(1)]"]).all_pass
    assert check(program, ["assert make(1) == P(2)"]).passed == 0


NEAR = "class Near:\n    def __init__(self, x): self.x = x\n    def __eq__(self, other): return abs(self.x - other) < 1"
POINT = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int"


@pytest.mark.parametrize(
    ("program", "tests", "setup", "passed"),
    [
        (ANSWER, (f"{NEAR}\nassert answer() == Near(42.5)", "assert Near(42) == answer()"), "", 2),
        (ANSWER, ("assert answer() == Near(42.5)",), NEAR, 1),
        ("def answer():\n    return 7\n", (f"{NEAR}\nassert answer() == Near(42.5)",), "", 0),
        (ANSWER, (f"{POINT}\nassert Point(answer()) == Point(42)", "assert [Point(answer())] == [Point(42)]"), "", 2),
        (f"{POINT}\ndef answer(): return Point(42)", ("assert answer() == Point(42)",), POINT, 0),
        (f"{NEAR}\ndef answer(): return Near(42)", ("assert answer() == 42",), "", 0),
        ("class E:\n    def __eq__(self, other): return True\nE.__module__ = 'tests'\ndef answer(): return E()",
         ("assert answer() == 42",), "", 0),
        ("class Near:\n    def __eq__(self, other): return True\ndef answer(): return Near()",
         (f"{NEAR}\nassert answer() == Near(42)",), "", 0),
        ("import functools\nclass E:\n    __eq__ = functools.partial(lambda *a: True)\ndef answer(): return E()",
         ("assert answer() == 42",), "", 0),
    ],
)  # fmt: skip
def test_a_helper_class_of_the_tests_compares_and_none_of_the_program(program, tests, setup, passed):
    assert check(program, tests, setup=setup).passed == passed


def test_classes_of_libraries_are_compared_as_ever():
    program = (
        "from collections import Counter, OrderedDict, namedtuple\nfrom decimal import Decimal\n"
        "from fractions import Fraction\nimport numpy\nPair = namedtuple('Pair', 'a b')\n"
        "def pair(): return Pair(1, 2)\n"
    )
    tests = [
        "assert Counter('aab') == {'a': 2, 'b': 1}", "assert Decimal(2) == 2", "assert Fraction(1, 2) == 0.5",
        "assert pair() == (1, 2)", "assert OrderedDict(a=1) == {'a': 1}", "assert numpy.int64(3) == 3",
        "assert (numpy.arange(3) == [0, 1, 2]).all()", "assert 0 < numpy.float64(0.5) <= 1 != 2",
        "assert 'b' in 'abc' and 3 not in (1, 2)",
    ]  # fmt: skip
    assert check(program, tests).detail == ""


def test_a_failing_assert_shows_what_was_compared():
    checked = check("def answer():\n    return [1, 2]", ("assert answer() == [2, 1]",))
    assert checked.detail == "test 1 of 1: assert answer() == [2, 1]: AssertionError: not so: [1, 2] == [2, 1]"
    checked = check("def answer():\n    return 1 / 0", ("assert answer()", "assert True"))
    assert checked.detail == "test 1 of 2: assert answer(): ZeroDivisionError: division by zero"
    assert (checked.passed, checked.reason) == (1, "Failed")


def test_a_program_that_does_not_run_says_why():
    checked = check("def answer(:")
    assert (checked.passed, checked.reason) == (0, "Exit")
    assert "SyntaxError" in checked.detail
    assert "NameError" in check("answer = nothing").detail


def test_tests_that_are_none_are_refused():
    with pytest.raises(SpecError, match="sandbox: tests"):
        check(ANSWER, [])
    with pytest.raises(SpecError, match="expected Python"):
        check(ANSWER, ["assert answer( =="])


def test_a_program_reads_its_files_and_its_stdin(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    program = "print(open('table.csv').read().split()[1], open('deep/note').read(), input(), input())"
    files = {"table.csv": tmp_path / "table.csv", "deep/note": b"note"}
    ran = run(program, files=files, stdin="first\nsecond\n")
    assert (ran.ok, ran.stdout, ran.reason) == (True, "1,2 note first second\n", "")
    assert (tmp_path / "table.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../b", ""])
def test_a_files_name_stays_in_the_folder(name):
    with pytest.raises(SpecError, match="sandbox: file"):
        run("pass", files={name: b""})


def test_stdin_is_empty_where_none_is_given():
    ran = run("import sys\nprint(repr(sys.stdin.read()))\ninput()")
    assert ran.stdout == "''\n"
    assert "EOFError" in ran.stderr


def test_output_is_cut_and_output_at_the_limit_is_kept():
    most = SMALL.output_kb << 10
    kept = run(f"import sys\nsys.stdout.write('x' * {most})")
    assert (kept.ok, len(kept.stdout)) == (True, most)
    cut = run(f"import sys\nsys.stdout.write('x' * {most + 1})")
    assert (cut.ok, len(cut.stdout), cut.reason) == (False, most, "Output")


def test_exit_codes_and_tracebacks_are_a_scripts():
    assert run("import sys\nprint('done')\nsys.exit(0)") == run_like(True, "done\n", "", "")
    assert run("import sys\nsys.exit(3)").reason == "Exit"
    ran = run("def f():\n    return 1 / 0\n\nf()")
    assert (ran.ok, ran.reason) == (False, "Exit")
    assert ran.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert '  File "program.py", line 4, in <module>' in ran.stderr.splitlines()
    assert ran.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert run("if __name__ == '__main__':\n    print('main')").stdout == "main\n"


def run_like(ok, stdout, stderr, reason):
    class Like:
        def __eq__(self, other):
            return (other.ok, other.stdout, other.stderr, other.reason) == (ok, stdout, stderr, reason)

        __hash__ = None

    return Like()


def test_nothing_of_the_callers_environment_is_inside(monkeypatch):
    monkeypatch.setenv("PLAIT_TEST_SECRET", "very-secret")
    ran = run("import os, sys\nprint(sorted(os.environ), sys.argv, os.getcwd() in sys.path)")
    allowed = {*sandbox_host.ENVIRONMENT, "LC_CTYPE"}
    names, rest = ran.stdout.split("]", 1)
    assert set(json.loads(names.replace("'", '"') + "]")) <= allowed
    assert rest.strip() == "['program.py'] True"


@needs_namespaces
def test_the_parents_environment_cannot_be_read(monkeypatch):
    program = (
        "import os, glob\nseen = b''\nfor path in ['/proc/%d/environ' % NUMBER, *glob.glob('/proc/*/environ')]:\n"
        "    try: seen += open(path, 'rb').read()\n    except OSError: pass\n"
        "print(b'very-secret' in seen, os.getppid())"
    )
    command = ["sh", "-c", "echo ready; read line"]
    environment = {"PLAIT_TEST_SECRET": "very-secret"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"ready\n"
        assert b"very-secret" in Path(f"/proc/{holder.pid}/environ").read_bytes()
        ran = run(program.replace("NUMBER", str(holder.pid)))
        holder.communicate(b"\n")
    assert (ran.stdout, ran.reason) == ("False 1\n", ""), ran


@needs_namespaces
def test_no_socket_reaches_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)\n" + ANSWER
        checked = check(program)
        assert (checked.passed, checked.reason) == (0, "Exit")
        assert "OSError" in checked.detail or "ConnectionRefused" in checked.detail
        outside = check("import socket\nsocket.create_connection(('192.0.2.1', 80), 2)\n" + ANSWER)
        assert "Network is unreachable" in outside.detail


BOMBS = {
    "a fork bomb": ("import os\nwhile True: os.fork()", {"Processes", "Exit", "Timeout"}),
    "one that goes on when refused": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"Processes", "Timeout"},
    ),
    "a few processes that hold much together": (
        "import os, time\nfor _ in range(4):\n    if not os.fork(): break\nheld = bytearray(b'x') * (60 << 20)\n"
        "time.sleep(100)", {"Memory"},
    ),
    "processes that leave the group and outlive their parent": (
        "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork(): time.sleep(1000)\n    os._exit(0)\n"
        "os._exit(0)", {"Exit"},
    ),
}  # fmt: skip


@needs_namespaces
@pytest.mark.skipif(not sandbox_process.host().proc, reason="processes cannot be counted here")
@pytest.mark.parametrize("bomb", BOMBS)
def test_processes_are_bounded_and_end_with_the_run(bomb):
    program, reasons = BOMBS[bomb]
    marker = f"plait-test-{os.getpid()}"
    checked = check(f"import ctypes\nctypes.CDLL(None).prctl(15, b'{marker[:15]}', 0, 0, 0)\n{program}", limits=TIGHT)
    assert (checked.passed, checked.all_pass) == (0, False)
    assert checked.reason in reasons, checked
    assert checked.seconds < TIGHT.seconds + OVER
    names = {name for path in Path("/proc").glob("[0-9]*/comm") if (name := comm(path))}
    assert marker[:15] not in names


def comm(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # it ended meanwhile
        return ""


def test_an_equal_run_prints_equally():
    program = "print({'a', 'b', 'c', 'd', 'e'}, hash('x'))"
    assert run(program).stdout == run(program).stdout


def test_the_sandbox_says_what_the_host_lacks(monkeypatch):
    lacking = sandbox_host.Offered(False, False, False, False, (), "unshare: Operation not permitted")
    monkeypatch.setattr("plait.agents.sandbox.host", lambda: lacking)
    monkeypatch.setattr(sandbox_process, "host", lambda: lacking)
    with pytest.raises(SpecError, match=r"Operation not permitted.*allow_network"):
        asyncio.run(Sandbox(SMALL).run("print(1)"))
    allowed = Sandbox(SMALL, allow_network=True)
    assert asyncio.run(allowed.check(ANSWER, TESTS)).all_pass
    assert asyncio.run(allowed.check("import os\nos._exit(0)", TESTS)).passed == 0
    late = asyncio.run(allowed.run("import os, time\nos.fork()\ntime.sleep(1000)"))
    assert (late.reason, late.ok) == ("Timeout", False)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare command")
def test_a_host_that_refuses_namespaces_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "unshare").write_text("#!/bin/sh\necho unshare: refused >&2\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = sandbox_host.host.__wrapped__()
    assert (found.namespaces, found.proc, found.problem) == (False, False, "unshare: refused")


def test_an_interpreter_that_cannot_start_is_the_hosts_failure(monkeypatch):
    monkeypatch.setattr(sandbox_process, "CHILD", "raise RuntimeError('broken')")
    with pytest.raises(CallFailed, match=r"did not start.*broken") as failed:
        run("pass")
    assert failed.value.retryable


def test_a_cancelled_run_leaves_no_process_and_no_folder():
    before = folders_left()

    async def cancelled() -> None:
        sandbox = Sandbox(SMALL, allow_network=not ISOLATED)
        task = asyncio.create_task(sandbox.run("import time\nopen('here', 'w').close()\ntime.sleep(1000)"))
        while not any(Path("/tmp", name, "program", "here").exists() for name in folders_left() - before):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    import tempfile

    if Path(tempfile.gettempdir()) != Path("/tmp"):
        pytest.skip("temporary folders are elsewhere")
    asyncio.run(cancelled())
    assert folders_left() <= before


def test_a_folder_is_removed_however_deep_and_closed():
    before = folders_left()
    program = "import os\nfor n in range(3_000):\n    os.mkdir('a')\n    os.chdir('a')\nos.mkdir('b')\nos.chmod('b', 0)"
    ran = run(f"{program}\nprint('made')", SandboxLimits(files=10_000))
    assert (ran.ok, ran.stdout) == (True, "made\n"), ran
    shut = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nfor n in ('a/b', 'a', '.'): os.chmod(n, 0)"
    assert run(shut).ok
    assert folders_left() <= before


def test_many_runs_at_once_do_not_mix():
    async def all_of_them() -> list[Ran]:
        sandbox = Sandbox(SMALL, allow_network=not ISOLATED)
        return await asyncio.gather(*[sandbox.run(f"print({n} * {n})", {"own": b"x"}) for n in range(12)])

    assert [ran.stdout for ran in asyncio.run(all_of_them())] == [f"{n * n}\n" for n in range(12)]


def test_guarded_tests_are_python_and_keep_what_is_no_comparison():
    assert guarded("assert a is None and f(x) == 1, 'no'") == (
        "assert a is None and __compare__(('==',), f(x), 1), 'no'"
    )


class Given(BaseModel):
    program: str


class Passed(BaseModel):
    passed: int


class CheckIt:
    name, version, spec, output = "check-it", 1, None, Passed

    async def run(self, given: Given, model, seed: int) -> Passed:
        return Passed(passed=(await sandbox_of(model).check(given.program, TESTS)).passed)

    async def upper(self, given: Given, model) -> Upper:
        return Upper(0)


def test_a_call_worker_takes_the_sandbox_in_place_of_a_chat_model():
    model = SandboxModel(Sandbox(SMALL, allow_network=not ISOLATED))
    assert isinstance(model, ChatModel)
    assert sandbox_of(Metered(Metered(model))) is model.sandbox
    worker = CallWorker(model, Limiter(model.slots, model.slots), {"check-it": (CheckIt(), Given)})
    assert (worker.name, worker.slots) == ("sandbox", len(os.sched_getaffinity(0)))

    async def ask(program: str):
        return (await worker.run([Request("check-it", {"program": program})]))[0]

    outcome = asyncio.run(ask(ANSWER))
    assert isinstance(outcome, Scored)
    assert outcome.values == {"passed": 2}
    assert outcome.cost["calls"] == 0
    asyncio.run(model.close())


def test_a_sandbox_is_no_chat_model_and_a_chat_model_no_sandbox():
    from plait.tests.scripted_chat import ScriptedChat

    model = SandboxModel(Sandbox(SMALL, allow_network=not ISOLATED))
    for call in (model.generate([]), model.label_logprobs([], ["a", "b"])):
        with pytest.raises(CallFailed, match="Unsupported"):
            asyncio.run(call)
    with pytest.raises(CallFailed, match="no sandbox"):
        sandbox_of(ScriptedChat(lambda messages: ""))


def test_identity_is_python_and_limits():
    one, other = Sandbox(SMALL, allow_network=not ISOLATED), Sandbox(allow_network=not ISOLATED)
    assert one.identity != other.identity
    assert json.loads(json.dumps(one.identity))["python"] == ".".join(map(str, sys.version_info[:3]))


def solutions(file: str) -> list[tuple[str, str, list[str], str]]:
    """Return program, setup, tests and tested function of every reference solution."""
    rows = [json.loads(line) for line in (TEXT / file).read_text().splitlines()]
    if file == "humaneval.jsonl":
        return [
            (row["prompt"] + row["canonical_solution"], row["test"], [f"check({row['entry_point']})"],
             row["entry_point"]) for row in rows
        ]  # fmt: skip
    return [(row["canonical_solution"], "", [row["test"]], row["entry_point"]) for row in rows]


@pytest.mark.skipif(not TEXT.is_dir(), reason="needs ../shared/data/text")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("file", "count"), [("humaneval.jsonl", 164), ("mbpp_sanitized.jsonl", 427)])
def test_every_reference_solution_passes(file, count):
    given = solutions(file)
    assert len(given) == count

    async def all_of_them() -> list[Checked]:
        sandbox = Sandbox(SandboxLimits(seconds=60.0, cpu_seconds=30), allow_network=not ISOLATED)
        slots = asyncio.Semaphore(len(os.sched_getaffinity(0)))

        async def one(program: str, setup: str, tests: list[str], entry_point: str) -> Checked:
            async with slots:
                return await sandbox.check(program, tests, setup, entry_point=entry_point)

        return await asyncio.gather(*[one(*each) for each in given])

    assert [checked.detail for checked in asyncio.run(all_of_them()) if not checked.all_pass] == []


@pytest.mark.skipif(not TEXT.is_dir(), reason="needs ../shared/data/text")
def test_an_empty_solution_passes_no_humaneval_problem():
    program, setup, tests, entry_point = solutions("humaneval.jsonl")[0]
    name = f"def {entry_point}(*given):\n    return None\n"
    checked = check(name, tests, setup=setup)
    assert (checked.passed, checked.reason) == (0, "Failed")
    assert check(program, tests, setup=setup).all_pass
