"""The process of a sandbox, seen from outside: its folder, its pipes, its end."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..models.chat import CallFailed
from .sandbox_folder import program_folder
from .sandbox_host import CHILD, ENVIRONMENT, INTERPRETER, host

GRACE = 1.0
"""Seconds over its limit after which a run is killed from outside."""
EVENTS = 2**20
"""Bytes of reports at most; more is no report."""


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


async def play(
    job: Sequence[bytes], files: Mapping[str, bytes | Path], *, seconds: float, memory: int, most: int
) -> Played:
    """Hand `job` to a child in a fresh folder that holds `files`, and return what came of it.

    Args:
        job: Written to its stdin.
        files: Names within the folder, and contents or where they are copied from.
        seconds: Wall clock that the child allows itself; killed from outside a little later.
        memory: Bytes that the program's private folders hold at most, each.
        most: Bytes of stdout, and of stderr, that are kept; it is killed if it writes more.

    Raises:
        SpecError: a file's name leaves the folder.
        CallFailed: `ServerError`: it never started.
    """
    started = time.monotonic()
    with program_folder(files, host().nobody) as folder, _pipe() as (reports, told):
        command = [*host().started(folder, memory), *INTERPRETER, "-c", CHILD, str(told.fileno())]
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
