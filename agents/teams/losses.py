"""Losses: the nodes that score an answer against its item, and say what was expected and what was got.

Numbers, options, words, booleans and named values are compared in place, for nothing. Programs are run against the
item's hidden tests, free text is put before a judge. An answer that could not be read scores 0 and says so; tests or
a judge that cannot be asked fail their node, and are no score. The feedback may hold the gold answer: it is for
training items alone. Knows items and judges; must not know teams or ledgers.

Source: ANN, arXiv 2506.09046, scores answers by task; the closeness, shares and wording are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ...candidates import NETWORKS, JudgeNetwork
from ...errors import SpecError
from ...graphs import Free, Node
from ...models.chat import ChatModel
from ...records import JSON
from ...teams import Kind
from ..sandbox import Checked, sandbox_of
from .grading import compared, graded
from .items import REFERENCE, InputFile, TaskItem
from .matching import boolean, label, numbers_meant, same_number, same_value, values_said, words
from .score import Score, tail

SCORE = "score"
"""Id of the node whose output is the score."""
WHAT: dict[Kind, str] = {
    "number": "a number", "option": "the label of an option", "word": "a word or a short text",
    "boolean": "yes or no", "code": "a program", "values": "named values", "text": "a text",
}  # fmt: skip
"""What is expected, as feedback says it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Compared(_Frozen):
    """An answer beside the gold one: `value` is None where none could be read, and `text` is what was said then."""

    kind: Kind
    gold: JSON
    options: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    value: str | None
    text: str = ""


