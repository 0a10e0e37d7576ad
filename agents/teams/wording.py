"""The words that agents of teams are sent: templates in files that anybody may edit, known to the ledger by their hash.

The question and the work so far come first and are the same for all agents of a block; role, instructions and the
form of the answer come last. So a server that keeps prefixes computes the long part once. Knows messages and items;
must not know graphs or models.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import TemplateError

from ...errors import SpecError
from ...models.chat import Message
from ...records import digest
from ...teams import Schema
from ..templates import Templates
from .items import TaskItem

FILES = (
    "system", "material", "shown", "agent", "debate", "chain", "synthesize", "choose", "select", "form", "program",
    "retry",
)  # fmt: skip
"""Templates of the forward pass; a file is called `team_NAME.txt`."""

KEPT = 1024
"""Rendered texts that are kept: the agents of a block share most of their prompts, and items share the rest."""

_MARKER = re.compile(r"<(\s*/?\s*(?:question|setup|examples|files|work|answer)\b[^<>\n]*)>", re.IGNORECASE)


class Work(NamedTuple):
    """What an earlier layer came to: the layer's name and the text."""

    by: str
    text: str


@dataclass(frozen=True)
class Wording(Templates):
    """The templates of a folder, by default those that come with Plait.

    Attributes:
        folder: Of `team_agent.txt`, `team_form.txt`, ...; a file it lacks is Plait's own.

    Raises:
        SpecError: the folder does not exist, or a template cannot be read.
    """

    folder: Path | None = None
    _own: Path = field(default_factory=lambda: Path(str(files(__package__) / "prompts")), repr=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all templates: another wording is another agent."""
        return digest(self._texts)

    def messages(self, prompt: str) -> list[Message]:
        """Return the call that sends a rendered prompt."""
        return [{"role": "system", "content": self.render("system")}, {"role": "user", "content": prompt}]

    def material(self, item: TaskItem, work: Sequence[Work], task: str) -> str:
        """Return what all agents of a block are shown: the item, what earlier layers came to, the layer's task."""
        return self.render(
            "material", question=fenced(item.question), setup=fenced(item.setup),
            visible=tuple(map(fenced, item.visible)), files=tuple(fenced(file.name) for file in item.files),
            work=tuple(Work(fenced(one.by), fenced(one.text)) for one in work), task=task,
        )  # fmt: skip

    def shown(self, texts: Sequence[str], own: int = 0) -> str:
        """Return answers of colleagues, numbered from 1; `own` is the reader's, 0 for none."""
        return self.render("shown", texts=tuple(map(fenced, texts)), own=own)

    def form(self, schema: Schema, *, program: bool = False, files: Sequence[str] = ()) -> str:
        """Return how an answer must be written; `program`: as a program that prints it."""
        asked = {"kind": schema.kind, "options": schema.options, "fields": schema.fields}
        return self.render("program", files=tuple(files), **asked) if program else self.render("form", **asked)

    def render(self, name: str, **values: Hashable) -> str:
        """Return the text of `team_NAME.txt`.

        Raises:
            SpecError: it is no Jinja template of the names it is given.
        """
        return self._rendered(name, tuple(values.items()))

    @cached_property
    def _rendered(self) -> Callable[[str, tuple[tuple[str, Hashable], ...]], str]:
        """`_render`, each text once as long as it is kept."""
        return lru_cache(maxsize=KEPT)(self._render)

    def _render(self, name: str, values: tuple[tuple[str, Hashable], ...]) -> str:
        try:
            return self._templates.get_template(f"team_{name}.txt").render(values).strip()
        except TemplateError as error:
            raise SpecError(f"prompts: team_{name}.txt", str(error), "a Jinja template of known names") from error

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The files, read once: what the hash covers is what is sent, whoever edits them meanwhile."""
        return {f"team_{name}.txt": self.text(f"team_{name}.txt") for name in FILES}


def fenced(text: str) -> str:
    """Return text that neither opens nor closes a marker; all else stays as it is."""
    return _MARKER.sub(r"[\1]", text).strip()


def shortened(text: str, chars: int) -> str:
    """Return a text of `chars` characters at most, with a mark where its middle was left out."""
    if len(text) <= chars:
        return text
    half = chars // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


__all__ = ["FILES", "Wording", "Work", "fenced", "shortened"]
