"""The words that judges are sent: templates in files that anybody may edit, known to the ledger by their hash.

What is under review is fenced by markers and cannot forge them. System, material and reviews come first and are the
same for every neuron of an item and order; the angle comes last. So a server that keeps prefixes computes the long
part once. Knows messages; must not know graphs, models or scores.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from ...errors import SpecError, nearest
from ...models.chat import Message
from ...records import digest
from ...user_files import Unreadable, yaml_value
from ..templates import Templates

FILES = ("system", "material", "roles", "judge", "reviews", "labels", "prefill", "repair")
LABELS = ("A", "B", "C")
"""What a judge that answers with one token says: the first, the second, neither."""

KEPT = 512
"""Rendered parts that are kept: the neurons of an item share most of their prompts, and items share the rest."""

_SHAPES = {
    **dict.fromkeys("\u2039\u27e8\u2329\u3008\u276c\u276e\u2770\u02c2\u1438", "<"),
    **dict.fromkeys("\u203a\u27e9\u232a\u3009\u276d\u276f\u2771\u02c3\u1433", ">"),
    **dict.fromkeys("\u2215\u2044", "/"),
    **dict.fromkeys("\u2212\u2043\u02d7", "-"),
    **dict.fromkeys("\u034f\u115f\u1160", "\u200b"),
}
"""Characters that look like a part of a marker, or like nothing, and that NFKC leaves as they are."""


class _Plain(dict[int, str]):
    """What a character is read as, worked out when first met: never nothing, so that places can be told again."""

    def __missing__(self, code: int) -> str:
        self[code] = "".join(map(self._plain, unicodedata.normalize("NFKC", chr(code)).casefold())) or "\u200b"
        return self[code]

    @staticmethod
    def _plain(char: str) -> str:
        if char in _SHAPES:
            return _SHAPES[char]
        category = unicodedata.category(char)
        if category == "Cf" or unicodedata.name(char, "").startswith("VARIATION SELECTOR"):
            return "\u200b"
        return "-" if category in {"Pd", "Pc"} else char


_PLAIN = _Plain()
_HIDDEN = r"[\s\u200b]*+"  # possessive: a run of spaces is read once
_NAMES = "|".join(
    _HIDDEN.join("[-_]?" if char == "-" else char for char in name)  # a hyphen may be one that is not shown
    for name in ("assistant-1", "assistant-2", "assistant-source", "reviews")
)
_MARKER = re.compile(rf"<{_HIDDEN}(/?{_HIDDEN}(?:{_NAMES})){_HIDDEN}>")
"""A marker in a text read plainly, also with spaces or characters of no width in it."""


class Review(NamedTuple):
    """A review as a later layer reads it: its angle (empty where it is not told) and its text."""

    angle: str
    text: str


@dataclass(frozen=True)
class Wording(Templates):
    """The templates of a folder, by default those that come with Plait.

    Attributes:
        folder: Of `system.txt`, `judge.txt`, ... and `families.yaml`; a file it lacks is Plait's own.

    Raises:
        SpecError: the folder does not exist, a template cannot be read, or a family lacks an entry.
    """

    folder: Path | None = None
    _own: Path = field(default_factory=lambda: Path(str(files(__package__) / "prompts")), repr=False)

    @cached_property
    def families(self) -> dict[str, dict[str, Any]]:
        """What each task family calls its things."""
        where = "prompts: families.yaml"
        try:
            families = yaml_value(self._texts["families.yaml"])
        except Unreadable as error:
            raise SpecError(where, str(error), "a YAML file, each key once") from error
        if not isinstance(families, dict):
            raise SpecError(where, type(families).__name__, "a mapping of families by name")
        for name, family in families.items():
            _check_family(f"{where}: {name}", family)
        return families

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all templates: another wording is another judge."""
        return digest({name.partition(".")[0]: text for name, text in self._texts.items()})

    def family(self, name: str) -> dict[str, Any]:
        """Return the words of a family.

        Raises:
            SpecError: there is none of that name.
        """
        if name not in self.families:
            raise SpecError("judge.family", name, f"a known family: {nearest(name, self.families)}")
        return self.families[name]

    def roles(self, family: str, query: str, first: str, second: str, limit: int | None) -> list[Message]:
        """Return the call that asks from which angles to judge."""
        example = self.family(family)["angles"][0]
        return [_user(self._part("roles", family, (query, first, second), (("limit", limit), ("example", example))))]

    def review(
        self, family: str, query: str, first: str, second: str, angles: Sequence[str], *, labels: bool = False,
        reviews: Sequence[Review] = (), own: Sequence[int] = (), hygiene: bool = False,
    ) -> list[Message]:  # fmt: skip
        """Return the call of one neuron.

        Args:
            family: Task family.
            query: What both answers respond to; may be empty.
            first: The answer shown first.
            second: The answer shown second.
            angles: What to look at.
            labels: Ask for one letter and not for a review with scores.
            reviews: Of the layer before, in one order for every neuron.
            own: Which of them are this neuron's own, from 1.
            hygiene: Warn of majorities.
        """
        parts = [self._part("material", family, (query, first, second))]
        if reviews:
            values = (("reviews", tuple(reviews)), ("own", tuple(own)), ("hygiene", hygiene))
            parts.append(self._part("reviews", family, None, values))
        parts.append(self._part("labels" if labels else "judge", family, None, (("angles", tuple(angles)),)))
        return [{"role": "system", "content": self._part("system", family)}, _user("\n".join(parts))]

    def prefill(self, family: str) -> Message:
        """Return how a judge's one-letter answer begins, for models that go on with a turn of theirs."""
        return {"role": "assistant", "content": self._part("prefill", family)}

    def repair(self, family: str) -> Message:
        """Return what is said to a judge whose scores could not be read."""
        return _user(self._part("repair", family))

    @cached_property
    def _part(self) -> Callable[..., str]:
        """`_render`, each part once as long as it is kept."""
        return lru_cache(maxsize=KEPT)(self._render)

    def _render(
        self, name: str, family: str, material: tuple[str, str, str] | None = None,
        values: tuple[tuple[str, Any], ...] = (),
    ) -> str:  # fmt: skip
        """Return a template's text; what others wrote (query, first, second; reviews, angles) is fenced."""
        given: dict[str, Any] = {**self.family(family), **dict(values)}
        if material is not None:
            given |= zip(("query", "first", "second"), map(fenced, material), strict=True)
        if "reviews" in given:
            given["reviews"] = [Review(fenced(review.angle), fenced(review.text)) for review in given["reviews"]]
        if "angles" in dict(values):  # those of the call; a family's own are nobody's but ours
            given["angles"] = [fenced(angle) for angle in given["angles"]]
        try:
            return self._templates.get_template(f"{name}.txt").render(given).strip()
        except TemplateError as error:
            raise SpecError(f"prompts: {name}.txt", str(error), "a Jinja template of the documented names") from error

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The files, read once: what the hash covers is what is sent, whoever edits them meanwhile."""
        return {name: self.text(name) for name in (*(f"{name}.txt" for name in FILES), "families.yaml")}


def fenced(text: str) -> str:
    """Return text that cannot close or open a marker, nor what only looks like one; all else stays as it is."""
    plain = text.lower() if text.isascii() else text.translate(_PLAIN)
    found = list(_MARKER.finditer(plain))
    if not found:
        return text.strip()
    # One character may be read as several; then a place in what is read is another one in the text.
    same = len(plain) == len(text)
    places = range(len(text)) if same else [at for at, char in enumerate(text) for _ in char.translate(_PLAIN)]
    parts, done = [], 0
    for match in found:
        start, end = places[match.start()], places[match.end() - 1] + 1
        inner = text[places[match.start(1)] : places[match.end(1) - 1] + 1]
        parts += [text[done:start], f"[{inner}]"]
        done = end
    return "".join([*parts, text[done:]]).strip()


def _check_family(where: str, family: object) -> None:
    """Refuse a family that lacks a word, or whose words are no text."""
    wanted = {"source", "answer", "answers", "better", "close", "angles"}
    if not isinstance(family, dict):
        raise SpecError(where, type(family).__name__, f"a mapping of {', '.join(sorted(wanted))}")
    if missing := wanted - set(family):
        raise SpecError(where, sorted(map(str, family)), f"also {', '.join(sorted(missing))}")
    for name in sorted(wanted - {"angles"}):
        if not isinstance(family[name], str):
            raise SpecError(f"{where}: {name}", family[name], "a text")
    angles = family["angles"]
    if not isinstance(angles, list) or not angles or not all(isinstance(angle, str) and angle for angle in angles):
        raise SpecError(f"{where}: angles", angles, "a list of one or more names")


def _user(content: str) -> Message:
    return {"role": "user", "content": content}