class Program(_Frozen):
    """A program and the tests that it has to pass; `text` is what was said where there is no program."""

    program: str | None
    setup: str
    tests: tuple[str, ...]
    entry_point: str
    files: tuple[InputFile, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Match(Free):
    """Compares an answer with the gold one; free."""

    name: ClassVar[str] = "team-match"
    version: ClassVar[int] = 2
    spec: ClassVar[JSON] = None
    output: ClassVar[type[BaseModel]] = Score

    async def run(self, given: Compared, model: object, seed: int) -> Score:
        """Return 1 or 0, for named values the share that is right."""
        return matched(given)


def matched(given: Compared) -> Score:
    """Return how an answer of an exact kind compares with the gold one."""
    if given.value is None:
        return _unread(given.kind, _gold(given), given.text)
    if given.kind == "values":
        return _matched_values(given.gold, given.value)
    got: JSON
    if given.kind == "number":
        meant = numbers_meant(given.value)
        got = meant[0] if meant else None
        right = any(same_number(float(given.gold), one) for one in meant)  # 45 % may be 45 or .45
    elif given.kind == "option":
        got = label(given.value, given.options, given.labels)
        right = got == given.gold
    elif given.kind == "boolean":
        got = boolean(given.value)
        right = got is given.gold
    else:
        got, right = given.value, words(given.value) == words(given.gold)
    if right:
        return Score(score=1.0, feedback=f"Right: {_gold(given)}.")
    shown = tail(given.value, 200)
    if got is None:
        return Score(score=0.0, feedback=f"Expected {_gold(given)}, got {shown!r}, which is not {WHAT[given.kind]}.")
    return Score(score=0.0, feedback=f"Expected {_gold(given)}, got {shown}.")


def _matched_values(gold: Mapping[str, JSON], value: str) -> Score:
    said = values_said(gold, value)
    wrong = [name for name, got in said.items() if got is None or not same_value(gold[name], got)]
    if not wrong:
        return Score(score=1.0, feedback=f"Right: all {len(gold)} values.")
    told = [f"{name}: expected {gold[name]}, got {_said(said[name])}" for name in wrong]
    share = (len(gold) - len(wrong)) / len(gold)
    return Score(score=share, feedback=f"{len(gold) - len(wrong)} of {len(gold)} values right. {'; '.join(told)}.")


def _said(text: str | None) -> str:
    return "nothing of that name" if text is None else repr(tail(text, 200))


def _unread(kind: Kind, gold: str, text: str) -> Score:
    """Return the score of an answer that could not be read."""
    said = f"the answer ended: {tail(text)}" if text.strip() else "the answer was empty"
    wanted = f"{WHAT[kind]}, {gold}" if gold else WHAT[kind]
    return Score(score=0.0, feedback=f"No answer could be read: expected {wanted}; {said}")


def _gold(given: Compared) -> str:
    """Return the gold answer as feedback tells it."""
    if given.kind == "option":
        return f"{given.gold} ({given.options[given.labels.index(given.gold)]})"
    if given.kind == "boolean":
        return "yes (true)" if given.gold else "no (false)"
    if given.kind == "values":
        return ", ".join(f"{name} = {value}" for name, value in given.gold.items())
    return f"{given.gold:.12g}" if isinstance(given.gold, float) else str(given.gold)


@dataclass(frozen=True)
class RunTests(Free):
    """Runs a program against its tests in a sandbox; the score is the share that pass."""

    name: ClassVar[str] = "team-tests"
    version: ClassVar[int] = 2
    spec: ClassVar[JSON] = None
    output: ClassVar[type[BaseModel]] = Score

    async def run(self, given: Program, model: ChatModel, seed: int) -> Score:
        """Return the share of tests that pass; 0 where there is no program, and nothing is run then.

        Raises:
            CallFailed: the sandbox could not run it.
        """
        if given.program is None or not given.program.strip():
            return _unread("code", "", given.text)
        # What the question gives is there for the program as it is for the tests.
        program = f"{given.setup}\n\n{given.program}" if given.setup else given.program
        files = {file.name: file.text.encode() for file in given.files}
        checked = await sandbox_of(model).check(
            program, given.tests, given.setup, files=files, entry_point=given.entry_point
        )
        return tested(checked)


def tested(checked: Checked) -> Score:
    """Return the share of tests that passed, what went wrong first, and the end of stderr."""
    share = checked.passed / checked.total
    if checked.all_pass:
        return Score(score=share, feedback=f"All {checked.total} tests pass.")
    told = [f"{checked.passed} of {checked.total} tests pass, not all: {checked.detail}", tail(checked.stderr)]
    return Score(score=share, feedback="\n".join(filter(None, told)))


def score_node(
    item: TaskItem, answer_id: str, *, scorer_model: str = "sandbox", judge_model: str = "",
    network: JudgeNetwork = NETWORKS["single"],
) -> list[Node]:  # fmt: skip
    """Return the nodes that score the answer of the node `answer_id`; the last has the id `score`.

    Args:
        item: What was asked.
        answer_id: A node whose output has a `value`, None where no answer could be read, and a `text`.
        scorer_model: Name of the sandbox that runs programs.
        judge_model: Name of the chat model that judges free text.
        network: How it judges beside a reference: one layer of given angles.

    Raises:
        SpecError: the item is free text and there is no judge.
    """
    if item.kind == "text":
        if not judge_model:
            raise SpecError(f"loss of item {item.id}", "no judge", "a judge model: free text is compared by nothing")
        if isinstance(item.gold, dict):
            return compared(item.question, item.gold[REFERENCE], answer_id, judge_model, network)
        return graded(item.question, item.gold, answer_id, judge_model)
    if item.kind == "code":
        return [Node(SCORE, RunTests(), _program(item, answer_id), (answer_id,), scorer_model, label="tests")]
    return [Node(SCORE, Match(), _comparison(item, answer_id), (answer_id,), label="match")]


def _comparison(item: TaskItem, answer_id: str) -> Any:
    def feed(outputs: Mapping[str, Any]) -> Compared:
        answer = outputs[answer_id]
        said = answer.text if answer.value is None else ""
        return Compared(
            kind=item.kind, gold=item.gold, options=item.options, labels=item.labels, value=answer.value, text=said
        )

    return feed


def _program(item: TaskItem, answer_id: str) -> Any:
    def feed(outputs: Mapping[str, Any]) -> Program:
        answer = outputs[answer_id]
        said = "" if answer.value else answer.text  # no part of the key where there is a program
        return Program(
            program=answer.value, setup=item.setup, tests=item.tests, entry_point=item.entry_point, files=item.files,
            text=said,
        )  # fmt: skip

    return feed


__all__ = ["SCORE", "Compared", "Match", "Program", "RunTests", "Score", "matched", "score_node", "tested"]
