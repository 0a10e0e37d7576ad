"""The calls that aggregators make beside their agents': a choice among outputs, a run of visible examples.

Knows chat models and sandboxes; must not know graphs, ledgers or teams.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from ...graphs import Free, Upper
from ...models.chat import ChatModel, Sampling
from ...models.thoughts import spoken
from ...records import JSON, canonical
from ..sandbox import sandbox_of
from .items import InputFile
from .numerals import whole_number
from .parsing import read_object
from .selection import answered
from .wording import Wording


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Candidates(_Frozen):
    """Outputs to choose from, as they are shown, and the place of each among the block's outputs."""

    prompt: str
    places: tuple[int, ...]


class Chosen(_Frozen):
    """The place of the chosen output, why, and whether the answer named none of those shown."""

    place: int
    reason: str = ""
    bad: bool = False


@dataclass(frozen=True)
class ChooseBest:
    """Asks a model which of several outputs is best; one output is chosen without a call."""

    wording: Wording
    max_tokens: int = 256
    name: ClassVar[str] = "team-choose"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Chosen

    @property
    def spec(self) -> JSON:
        """Tokens and prompt hash."""
        return {"max_tokens": self.max_tokens, "prompts": self.wording.hash}

    async def run(self, given: Candidates, model: ChatModel, seed: int) -> Chosen:
        """Return the choice; the earliest output where the answer names none.

        Raises:
            CallFailed: the call gave no answer; an answer without text is a bad one.
        """
        if len(given.places) < 2:
            return Chosen(place=given.places[0] if given.places else 0, reason="nothing to choose from")
        sampling = Sampling(max_tokens=self.max_tokens, schema=_SCHEMA)
        text = await answered(model, self.wording.messages(given.prompt), sampling)
        found = read_object(text) or {}
        reply = spoken(text)
        number = _number(found.get("answer", "" if reply.cut else reply.text))
        if number is None or not 1 <= number <= len(given.places):
            return Chosen(place=min(given.places), bad=True)
        reason = found.get("reason")
        return Chosen(place=given.places[number - 1], reason=reason if isinstance(reason, str) else "")

    async def upper(self, given: Candidates, model: ChatModel) -> Upper:
        """Return the price of one call; nothing where there is no choice."""
        if len(given.places) < 2:
            return Upper(0)
        return Upper(1, await model.count_tokens(self.wording.messages(given.prompt)), self.max_tokens)


_SCHEMA = canonical(
    {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "answer": {"type": "integer"}},
        "required": ["reason", "answer"],
        "additionalProperties": False,
    }
)


def _number(said: object) -> int | None:
    """Return the whole number that is said, alone or as the only one in a text."""
    found = whole_number(str(said))
    value = (found.value if found is not None else None) or ""
    return int(value) if re.fullmatch(r"\d{1,5}", value) else None


class Example(_Frozen):
    """A program, what runs before it, and the examples that its agent was shown; None where there is no program."""

    program: str | None
    setup: str
    examples: tuple[str, ...]
    entry_point: str = ""
    files: tuple[InputFile, ...] = ()


class Passed(_Frozen):
    """Whether a program passes all its examples."""

    passed: bool
    error: str = ""


@dataclass(frozen=True)
class TryExamples(Free):
    """Runs a program on the examples that its agent was shown; never on any other test."""

    name: ClassVar[str] = "team-examples"
    version: ClassVar[int] = 1
    spec: ClassVar[JSON] = None
    output: ClassVar[type[BaseModel]] = Passed

    async def run(self, given: Example, model: ChatModel, seed: int) -> Passed:
        """Return whether all examples pass; no program passes none, and nothing is run for it.

        Raises:
            CallFailed: the sandbox could not run it.
        """
        if given.program is None:
            return Passed(passed=False)
        program = f"{given.setup}\n\n{given.program}" if given.setup else given.program
        files = {file.name: file.text.encode() for file in given.files}
        checked = await sandbox_of(model).check(
            program, given.examples, given.setup, files=files, entry_point=given.entry_point
        )  # fmt: skip
        return Passed(passed=checked.all_pass, error=checked.detail)


__all__ = ["Candidates", "ChooseBest", "Chosen", "Example", "Passed", "TryExamples"]
