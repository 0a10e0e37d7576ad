"""Fits a request to an endpoint: what it refuses of our own fields is left out or named otherwise, and it is said.

Reasoning models refuse a temperature, stop texts or `max_tokens`; gateways refuse seeds and schemas. None of these was
asked for by the user, so a refusal that names one is answered by the same request without it; what an endpoint refused
once is not sent to it again. Pure: sends nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..records import JSON
from .chat import CallFailed

LIMITS = ("max_tokens", "max_completion_tokens")
"""The two names of an answer's limit."""

LOSSES = {
    "temperature": "takes no temperature: it samples in its own way, so answers may differ from call to call",
    "seed": "takes no seed: draws cannot be repeated",
    "top_p": "takes no top_p: it draws from its own share of the tokens",
    "stop": "takes no stop texts: answers are cut here",
    "response_format": "takes no schema: answers are read with care instead",
}
"""What is left out where it is refused, in the order that decides nothing, and what is lost by it."""

_NAMES = {
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "top_p": r"\btop[_ -]?p\b",
    "stop": r"\bstop(?:[_ -]?(?:sequences?|words?|texts?))?\b",
    "response_format": r"\bresponse[_ -]?format\b|\b(?:json[_ -]?)?schema\b|\bstructured[_ -]?outputs?\b|\bguided[_ -]",
    "max_tokens": r"\bmax[_ -]?tokens\b",
    "max_completion_tokens": r"\bmax[_ -]?completion[_ -]?tokens\b",
}
_NAMED = {name: re.compile(spelling, re.IGNORECASE) for name, spelling in _NAMES.items()}
"""How servers spell these fields in their refusals."""

MOST = 6
"""Requests in a row that one call may take to be fitted."""


@dataclass
class Fitting:
    """What one endpoint refuses; learnt from refusals, and certain only once a request without it was taken.

    Attributes:
        limit: The field that limits an answer's tokens.
        fixed: Fields that the user set: a refusal of these is the user's to hear.
        refused: Fields that are not sent any more.
    """

    limit: str
    fixed: frozenset[str] = frozenset()
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[str, ...]:
        """What the endpoint does not take, a line each."""
        return tuple(self.refused.values())

    def body(self, fields: Mapping[str, JSON], without: frozenset[str] = frozenset()) -> dict[str, JSON]:
        """Return the fields as this endpoint takes them; `without` is on trial."""
        left_out = {*self.refused, *without}
        body = {name: value for name, value in fields.items() if name not in left_out}
        limit = next((name for name in LIMITS if name in fields), None)
        if limit is not None:  # the other name is sent where one is refused
            body.pop(limit, None)
            name = self.limit if self.limit not in left_out else next(one for one in LIMITS if one != self.limit)
            body[name] = fields[limit]
        return body

    def refusal(self, failure: CallFailed, body: Mapping[str, JSON], tried: frozenset[str]) -> frozenset[str]:
        """Return the fields of `body` that a failure names as refused and that may be left out; none: it stands."""
        if failure.reason not in {"BadRequest", "Unsupported"}:
            return frozenset()
        words = _named_in(failure)
        found = {name for name in LOSSES if name in body and name in words and name not in self.fixed}
        limit = next((name for name in LIMITS if name in body and name in words), None)
        other_was_tried = any(name in tried for name in LIMITS)
        if limit is not None and limit not in self.fixed and not other_was_tried:
            found.add(limit)
        return frozenset(found)

    def speaks_of(self, failure: CallFailed, tried: frozenset[str]) -> bool:
        """Whether a failure names what `tried` was sent or left out, so that an earlier refusal says more."""
        limits = {*LIMITS} if tried & {*LIMITS} else set()
        return bool(_named_in(failure) & (tried | limits))

    def learn(self, refused: frozenset[str], where: str) -> None:
        """Remember what a request was taken without."""
        for name in sorted(refused):
            if name in LIMITS:
                self.limit = next(one for one in LIMITS if one != name)
                self.refused[name] = f"{where} takes no {name}: {self.limit} is sent in its place"
            else:
                self.refused[name] = f"{where} {LOSSES[name]}"


def _named_in(failure: CallFailed) -> frozenset[str]:
    """Return the fields that a server's words name; the endpoint's own name before them may hold such a word."""
    words = failure.detail.partition(": HTTP ")[2] or failure.detail
    return frozenset(name for name, spelling in _NAMED.items() if spelling.search(words))


__all__ = ["LIMITS", "LOSSES", "MOST", "Fitting"]
