"""The process of a sandbox, seen from outside: what the host offers, its folder, its pipes, its end."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import SpecError
from ..models.chat import CallFailed
from .sandbox_folder import NOBODY, program_folder

CHILD = Path(__file__).with_name("sandbox_child.py").read_text(encoding="utf-8")
INTERPRETER = (sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8")
"""`-I` would be `-E -s -P`; without `-E` the hash seed can be fixed, so that sets print alike each time. `-S` leaves
out start-up files of site-packages; the packages themselves can be imported."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""All that a program finds in its environment."""
NAMESPACES = ("--user", "--map-current-user", "--net", "--pid", "--fork", "--kill-child=KILL")
NO_ROOT = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
GRACE = 1.0
"""Seconds over its limit after which a run is killed from outside."""
EVENTS = 2**20
"""Bytes of reports at most; more is no report."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a host offers.

    Attributes:
        namespaces: Whether programs get user, network and pid namespaces.
        proc: Whether they see no process but their own, and those can be counted.
        root: Whether programs are root, who may write everywhere and has no limit of processes.
        nobody: Whether root starts them as a user without rights.
        command: What starts the interpreter.
        problem: What was answered where namespaces are missing.
    """

    namespaces: bool
    proc: bool
    root: bool
    nobody: bool
    command: tuple[str, ...]
    problem: str = ""

    @property
    def capped(self) -> bool:
        """Whether processes of root must be, and can be, bounded by the numbers that their namespace gives out."""
        release = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
        return self.root and self.proc and release >= (6, 14)  # before, the number was the whole machine's


@cache
def host() -> Offered:
    """Return what this host offers; tried once, by starting the interpreter in each way, the strictest first."""
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    root = os.geteuid() == 0
    drops = [(setpriv, *NO_ROOT), ()] if root and setpriv else [()]
    spaces = [(unshare, *NAMESPACES, "--mount-proc"), (unshare, *NAMESPACES)] if unshare else []
    problem = "" if unshare else "no unshare command (util-linux)"
    for space in (*spaces, ()):
        for drop in drops:
            error = _tried((*drop, *space), inside=bool(space), nobody=bool(drop))
            if error is None:
                proc = "--mount-proc" in space
                found = Offered(bool(space), proc, root and not drop, bool(drop), (*drop, *space))
                return found if space else replace(found, problem=problem)
            problem = problem or error
    raise SpecError("sandbox", problem, "an interpreter that starts")


def _tried(command: Sequence[str], *, inside: bool, nobody: bool) -> str | None:
    """Return None where `command` starts the interpreter, in a pid namespace if `inside`; else what was answered."""
    with program_folder({}, nobody) as folder:
        tried = subprocess.run(
            [*command, *INTERPRETER, "-c", "import os; print(os.getpid() == 1)"],
            cwd=folder, capture_output=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    if tried.returncode == 0 and (not inside or tried.stdout.strip() == "True"):
        return None
    return tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else f"code {tried.returncode}"


def offered() -> dict[str, Any]:
    """Return what this host offers, by name: `namespaces`, `proc`, `root`, `nobody`, `command`, `problem`."""
    return asdict(host())


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a run, before it is known what was asked.

    Attributes:
        events: What keeper and program reported, in order.
        stdout: What was kept of it.
        stderr: What was kept of it.
        over: Whether it wrote more than is kept.
        late: Whether it had to be killed from outside for its time.
        seconds: Wall clock.
    """

    events: list[dict[str, Any]]
    stdout: str
    stderr: str
    over: bool
    late: bool
    seconds: float


async def play(job: Sequence[bytes], files: Mapping[str, bytes | Path], seconds: float, most: int) -> Played:
    """Hand `job` to a child in a fresh folder that holds `files`, and return what came of it.

    Args:
        job: Written to its stdin.
        files: Names within the folder, and contents or where they are copied from.
        seconds: Wall clock that the child allows itself; killed from outside a little later.
        most: Bytes of stdout, and of stderr, that are kept; it is killed if it writes more.

    Raises:
        SpecError: a file's name leaves the folder.
        CallFailed: `ServerError`: it never started.
    """
    started = time.monotonic()
    with program_folder(files, host().nobody) as folder, _pipe() as (reports, told):
        command = [*host().command, *INTERPRETER, "-c", CHILD, str(told.fileno())]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=ENVIRONMENT, start_new_session=True, pass_fds=[told.fileno()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        told.close()
        watch = _Watch(process, most)
        late = await watch.ended(job, reports, seconds + GRACE)
        took = time.monotonic() - started
    events = list(_events(watch.kept["events"]))
    stdout, stderr = (watch.kept[name].decode(errors="replace") for name in ("stdout", "stderr"))
    if not late and not any("started" in event for event in events):
        raise CallFailed("ServerError", f"the sandbox did not start: {' '.join(stderr.split())[-300:]}")
    return Played(events, stdout, stderr, watch.over, late, took)


class _Watch:
    """Reads what a process writes, up to a limit, and ends it: at the limit, when it is late, or when nobody waits."""

    def __init__(self, process: asyncio.subprocess.Process, most: int) -> None:
        self._process, self._most = process, most
        self.kept = {"stdout": bytearray(), "stderr": bytearray(), "events": bytearray()}
        self.over = False

    async def ended(self, job: Sequence[bytes], reports: BinaryIO, seconds: float) -> bool:
        """Wait for the end; return whether it had to be killed for its time."""
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        events = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(events), reports)
        reads = (self._read(out, "stdout", self._most), self._read(err, "stderr", self._most),
                 self._read(events, "events", EVENTS))  # fmt: skip
        readers = [asyncio.create_task(read) for read in reads]
        late = False
        try:
            async with asyncio.timeout(seconds):
                await self._feed(job)
                await self._process.wait()
        except TimeoutError:
            late = True
        finally:
            self._kill()
            # without a pid namespace a process that left the group may hold the pipes open
            _, open_still = await asyncio.wait(readers, timeout=GRACE)
            for reader in open_still:
                reader.cancel()
            transport.close()
        await self._process.wait()
        return late

    async def _feed(self, job: Sequence[bytes]) -> None:
        given = self._process.stdin
        assert given is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended before it had read all its tokens
            given.writelines(job)
            await given.drain()

    async def _read(self, stream: asyncio.StreamReader, name: str, most: int) -> None:
        kept = self.kept[name]
        while part := await stream.read(1 << 16):
            if len(kept) + len(part) > most:
                self.over = True
                self._kill()
            kept += part[: most - len(kept)]

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(self._process.pid, signal.SIGKILL)


def _events(reported: bytearray) -> Iterator[dict[str, Any]]:
    """Yield the reports; a line that is none was written by the program itself, and says nothing."""
    for line in reported.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Make a pipe: the end that reads, the end that writes."""
    read, write = os.pipe()
    with open(read, "rb", 0) as reads, open(write, "wb", 0) as writes:
        yield reads, writes
