"""A sandbox for programs that a model wrote: a bare interpreter under limits, in namespaces of its own.

What it promises, where the host offers user, network and pid namespaces (`offered`): a program is stopped at its
limits of wall clock, processor time, memory, output, processes, open files, and sizes and number of the files in its
folder; all its processes end with it; it reaches no network and no process outside; nothing of the caller's
environment is in its own. A test counts only by a random token that is read back after its last assert, so that a
program that ends early, with whatever exit code, passes nothing.

What it does not promise: it stops no exploit of the kernel; a program reads what the user who runs it can read, and
writes where that user can write; a program written to fool its own test process can, since both share one
interpreter. For such programs use a machine that holds nothing else. See docs/security.md.

Where namespaces are missing, `Sandbox` refuses to run a program unless it is told that the network may be reached.
"""

import marshal
import os
import secrets
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from ..errors import SpecError
from ..models.chat import (
    GREEDY,
    AroundChat,
    CallFailed,
    Capabilities,
    ChatModel,
    LabelScores,
    Message,
    Reply,
    Sampling,
    TokenPrice,
)
from ..records import JSON
from .sandbox_asserts import guarded
from .sandbox_child import LONGEST, TOKEN
from .sandbox_filter import system_call_filter
from .sandbox_host import KEEPER, NOT_OPEN, OPEN_TO, OWN_MEMORY, Level, host, offered
from .sandbox_process import Played, play

VERSION = 2
"""Raised whenever a change here may change what a program comes to."""
Reason = Literal[
    "",
    "Timeout",  # wall clock or processor time
    "Memory",  # an allocation was refused, or all processes together held too much
    "Output",  # more output than is kept
    "Processes",  # more processes than allowed
    "Files",  # more files in its folder than allowed
    "Exit",  # it ended with another code than 0, or before its last test
    "Killed",  # a signal that none of the limits sends: a crash, or the machine ran out of memory
    "Failed",  # it ran, and a test did not hold
]

MOST_TESTS = 4096
STOPPED = ("Timeout", "Memory", "Processes", "Files")
"""What the keeper says when it stops a run."""


class SandboxLimits(BaseModel):
    """What a program may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seconds: PositiveFloat = 10.0
    """Wall clock of a run."""
    cpu_seconds: PositiveInt = 5
    """Processor time of each process."""
    memory_mb: PositiveInt = 1024
    """Address space of each process, in MiB, and what all together may hold in memory."""
    file_mb: PositiveInt = 16
    """Largest file that is written, in MiB."""
    files: PositiveInt = 256
    """Files and folders in its folder, inputs included."""
    open_files: PositiveInt = 64
    """Descriptors of each process."""
    processes: PositiveInt = 16
    """Processes at once; threads count where the kernel counts them."""
    output_kb: PositiveInt = 64
    """KiB of stdout, and of stderr, that are kept; a program that writes more is stopped."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a program: `ok` where it ended with code 0 within its limits."""

    ok: bool
    stdout: str
    stderr: str
    reason: Reason
    seconds: float


@dataclass(frozen=True, slots=True)
class Checked:
    """How many tests a program passed.

    Attributes:
        passed: Tests that held.
        total: Tests.
        all_pass: Whether all held and no limit was broken.
        detail: What went wrong first, in a line; "" if nothing.
        reason: Its type.
        stderr: What the program wrote there.
        seconds: Wall clock.
    """

    passed: int
    total: int
    all_pass: bool
    detail: str
    reason: Reason
    stderr: str = ""
    seconds: float = 0.0


