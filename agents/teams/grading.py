"""Free text graded by a judge: beside a reference answer with the judges of a panel, or alone under a rubric.

Knows chat models and judges; must not know ledgers or teams.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Literal, NamedTuple

from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict

from ...candidates import JudgeNetwork
from ...errors import SpecError
from ...graphs import Free, Node, Upper
from ...models.chat import CallFailed, ChatModel, Message, Reply, Sampling
from ...models.thoughts import spoken
from ...records import JSON, digest
from ..judges.decision import Ballot, Ballots, decide
from ..judges.network import ORDERS
from ..judges.tasks import Pair, PickLetter, Question, WriteReview
from ..judges.wording import Wording, fenced
from .score import Score, tail

ANY_TEXT = "It does what is asked, wholly and correctly; it is clear, coherent and well written."
"""The rubric of an item that has none."""
HIGHEST = 10.0
"""Of a grade; 0 is the lowest."""

_GRADE = re.compile(r"^[\s>*_`#-]*score[\s*_`]*[:=][\s*_`]*(\d{1,2}(?:\.\d+)?)\s*(?:/\s*10)?[\s*_`.]*$", re.IGNORECASE)


class Written(BaseModel):
    """A text, what it was written for and what a good one has; `value` is None where no answer could be read."""

    model_config = ConfigDict(frozen=True)

    question: str
    rubric: str
    value: str | None


@dataclass(frozen=True)
class Grade:
    """Asks for a few sentences and a grade from 0 to 10, and once more for the grade alone where there is none."""

    max_tokens: int = 512
    name: ClassVar[str] = "team-grade"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Score
    repair_tokens: ClassVar[int] = 8
    repair: ClassVar[str] = "Reply with the score alone, a number from 0 to 10, in this form:\nScore: <number>"

    @property
    def spec(self) -> JSON:
        """Prompt hash and tokens."""
        return {"prompt": digest([_template(), self.repair]), "max_tokens": self.max_tokens}

    async def run(self, given: Written, model: ChatModel, seed: int) -> Score:
        """Return the grade over 10, with what was said for it; 0 for an answer that could not be read, unasked.

        Raises:
            CallFailed: `Unparsable`: neither the answer nor its repair holds a grade.
        """
        if given.value is None:
            return Score(score=0.0, feedback="No answer could be read: expected a text.")
        messages = _asked(given)
        reply = await model.generate(messages, Sampling(max_tokens=self.max_tokens))
        text = _spoken(reply)
        found = grade(text, given.value)
        if found is None:
            said: list[Message] = [
                {"role": "assistant", "content": text}, {"role": "user", "content": self.repair},
            ]  # fmt: skip
            if not text:  # some templates refuse a turn without text
                said = said[1:]
            repaired = await model.generate([*messages, *said], Sampling(max_tokens=self.repair_tokens))
            found = _grade_alone(_spoken(repaired))
            if found is None:
                raise CallFailed("Unparsable", f"no grade in {reply.text[-60:]!r}, nor in {repaired.text[:40]!r}")
        told = "\n".join(line for line in text.splitlines() if not _GRADE.match(line)).strip()
        return Score(score=found / HIGHEST, feedback=f"A judge gives it {found:g} of 10. {tail(told)}".strip())

    async def upper(self, given: Written, model: ChatModel) -> Upper:
        """Return the price of a grade and its repair; nothing where there is no answer."""
        if given.value is None:
            return Upper(0)
        prompt = await model.count_tokens([*_asked(given), {"role": "user", "content": self.repair}])
        return Upper(2, 2 * prompt + self.max_tokens + 8, self.max_tokens + self.repair_tokens)


@dataclass(frozen=True)
class Compare(Free):
    """Makes a score of the ballots between an answer and its reference; free."""

    network: JudgeNetwork
    name: ClassVar[str] = "team-compare"
    version: ClassVar[int] = 1
    output: ClassVar[type[BaseModel]] = Score

    @property
    def spec(self) -> JSON:
        """The network."""
        return self.network.key

    async def run(self, given: Ballots, model: object, seed: int) -> Score:
        """Return one half where the answer is as good as the reference, 1 where it is better beyond doubt.

        Raises:
            CallFailed: the judge did not answer in both orders.
        """
        if not given.expected:
            return Score(score=0.0, feedback="No answer could be read: expected a text.")
        decision = decide(given, self.network)
        if decision.margin is None:
            raise CallFailed("Empty", f"{len(given.cast)} of {given.expected} ballots: {decision.reason}")
        widest = 1.0 if self.network.scoring == "letters" else 9.0
        better = {"model1": "better than", "model2": "worse than", "tie": "as good as"}[decision.label or "tie"]
        feedback = f"A judge holds it {better} the reference (margin {decision.margin:+.2f} of {widest:g})."
        return Score(score=min(1.0, max(0.0, (1 + decision.margin / widest) / 2)), feedback=feedback)


def graded(question: str, rubric: str | None, answer_id: str, judge: str) -> list[Node]:
    """Return the node that grades a text under a rubric."""

    def feed(outputs: Mapping[str, Any]) -> Written:
        return Written(question=question, rubric=rubric or ANY_TEXT, value=outputs[answer_id].value)

    return [Node("score", Grade(), feed, (answer_id,), judge, label="grade")]


def compared(question: str, reference: str, answer_id: str, judge: str, network: JudgeNetwork) -> list[Node]:
    """Return the calls that compare a text with a reference, in both orders, and the score of what they say.

    Raises:
        SpecError: the network is more than one layer of given angles.
    """
    if network.depth > 1 or network.roles != "given" or network.stop != "none" or network.samples > 1:
        raise SpecError("loss: judge network", network.key, "one layer of given angles, each asked once")
    places = [_Place(index, angle, order) for index, angle in enumerate(network.angles) for order in ORDERS]
    task: Any = PickLetter(_wording(), network.family)
    if network.scoring == "text":
        task = WriteReview(_wording(), network.family, False, network.temperature, network.max_tokens)
    calls = [
        Node(place.id, task, _asks(place, question, reference, answer_id), (answer_id,), judge, required=False)
        for place in places
    ]
    parents = (answer_id, *(node.id for node in calls))
    return [*calls, Node("score", Compare(network), _ballots(places, answer_id, judge), parents, label="compare")]


class _Place(NamedTuple):
    """One call of a comparison: an angle and an order."""

    neuron: int
    angle: str
    order: Literal["12", "21"]

    @property
    def id(self) -> str:
        """The id of its node."""
        return f"score/{self.neuron}/{self.order}"


def _asks(place: _Place, question: str, reference: str, answer_id: str) -> Callable[[Mapping[str, Any]], Question]:
    def feed(outputs: Mapping[str, Any]) -> Question:
        answer = outputs[answer_id].value or ""
        first, second = (answer, reference) if place.order == "12" else (reference, answer)
        return Question(pair=Pair(query=question, first=first, second=second), angles=(place.angle,))

    return feed


def _ballots(places: Sequence[_Place], answer_id: str, judge: str) -> Callable[[Mapping[str, Any]], Ballots]:
    def feed(outputs: Mapping[str, Any]) -> Ballots:
        if outputs[answer_id].value is None:  # whatever was said of nothing
            return Ballots(cast=(), expected=0)
        heard = [place for place in places if place.id in outputs]
        cast = [Ballot.of(outputs[place.id], 1, place.neuron, place.angle, judge, place.order) for place in heard]
        return Ballots(cast=tuple(cast), expected=len(places))

    return feed


def grade(reply: str, material: str = "") -> float | None:
    """Return the last grade that a judge gave of its own; None where it gave none.

    Args:
        reply: The judge's text.
        material: What was graded: a line that stands in it is a quotation.
    """
    quoted = {line.strip() for line in material.splitlines()}
    found = [
        float(match[1])
        for line in reply.splitlines()
        if (match := _GRADE.match(line)) and line.strip() not in quoted and float(match[1]) <= HIGHEST
    ]
    return found[-1] if found else None


def _spoken(reply: Reply) -> str:
    """Return a judge's reply without its thoughts; a grade within a thought is a draft."""
    return spoken(reply.text).text


def _grade_alone(text: str) -> float | None:
    """Return the grade of a reply that was asked for nothing else."""
    found = grade(text)
    return grade(f"Score: {text.strip()}") if found is None else found


def _asked(given: Written) -> list[Message]:
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # text for a model, fenced; no web page
    values = {"question": fenced(given.question), "answer": fenced(given.value or ""), "rubric": given.rubric}
    return [{"role": "user", "content": environment.from_string(_template()).render(values)}]


@cache
def _wording() -> Wording:
    return Wording()


@cache
def _template() -> str:
    return (files(__package__) / "prompts" / "grade.txt").read_text(encoding="utf-8").strip()


__all__ = ["ANY_TEXT", "Compare", "Grade", "Written", "compared", "grade", "graded"]
