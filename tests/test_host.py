"""The model host as a plain object: callers that vanish, callers that come at the last moment, a full queue."""

import asyncio

import pytest
from plait.models.evaluator import ScorerSpec
from plait.models.host import Host, HostBusy, HostSpec
from plait.models.sources import ensure

pytestmark = pytest.mark.weights
ITEM = {"prompt": "Question: What is wet?\nAnswer:", "options": [" water", " sand"]}
WORK = [("0-3", ITEM), ("0-2", ITEM)]


@pytest.fixture
def host(tiny_folder):
    model = ensure(str(tiny_folder))
    return Host(HostSpec(str(tiny_folder), ScorerSpec(model.model_hash), queue=64))


def test_a_caller_that_vanishes_takes_no_other_with_it(host):
    async def scenario():
        first = asyncio.create_task(host.score_paths(WORK, {}))
        second = asyncio.create_task(host.score_paths(WORK, {}))
        await asyncio.sleep(0)
        first.cancel()
        answers = await asyncio.wait_for(second, 20)
        again = await asyncio.wait_for(host.score_paths(WORK, {}), 20)
        return answers, again

    answers, again = asyncio.run(scenario())
    assert [one["values"] for one in answers] == [one["values"] for one in again]


def test_a_call_at_the_moment_the_last_one_ends_is_served(host):
    async def scenario():
        for _ in range(200):
            await asyncio.wait_for(host.score_paths(WORK[:1], {}), 20)

    asyncio.run(scenario())


def test_a_full_queue_sheds_load_and_recovers(host):
    async def scenario():
        with pytest.raises(HostBusy, match="at most 64"):
            await host.score_paths(WORK * 33, {})
        return await host.score_paths(WORK, {})

    assert len(asyncio.run(scenario())) == 2
