"""The process of a sandbox, seen from outside: what the host offers, its folder, its pipes, its end."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ..errors import SpecError
from ..models.chat import CallFailed

CHILD = Path(__file__).with_name("sandbox_child.py").read_text(encoding="utf-8")
INTERPRETER = (sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8")
"""`-I` would be `-E -s -P`; without `-E` the hash seed can be fixed, so that sets print alike each time. `-S` leaves
out start-up files of site-packages; the packages themselves can be imported."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""All that a program finds in its environment."""
NAMESPACES = (
    "--user", "--map-current-user", "--net", "--pid", "--fork", "--kill-child=KILL",
)  # fmt: skip
GRACE = 1.0
"""Seconds over its limit after which a run is killed from outside."""
EVENTS = 2**20
"""Bytes of reports at most; more is no report."""


@cache
def offered() -> dict[str, Any]:
    """Return what this host offers: `namespaces` (user, network, pid), `proc` (a view of its own processes alone).

    `problem` says what was answered where namespaces are missing. Tried once, by starting an interpreter in them.
    """
    problem = "no unshare command (util-linux)"
    unshare = shutil.which("unshare")
    for more in (("--mount-proc",), ()) if unshare else ():
        command = [str(unshare), *NAMESPACES, *more]
        tried = subprocess.run(
            [*command, *INTERPRETER, "-c", "import os; print(os.getpid())"],
            capture_output=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
        )  # fmt: skip
        if tried.returncode == 0 and tried.stdout.strip() == "1":
            return {"namespaces": True, "proc": bool(more), "command": [*command], "problem": ""}
        problem = tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else f"code {tried.returncode}"
    return {"namespaces": False, "proc": False, "command": [], "problem": problem}


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
    with _folder(files) as folder, _pipe() as (reports, told):
        command = [*map(str, offered()["command"]), *INTERPRETER, "-c", CHILD, str(told.fileno())]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=ENVIRONMENT, start_new_session=True, pass_fds=[told.fileno()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        told.close()
        watch = _Watch(process, most)
        late = await watch.ended(job, reports, seconds + GRACE)
    events = list(_events(watch.kept["events"]))
    stdout, stderr = (watch.kept[name].decode(errors="replace") for name in ("stdout", "stderr"))
    if not late and not any("started" in event for event in events):
        raise CallFailed("ServerError", f"the sandbox did not start: {stderr.strip()[-300:]}")
    return Played(events, stdout, stderr, watch.over, late, time.monotonic() - started)


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
def _folder(files: Mapping[str, bytes | Path]) -> Iterator[str]:
    """Make a fresh folder with copies of `files`; it is removed in the end, whatever was put there."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise SpecError("sandbox: file", name, "a name within the program's folder")
    folder = tempfile.mkdtemp(prefix="plait-sandbox-")
    try:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        yield folder
    finally:
        shutil.rmtree(folder, onerror=_opened)


def _opened(remove: object, path: str, _: object) -> None:
    """Remove what a program closed to its owner."""
    Path(path).parent.chmod(0o700)
    if Path(path).is_dir() and not Path(path).is_symlink():
        Path(path).chmod(0o700)
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Make a pipe: the end that reads, the end that writes."""
    read, write = os.pipe()
    with open(read, "rb", 0) as reads, open(write, "wb", 0) as writes:
        yield reads, writes
