"""Recordings: what is asked once is never asked again, replays are exact, files survive crashes and hold no key."""

import asyncio
import json
import math
import pickle

import pytest
from plait.errors import DataError, SpecError
from plait.models.cassette import RecordingChat, ReplayChat
from plait.models.chat import CallFailed, Capabilities, LabelScores, Reply, Sampling, TokenPrice, Usage

ASK = [{"role": "user", "content": "one"}]
OTHER = [{"role": "user", "content": "two"}]
SCORES = LabelScores({"A": -0.25, "B": -math.inf}, math.exp(-0.25), Usage(3, 1, 2), "m-1")


class Counting:
    """A model that numbers its answers, so that an answer given twice is seen."""

    name, price = "counting", TokenPrice(1.0, 2.0)

    def __init__(self, identity="a"):
        self.identity, self.calls = {"kind": "counting", "version": identity}, 0

    async def generate(self, messages, sampling=None):
        self.calls += 1
        await asyncio.sleep(0)
        if messages == [{"role": "user", "content": "fail"}]:
            raise CallFailed("ServerError", "scripted")
        return Reply(f"{messages[-1]['content']} {self.calls}", "length", Usage(5, 2, 1, known=False), "m-1")

    async def label_logprobs(self, messages, labels):
        self.calls += 1
        return SCORES

    async def capabilities(self):
        self.calls += 1
        return Capabilities(True, 20, True, False, 4096)

    async def count_tokens(self, messages):
        return 5

    async def close(self):
        pass


@pytest.fixture
def file(tmp_path):
    return tmp_path / "deep" / "tape.jsonl"


def record(file, inner, *calls):
    async def main():
        recording = RecordingChat(inner, file)
        return [await call(recording) for call in calls]

    return asyncio.run(main())


def replay(file, call, name=None):
    return asyncio.run(call(ReplayChat(file, name)))


def generate(messages, sampling=Sampling()):  # noqa: B008
    return lambda model: model.generate(messages, sampling)


def labels(*names):
    return lambda model: model.label_logprobs(ASK, names)


def test_a_replay_gives_every_field_back(file):
    calls = [generate(ASK), labels("A", "B"), lambda model: model.capabilities()]
    recorded = record(file, Counting(), *calls)
    assert [replay(file, call) for call in calls] == recorded
    copy = ReplayChat(file)
    assert (copy.name, copy.identity, copy.price) == (Counting.name, Counting().identity, Counting.price)


def test_what_is_recorded_is_not_asked_again(file):
    inner = Counting()
    first, again = record(file, inner, generate(ASK), generate(ASK))
    assert first == again
    (later,) = record(file, inner, generate(ASK))
    assert later == first
    assert inner.calls == 1


def test_equal_calls_at_once_are_one_call(file):
    async def main(inner):
        recording = RecordingChat(inner, file)
        return await asyncio.gather(*[recording.generate(ASK) for _ in range(8)])

    inner = Counting()
    assert len(set(asyncio.run(main(inner)))) == 1
    assert inner.calls == 1


@pytest.mark.parametrize(
    "call",
    [
        generate(OTHER),
        generate(ASK, Sampling(seed=1)),
        generate(ASK, Sampling(stop=("x",))),
        generate(ASK, Sampling(schema="{}")),
        labels("A", "C"),
    ],
    ids=["messages", "seed", "stop", "schema", "labels"],
)
def test_a_call_that_was_never_made_is_not_recorded(file, call):
    record(file, Counting(), generate(ASK), labels("A", "B"))
    with pytest.raises(CallFailed) as caught:
        replay(file, call)
    assert caught.value.reason == "NotRecorded"
    assert not caught.value.retryable
    assert "tape.jsonl" in str(caught.value)


def test_a_model_that_changed_is_asked_anew(file):
    record(file, Counting("a"), generate(ASK), generate(OTHER))
    changed = Counting("b")
    (reply,) = record(file, changed, generate(OTHER))
    assert (reply.text, changed.calls) == ("two 1", 1)


def test_calls_without_a_schema_are_kept_as_before_there_were_schemas(file):
    record(file, Counting(), generate(ASK))
    (row,) = (row for row in map(json.loads, file.read_text().splitlines()) if "call" in row)
    assert "schema" not in row["sampling"]


def test_a_failure_is_no_answer(file):
    failing = generate([{"role": "user", "content": "fail"}])
    with pytest.raises(CallFailed, match="ServerError"):
        record(file, Counting(), failing)
    with pytest.raises(CallFailed, match="NotRecorded"):
        replay(file, failing)


def test_capabilities_that_nobody_asked_for_are_not_invented(file):
    record(file, Counting(), generate(ASK))
    with pytest.raises(CallFailed, match="NotRecorded"):
        replay(file, lambda model: model.capabilities())


def test_labels_are_unsupported_where_the_recorded_model_gave_none(file):
    class Bare(Counting):
        async def capabilities(self):
            return Capabilities(False, 0, False, False)

    record(file, Bare(), lambda model: model.capabilities())
    with pytest.raises(CallFailed, match="Unsupported"):
        replay(file, labels("A", "B"))


def test_two_models_share_a_file(file):
    class Second(Counting):
        name = "second"

    async def main():
        first, second = RecordingChat(Counting("a"), file), RecordingChat(Second("b"), file)
        return [await model.generate(ask) for ask in (ASK, OTHER) for model in (first, second)]

    assert len(asyncio.run(main())) == 4
    assert replay(file, generate(ASK), "counting").text == "one 1"
    assert replay(file, generate(OTHER), "second").text == "two 2"
    for name in (None, "third"):
        with pytest.raises(SpecError, match="one of: counting, second"):
            ReplayChat(file, name)


def test_a_line_that_a_crash_cut_is_passed_over_and_written_anew(file):
    record(file, Counting(), generate(ASK), generate(OTHER))
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert replay(file, generate(ASK)).text == "one 1"
    with pytest.raises(CallFailed, match="NotRecorded"):
        replay(file, generate(OTHER))
    record(file, Counting(), generate(OTHER))
    assert replay(file, generate(OTHER)).text == "two 1"
    assert [line[:1] for line in file.read_bytes().splitlines()] == [b"{"] * 3


@pytest.mark.parametrize("line", ["not json", "[]", '{"key": 1}', '{"model": {"name": "x"}, "cassette": 99}'])
def test_a_line_of_something_else_is_named(file, line):
    record(file, Counting(), generate(ASK))
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"tape\.jsonl:3: "):
        ReplayChat(file)


def test_a_file_without_models_is_refused(tmp_path):
    with pytest.raises(SpecError, match="none in this file"):
        ReplayChat(tmp_path / "absent.jsonl")


def test_text_of_every_kind_comes_back(file):
    odd = [{"role": "user", "content": 'line\u2028break "quoted" \u00e9\U0001f600\n'}]
    (recorded,) = record(file, Counting(), generate(odd))
    assert replay(file, generate(odd)) == recorded


def test_a_secret_in_a_message_or_an_answer_is_not_written(file, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "planted-0123456789")
    record(file, Counting(), generate([{"role": "user", "content": "my key is planted-0123456789"}]))
    assert "planted" not in file.read_text()
    assert "my key is ***" in file.read_text()


def test_both_survive_pickling(file):
    record(file, Counting(), generate(ASK))
    assert asyncio.run(pickle.loads(pickle.dumps(ReplayChat(file))).generate(ASK)).text == "one 1"
    assert asyncio.run(pickle.loads(pickle.dumps(RecordingChat(Counting(), file))).generate(ASK)).text == "one 1"
