"""Outcomes on their way to the disk while the run goes on: written in the order in which they were answered.

A graph's next calls need not wait for the disk. They were made of outcomes that are in the queue before any of theirs
can be, so whatever a crash leaves in the ledger is complete below: resuming finds it, or asks again. Must not know
graphs, claims or budgets.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from .ledger import Entry

LINGER = 0.03
"""Seconds that an outcome waits for others to be written with it, while calls go out."""


class WriteBehind:
    """A queue of outcomes, one write at a time.

    Args:
        write: Makes outcomes durable, all or nothing.
        wake: Called when a write has ended, so that somebody calls `step`.
    """

    def __init__(self, write: Callable[[Sequence[Entry]], Awaitable[None]], wake: Callable[[], None]) -> None:
        self._write, self._wake = write, wake
        self._entries: list[Entry] = []
        self._then: list[Callable[[], None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self.due: float | None = None
        """When `step` should be called, by the monotonic clock; None: when a write has ended, or never."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Queue outcomes."""
        self._entries += entries
        if self.due is None and self._writing is None:
            self.due = time.monotonic() + LINGER

    def after(self, then: Callable[[], None]) -> None:
        """Call `then` once all that was queued so far is durable: now if it is."""
        if self._entries or self._writing is not None:
            self._then.append(then)
        else:
            then()

    def step(self) -> None:
        """Write what is due.

        Raises:
            PlaitError: an earlier write failed; nothing is written after it, for it may depend on what is lost.
        """
        if self._failed is not None:
            raise self._failed
        if self._writing is None and self.due is not None and time.monotonic() >= self.due:
            self._begin()

    async def flush(self) -> None:
        """Write everything, now.

        Raises:
            PlaitError: a write failed.
        """
        while self._failed is None and (self._writing is not None or self._entries or self._then):
            await asyncio.wait([self._writing or self._begin()])
        if self._failed is not None:
            raise self._failed

    def _begin(self) -> "asyncio.Task[None]":
        entries, self._entries, self.due = self._entries, [], None
        then, self._then = self._then, []
        self._writing = asyncio.ensure_future(self._one(entries, then))
        self._writing.add_done_callback(self._ended)
        return self._writing

    async def _one(self, entries: Sequence[Entry], then: Sequence[Callable[[], None]]) -> None:
        if entries:
            await self._write(entries)
        for call in then:
            call()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._writing = None
        self._failed = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._entries or self._then:
            self.due = time.monotonic()
        self._wake()
