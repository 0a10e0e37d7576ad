"""The words all folders share: candidates, trials, requests, outcomes, canonical JSON, seeds.

Imports no folder of the package, neither torch nor Ray, and does no I/O.
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

JSON: TypeAlias = Any
"""A value that `canonical` accepts: None, bool, int, finite float, str, list or tuple, dict with str keys."""

EventSink: TypeAlias = Callable[[str, Mapping[str, JSON]], None]
"""Where events go: called with a kind (`outcome`, `incumbent`, `failure`, ...) and its JSON fields."""


def canonical(value: JSON) -> str:
    """Return the one JSON text of `value`: keys sorted, no spaces, NaN and infinities refused.

    Raises:
        ValueError: a float is not finite.
        TypeError: a value has no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: JSON) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def seed_of(seed: int, *purpose: str | int) -> int:
    """Return the 64-bit seed that belongs to (run seed, purpose, index)."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def generator(seed: int, *purpose: str | int) -> random.Random:
    """Return a fresh generator for (run seed, purpose, index).

    Python's generator, not NumPy's: `random()` and `getrandbits()` are promised to give the same stream in
    every release, and a run is resumed by replaying its draws.

    >>> generator(7, "random-search", 0).random() == generator(7, "random-search", 0).random()
    True
    """
    return random.Random(seed_of(seed, *purpose))


@runtime_checkable
class Candidate(Protocol):
    """What a search proposes: frozen, hashable, with one text that names it."""

    @property
    def key(self) -> str:
        """The canonical text: equal keys mean equal candidates."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """The `index`-th candidate that one search asked, counted from 0."""

    index: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Scored:
    """An evaluation that gave an answer.

    `values` are raw (log-probabilities, answers, accuracies), never rewards; `cost` is what it took (layer
    passes, tokens, seconds), which may differ from run to run and is no part of a result's bytes;
    `artifacts` are names of files in the run folder.
    """

    values: Mapping[str, JSON]
    cost: Mapping[str, float] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """An evaluation that gave none.

    `reason` is a short type ("Timeout", "OutOfMemory"), `detail` a line; `retryable` says that the same evaluation
    may succeed later, and `after` in how many seconds at the earliest; `cost` is what the attempt took all the same.
    """

    reason: str
    detail: str = ""
    retryable: bool = False
    after: float = 0.0
    cost: Mapping[str, float] = field(default_factory=dict)


Outcome: TypeAlias = Scored | Failed


def only_finite(outcome: Outcome) -> Outcome:
    """Return `outcome`, or `Failed("NotFinite")` where a number of it is NaN or infinite: no answer, and no JSON.

    Evaluators look themselves where they can say more; this is what stands between any of them and the ledger.
    """
    cost = {name: value for name, value in outcome.cost.items() if math.isfinite(value)}
    if isinstance(outcome, Scored):
        place = _not_finite(outcome.values, "")
        if place is not None:
            return Failed("NotFinite", f"{place} is NaN or infinite", cost=cost)
    return outcome if len(cost) == len(outcome.cost) else replace(outcome, cost=cost)


def _not_finite(value: JSON, place: str) -> str | None:
    """Return where in `value` a number is not finite, the first place; None where all are."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    parts: Iterable[tuple[object, JSON]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for name, part in parts:
        broken = _not_finite(part, f"{place}.{name}" if place else str(name))
        if broken is not None:
            return broken
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """One evaluation to be paid for, as evaluators and the ledger see it.

    Attributes:
        candidate: The candidate's key.
        item: The data item's content, as JSON: all that the values depend on, and nothing else.
        seed: Seed of the evaluation, 0 where it draws nothing.
        sample: Index of the sample, for evaluators that draw several.
        group: Requests of one group share work (an item's paths share layer prefixes): run together, on one
            worker, where possible. No part of the key.
    """

    candidate: str
    item: JSON
    seed: int = 0
    sample: int = 0
    group: str = ""


def evaluator_digest(name: str, version: int, spec: JSON) -> str:
    """Return the digest of an evaluator: its name, version number and whole spec (model hash, dtype, ...)."""
    return digest([name, version, spec])


def request_key(evaluator: str, item: str, request: Request) -> str:
    """Return the ledger key of `request`.

    Args:
        evaluator: From `evaluator_digest`.
        item: `digest(request.item)`, given apart because one item has many requests.
        request: What is to be evaluated.
    """
    parts = [evaluator, item, request.candidate, str(request.seed), str(request.sample)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
