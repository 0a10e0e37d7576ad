"""What an agent's node does: asks, reads the answer, asks once more where it cannot be read; or runs its program.

An answer that cannot be read is an outcome of the agent and no failure: its value is None and it votes for nothing. A
call that gives no answer at all fails its node. Knows chat models; must not know graphs, ledgers or teams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from ...graphs import Free, Upper
from ...models.chat import CallFailed, ChatModel, Message, Sampling
from ...models.thoughts import spoken
from ...records import JSON, seed_of
from ...teams import Schema
from ..sandbox import sandbox_of
from .items import InputFile
from .parsing import NOTHING_MORE, Read, Sought, read
from .wording import Wording, shortened

SHOWN_ERROR = 600
"""Characters of an error that are kept."""
SHOWN_OUTPUT = 4000
"""Characters of a program's output that others are shown."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Asked(_Frozen):
    """What an agent is asked: the whole text, as it is sent."""

    prompt: str


class Said(_Frozen):
    """What an agent said: its text without its thoughts, and the value read from it, None where none could be."""

    text: str
    value: str | None
    retried: bool = False
    """Whether it was asked a second time."""
    error: str = ""
    """Why there is no value."""


@dataclass(frozen=True)
class AskAgent:
    """Asks for an answer under a schema, and once more, with the error shown, where it cannot be read.

    Attributes:
        wording: The prompts.
        schema: What the answer must be.
        form: How the prompt says so; a second question says it again.
        temperature: Of the sampling.
        max_tokens: Of one answer.
        sought: What the item says of a readable answer: texts of options, a program's entry point.
    """

    wording: Wording
    schema: Schema
    form: str
    temperature: float = 0.0
    max_tokens: int = 512
    sought: Sought = NOTHING_MORE
    name: ClassVar[str] = "team-agent"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Said

    @property
    def spec(self) -> JSON:
        """Schema, sampling, prompt hash, what is read for."""
        return {
            **self.sought.as_json(),
            "schema": self.schema.model_dump(mode="json", exclude_defaults=True), "form": self.form,
            "temperature": self.temperature, "max_tokens": self.max_tokens, "prompts": self.wording.hash,
        }  # fmt: skip

    async def run(self, given: Asked, model: ChatModel, seed: int) -> Said:
        """Return what the agent said, at the first try or the second.

        Raises:
            CallFailed: a call gave no answer; an answer without text is one that cannot be read.
        """
        messages = self.wording.messages(given.prompt)
        text, cut = await self._reply(messages, model, given.prompt, seed)
        found = read(text, self.schema, self.sought, cut=cut)
        if found.value is not None:
            return Said(text=spoken(text).text, value=found.value)
        again, cut = await self._reply(self._again(messages, text, found), model, given.prompt, seed)
        second = read(again, self.schema, self.sought, cut=cut)
        kept = spoken(again if again.strip() else text).text
        return Said(text=kept, value=second.value, retried=True, error=second.error)

    async def upper(self, given: Asked, model: ChatModel) -> Upper:
        """Return the price of both tries."""
        first = self.wording.messages(given.prompt)
        retry = self._again(first, "", Read(None, "x" * SHOWN_ERROR))
        prompt = await model.count_tokens(first) + await model.count_tokens(retry) + self.max_tokens
        return Upper(2, prompt, 2 * self.max_tokens)

    async def _reply(self, messages: Sequence[Message], model: ChatModel, prompt: str, seed: int) -> tuple[str, bool]:
        """Return an answer's text, empty where the model answered without any, and whether it ended at its limit."""
        # One seed for all items would give them one luck: servers draw the same noise for the same seed.
        drawn = seed_of(seed, "team-agent", prompt) % 2**31 if self.temperature else None
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens, seed=drawn)
        try:
            reply = await model.generate(messages, sampling)
        except CallFailed as error:
            if error.reason != "Empty":
                raise
            return "", False
        return reply.text, reply.finish == "length"

    def _again(self, messages: Sequence[Message], text: str, found: Read) -> list[Message]:
        """Return the call of the second try; an answer without text is no turn, which some templates refuse."""
        asked = self.wording.render("retry", error=found.error, form=self.form)
        if reply := spoken(text).text:
            said: list[Message] = [{"role": "assistant", "content": reply}, {"role": "user", "content": asked}]
            return [*messages, *said]
        return [*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n\n{asked}"}]


class Written(_Frozen):
    """A program to run, and the files that it may read; None where none could be read, and `error` says why."""

    program: str | None
    files: tuple[InputFile, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class RunProgram(Free):
    """Runs an agent's program; what it prints is what the agent said."""

    schema: Schema
    sought: Sought = NOTHING_MORE
    name: ClassVar[str] = "team-program"
    version: ClassVar[int] = 2
    output: ClassVar[type[BaseModel]] = Said

    @property
    def spec(self) -> JSON:
        """The schema, and what is read for."""
        return {**self.sought.as_json(), **self.schema.model_dump(mode="json", exclude_defaults=True)}

    async def run(self, given: Written, model: ChatModel, seed: int) -> Said:
        """Return the program with its output as text, and the value that the output holds.

        Raises:
            CallFailed: the sandbox could not run it.
        """
        if given.program is None:
            return Said(text="", value=None, error=given.error)
        ran = await sandbox_of(model).run(given.program, {file.name: file.text.encode() for file in given.files})
        last = ran.stderr.strip().rpartition("\n")[2]
        error = "" if ran.ok else shortened(f"{ran.reason}: {last}".rstrip(": "), SHOWN_ERROR)
        found = Read(None, error) if error else read(ran.stdout, self.schema, self.sought)
        why = "" if found.value is not None else found.error
        printed = shortened(ran.stdout.strip(), SHOWN_OUTPUT)
        text = f"```python\n{given.program}\n```\nIt printed:\n{printed}" + (f"\n{error}" if error else "")
        return Said(text=text, value=found.value, error=why)


__all__ = ["AskAgent", "Asked", "RunProgram", "Said", "Written"]
