"""Work in a loop, called from a script or from within another loop: its errors are its own."""

import asyncio

import pytest
from plait.orchestrator.loops import run_blocking


async def fails():
    raise ValueError("mine")


def test_an_error_carries_no_context_of_how_it_was_run():
    with pytest.raises(ValueError, match="mine") as caught:
        run_blocking(fails)
    assert caught.value.__context__ is None


def test_it_runs_within_a_running_loop():
    async def outer():
        return run_blocking(inner)

    async def inner():
        return 7

    assert asyncio.run(outer()) == 7
