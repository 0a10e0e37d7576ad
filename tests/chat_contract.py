"""What every chat model must do, as one suite: a new implementation subclasses `ChatContract` and defines `make`.

Subclasses: an endpoint, a recording, its replay (test_endpoint_contract.py), a server of others
(test_independent_server.py); HostChat: subclass it in its own test file, as those do.
Collect it with `pytest.register_assert_rewrite("plait.tests.chat_contract")` before the import.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from plait.models.chat import CallFailed, ChatModel, Message, Reply, Sampling
from plait.records import canonical

Answer = TypeVar("Answer")

CAPITAL: list[Message] = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]
LONG: list[Message] = [{"role": "user", "content": "Explain how rain forms."}]
CONTINUED: list[Message] = [
    {"role": "user", "content": "What is the capital of France? Answer with its name."},
    {"role": "assistant", "content": "The capital of France is Par"},
]
SHORT = Sampling(max_tokens=12)
LABELS = ("apple", "river")


def repeat(word: str) -> list[Message]:
    return [{"role": "user", "content": f'Repeat this word and say nothing else: "{word}"'}]


def numbered(index: int) -> list[Message]:
    return [{"role": "user", "content": f"Say the number {index}."}]


class ChatContract:
    """The suite."""

    logprobs = True
    """Whether the model gives log-probabilities."""
    continues = True
    """Whether it continues an assistant's turn."""

    def make(self) -> ChatModel:
        """Return the model, fresh for each test."""
        raise NotImplementedError

    def make_without_logprobs(self) -> ChatModel | None:
        """Return a model of this kind that gives no log-probabilities; None where there is no such thing."""
        return None

    def run(self, work: Callable[[ChatModel], Awaitable[Answer]], model: ChatModel | None = None) -> Answer:
        """Run `work` in a loop of its own and close the model there."""

        async def main() -> Answer:
            chat = model or self.make()
            try:
                return await work(chat)
            finally:
                await chat.close()

        return asyncio.run(main())

    def test_it_is_a_chat_model_with_a_name_and_a_plain_identity(self):
        model = self.make()
        assert isinstance(model, ChatModel)
        assert model.name
        assert canonical(model.identity) == canonical(self.make().identity)

    def test_an_answer_is_whole_and_counted(self):
        reply = self.run(lambda model: model.generate(CAPITAL, Sampling(max_tokens=24)))
        assert "Paris" in reply.text
        assert reply.finish == "stop"
        assert reply.usage.prompt > 10
        assert 1 <= reply.usage.completion <= 24

    def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(self):
        async def work(model: ChatModel) -> tuple[str, Reply]:
            whole = (await model.generate(CAPITAL, Sampling(max_tokens=24))).text
            return whole, await model.generate(CAPITAL, Sampling(max_tokens=24, stop=("zebra", " France")))

        whole, reply = self.run(work)
        assert " France" in whole
        assert reply.text == whole[: whole.index(" France")]
        assert reply.finish == "stop"

    def test_an_answer_cut_at_its_tokens_says_so(self):
        reply = self.run(lambda model: model.generate(LONG, SHORT))
        assert reply.finish == "length"
        assert reply.text
        assert reply.usage.completion == SHORT.max_tokens

    def test_temperature_0_repeats(self):
        async def work(model: ChatModel) -> list[Reply]:
            return [await model.generate(LONG, SHORT) for _ in range(2)]

        first, second = self.run(work)
        assert first.text == second.text

    def test_sixteen_calls_at_once_answer_as_one_alone(self):
        async def work(model: ChatModel) -> tuple[list[Reply], list[Reply]]:
            calls = [model.generate(numbered(index), Sampling(max_tokens=4)) for index in range(16)]
            together = await asyncio.gather(*calls)
            return together, [await model.generate(numbered(index), Sampling(max_tokens=4)) for index in (0, 7, 15)]

        together, alone = self.run(work)
        assert len({reply.text for reply in together}) > 1  # or the next line could not tell one from another
        assert [together[index].text for index in (0, 7, 15)] == [reply.text for reply in alone]

    def test_label_logprobs_are_a_distribution_that_follows_the_prompt(self):
        if not self.logprobs:
            pytest.skip("this model gives no log-probabilities")

        async def work(model: ChatModel):
            return [await model.label_logprobs(repeat(word), LABELS) for word in LABELS]

        for scores in self.run(work):
            assert list(scores.logprobs) == list(LABELS)
            assert all(value <= 0 for value in scores.logprobs.values())
            assert scores.inside == pytest.approx(sum(map(math.exp, scores.logprobs.values())), abs=1e-9)
            assert 0 <= scores.inside <= 1
            assert scores.usage.prompt > 0
        asked_apple, asked_river = self.run(work)
        assert asked_apple.logprobs["apple"] > asked_river.logprobs["apple"]
        assert asked_river.logprobs["river"] > asked_apple.logprobs["river"]

    def test_without_logprobs_labels_are_refused(self):
        model = self.make_without_logprobs() if self.logprobs else self.make()
        if model is None:
            pytest.skip("every model of this kind gives log-probabilities")
        with pytest.raises(CallFailed) as caught:
            self.run(lambda chat: chat.label_logprobs(repeat("apple"), LABELS), model)
        assert caught.value.reason == "Unsupported"
        assert not caught.value.retryable

    def test_an_assistants_turn_at_the_end_is_continued_or_refused(self):
        if self.continues:
            assert self.run(lambda model: model.generate(CONTINUED, Sampling(max_tokens=3))).text.startswith("is")
            return
        with pytest.raises(CallFailed) as caught:
            self.run(lambda model: model.generate(CONTINUED, Sampling(max_tokens=3)))
        assert caught.value.reason == "Unsupported"

    def test_capabilities_say_what_holds(self):
        async def work(model: ChatModel):
            return await model.capabilities(), await model.capabilities()

        first, second = self.run(work)
        assert first == second
        assert first.label_logprobs == self.logprobs
        assert (first.top_logprobs != 0) == self.logprobs
        assert first.continues == self.continues

    def test_equal_seeds_draw_equally_where_the_model_says_so(self):
        async def work(model: ChatModel) -> list[Reply]:
            if not (await model.capabilities()).seed:
                pytest.skip("this model does not honour seeds")
            drawn = Sampling(temperature=1.0, max_tokens=8, seed=5)
            return [await model.generate(LONG, drawn) for _ in range(2)]

        first, second = self.run(work)
        assert first.text == second.text

    def test_tokens_are_counted_or_estimated_from_above(self):
        async def work(model: ChatModel) -> tuple[int, Reply]:
            return await model.count_tokens(LONG), await model.generate(LONG, SHORT)

        counted, reply = self.run(work)
        assert counted >= reply.usage.prompt

    def test_closing_twice_is_no_error(self):
        async def work(model: ChatModel) -> None:
            await model.generate(numbered(0), Sampling(max_tokens=4))
            await model.close()

        self.run(work)


async def rehearse(model: ChatModel) -> None:
    """Make every call of the contract once: what a recording needs for its replay to pass."""
    await model.capabilities()
    await model.generate(CAPITAL, Sampling(max_tokens=24))
    await model.generate(CAPITAL, Sampling(max_tokens=24, stop=("zebra", " France")))
    await model.generate(LONG, SHORT)
    await model.generate(LONG, Sampling(temperature=1.0, max_tokens=8, seed=5))
    await model.generate(CONTINUED, Sampling(max_tokens=3))
    for word in LABELS:
        await model.label_logprobs(repeat(word), LABELS)
    for index in range(16):
        await model.generate(numbered(index), Sampling(max_tokens=4))
