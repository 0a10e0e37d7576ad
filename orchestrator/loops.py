"""The thin synchronous face of what runs in an event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_blocking(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work` to its end and return what it gave, from a script, a notebook or a thread."""
    if not _in_loop():
        return asyncio.run(work())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:  # a notebook's loop is busy with the cell that called us
        return thread.submit(asyncio.run, work()).result()


def _in_loop() -> bool:
    """Return whether a loop runs in this thread.

    Apart, so that no error of the work itself carries this question's as its context.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
