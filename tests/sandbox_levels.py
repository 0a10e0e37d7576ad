"""The levels of the sandbox that this host offers, and a way to run a program at one of them."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from plait.agents import sandbox, sandbox_host, sandbox_process
from plait.agents.sandbox import Ran, Sandbox, SandboxLimits
from plait.agents.sandbox_host import Level, Offered

LEVELS: tuple[Level, ...] = ("bubblewrap", "namespaces", "none")
offered_at = cache(sandbox_host.at_level)


def forced(monkeypatch: pytest.MonkeyPatch, level: Level) -> Offered:
    """Make every sandbox of a test run at `level`; skip the test where the host does not offer it."""
    found = offered_at(level)
    if found is None:
        pytest.skip(f"this host offers no sandbox of level {level}")
    for module in (sandbox, sandbox_process, sandbox_host):
        monkeypatch.setattr(module, "host", lambda: found)
    return found


def runner(limits: SandboxLimits) -> Callable[..., Ran]:
    """Return what runs a program."""

    def run(program: str, **given: Any) -> Ran:
        return asyncio.run(Sandbox(limits, allow_network=True).run(program, **given))

    return run