@dataclass
class Sandbox:
    """Runs programs under limits, any number at once; it holds nothing between runs.

    Args:
        limits: Of each run.
        allow_network: Whether programs run where the host cannot keep them from the network; where it can, it does.

    What the host offers is looked at when the first program runs: teams that need none run anywhere.
    """

    limits: SandboxLimits = field(default_factory=SandboxLimits)
    allow_network: bool = False

    def check_host(self) -> None:
        """Refuse a host on which programs would not be kept in.

        Raises:
            SpecError: the host has no namespaces and `allow_network` is not set.
        """
        if not host().namespaces and not self.allow_network:
            raise SpecError(
                "sandbox",
                f"no user, network and pid namespaces ({host().problem})",
                f"a host that offers them, or run.allow_network=true (--set): then {OPEN_TO['none']}",
            )

    @property
    def identity(self) -> JSON:
        """What a result depends on beside the program: Python, limits, what keeps it in, version of this code."""
        python, limits = ".".join(map(str, sys.version_info[:3])), self.limits.model_dump(mode="json")
        return {"sandbox": VERSION, "python": python, "limits": limits, "level": host().level}

    async def run(self, program: str, files: Mapping[str, bytes | Path] | None = None, stdin: str = "") -> Ran:
        """Run `program` as a script in a fresh folder that holds `files`; it reads `stdin`.

        Raises:
            SpecError: a file's name leaves the folder.
            CallFailed: `ServerError`: the host could not start it.
        """
        played = await self._play({"program": program, "stdin": stdin.encode(), "tests": None}, (), files)
        reason = _broken(played)
        return Ran(not reason, played.stdout, played.stderr, reason, played.seconds)

    async def check(
        self,
        program: str,
        tests: Sequence[str],
        setup: str = "",
        *,
        files: Mapping[str, bytes | Path] | None = None,
        entry_point: str = "",
    ) -> Checked:
        """Run `program`, then `setup`, then each of `tests`; a test that does not hold leaves the others to be run.

        Where time runs out, the tests before count; where a run is stopped for its output, files, processes or for
        what they hold in memory together, none does.

        Args:
            program: Its main block is not run: its `__name__` is `program`.
            tests: Statements, asserts for the most part; the names of the program and of `setup` are theirs.
            setup: Definitions and imports that tests need; it overrides names of the program.
            files: Put in its folder.
            entry_point: The function under test. Where another name of the program is one of Python's own (`set`,
                `abs`), it means Python's in setup and tests.

        Raises:
            SpecError: no tests, too many, or one is no Python; a file's name leaves the folder.
            CallFailed: `ServerError`: the host could not start it.
        """
        if not 0 < len(tests) <= MOST_TESTS:
            raise SpecError("sandbox: tests", len(tests), f"1 to {MOST_TESTS}")
        tokens = [secrets.token_bytes(TOKEN) for _ in tests]
        job = {
            "program": program, "stdin": b"", "tests": [guarded(test) for test in tests],
            "setup": guarded(setup), "entry_point": entry_point,
        }  # fmt: skip
        return _judged(await self._play(job, tokens, files), tests, tokens)

    async def _play(
        self, asked: Mapping[str, object], tokens: Sequence[bytes], files: Mapping[str, bytes | Path] | None
    ) -> Played:
        self.check_host()
        job = marshal.dumps({**self._terms(), **asked})
        chunks = [len(job).to_bytes(8, "big"), job, *tokens]
        limits = self.limits
        return await play(
            chunks, files or {}, seconds=limits.seconds, memory=limits.memory_mb << 20, most=limits.output_kb << 10
        )

    def _terms(self) -> dict[str, object]:
        """Return what the child must know beside the job itself."""
        limits, paths = self.limits, sysconfig.get_paths()
        return {
            "packages": list(dict.fromkeys([paths["purelib"], paths["platlib"]])),
            "seconds": limits.seconds,
            "files": limits.files,
            "memory": limits.memory_mb << 20,
            "processes": limits.processes,
            "watched": host().proc,
            "own_memory": list(OWN_MEMORY) if host().view else [],
            "keeper": KEEPER,
            "filter": system_call_filter() if host().filtered else b"",
            "limits": {
                "RLIMIT_CPU": limits.cpu_seconds,
                "RLIMIT_AS": limits.memory_mb << 20,
                "RLIMIT_FSIZE": limits.file_mb << 20,
                "RLIMIT_NOFILE": limits.open_files,
                "RLIMIT_NPROC": limits.processes + 2,  # the keeper, and what started it
                "RLIMIT_CORE": 0,
            },
        }


def _broken(played: Played) -> Reason:
    """Return why a run did not end by itself with code 0; "" if it did."""
    last: dict[str, Any] = {}
    for event in played.events:
        last.update(event)
    code = last.get("ended")
    if played.over:
        return "Output"
    if last.get("stopped") in STOPPED:
        return last["stopped"]
    if played.late:
        return "Timeout"
    if last.get("raised") == "MemoryError":
        return "Memory"
    if code is None or not isinstance(code, int) or code < 0:
        return "Killed"
    return "Exit" if code else ""


def _judged(played: Played, tests: Sequence[str], tokens: Sequence[bytes]) -> Checked:
    """Return what the tests came to: those count whose token came back."""
    program = [event for event in played.events if "test" not in event]
    said = {event["test"]: event for event in played.events if isinstance(event.get("test"), int)}
    # how far a program had come when it was stopped for more than it may use is chance: then nothing counts
    stopped = played.over or any(event.get("stopped") in STOPPED[1:] for event in program)
    held = [not stopped and said.get(place, {}).get("token") == token.hex() for place, token in enumerate(tokens)]
    reason = _broken(replace(played, events=program))
    detail = next((str(event["detail"]) for event in program if "detail" in event), "")
    if not all(held) and not detail:
        first = held.index(False)
        event = said.get(first, {})
        reason = reason or ("Memory" if event.get("raised") == "MemoryError" else "Failed" if event else "Exit")
        told = str(event.get("detail", f"no result: {reason}")) if not stopped else f"stopped: {reason}"
        detail = f"test {first + 1} of {len(tests)}: {_line(tests[first])}: {told}"
    return Checked(
        sum(held), len(tests), all(held) and not reason, detail[:LONGEST] or reason, reason, played.stderr,
        played.seconds,
    )  # fmt: skip


def _line(text: str) -> str:
    """Return `text` in one line of 200 characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}..."


@dataclass
class SandboxModel:
    """Stands where nodes name a chat model, so that programs run under a limiter and their results lie in the ledger.

    Its limiter should allow `slots` at once. A task takes the sandbox out of it with `sandbox_of`.

    Attributes:
        sandbox: What runs the programs.
        name: What nodes name.
    """

    sandbox: Sandbox
    name: str = "sandbox"

    @property
    def slots(self) -> int:
        """Programs at once: one a core."""
        return len(os.sched_getaffinity(0))

    @property
    def identity(self) -> JSON:
        """The sandbox's identity."""
        return self.sandbox.identity

    @property
    def price(self) -> TokenPrice | None:
        """Nothing."""
        return TokenPrice(0.0, 0.0)

    async def generate(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Reply:
        """Refuse.

        Raises:
            CallFailed: `Unsupported`, always.
        """
        raise CallFailed("Unsupported", f"{self.name} runs programs and answers no messages")

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """Refuse.

        Raises:
            CallFailed: `Unsupported`, always.
        """
        raise CallFailed("Unsupported", f"{self.name} runs programs and scores no labels")

    async def capabilities(self) -> Capabilities:
        """Return that it can do nothing of what chat models do."""
        return Capabilities(label_logprobs=False, top_logprobs=0, seed=False, structured=False)

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return 0: nothing is sent."""
        return 0

    async def close(self) -> None:
        """Do nothing: no process outlives its run."""


def sandbox_of(model: ChatModel) -> Sandbox:
    """Return the sandbox of the model that a task was given, however it is wrapped.

    Raises:
        CallFailed: `Unsupported`: it is a chat model.
    """
    while isinstance(model, AroundChat):
        model = model.model
    if not isinstance(model, SandboxModel):
        raise CallFailed("Unsupported", f"{model.name} is no sandbox and runs no programs")
    return model.sandbox


__all__ = [
    "NOT_OPEN", "OPEN_TO", "Checked", "Level", "Ran", "Reason", "Sandbox", "SandboxLimits", "SandboxModel", "offered",
    "sandbox_of",
]  # fmt: skip
