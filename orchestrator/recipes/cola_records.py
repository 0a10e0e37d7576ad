"""What a CoLa run found, item by item, as plain values; and what a path's scores say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...candidates import LayerPath
from ...records import JSON, Failed, Outcome, Scored, Trial

Rule = Literal["sum", "token", "byte"]
RULES: tuple[Rule, ...] = ("sum", "token", "byte")


@dataclass(frozen=True, slots=True)
class PathScore:
    """One path's scores of one item: `sums` in nats per option, or why there are none."""

    path: LayerPath
    sums: tuple[float, ...] | None
    failure: str = ""

    def to_json(self) -> JSON:
        """Return plain JSON."""
        if self.sums is None:
            return {"path": self.path.key, "failure": self.failure}
        return {"path": self.path.key, "sums": list(self.sums)}

    @classmethod
    def from_json(cls, values: Mapping[str, JSON]) -> "PathScore":
        """Return what `to_json` wrote."""
        sums = values.get("sums")
        return cls(LayerPath.parse(values["path"]), None if sums is None else tuple(sums), values.get("failure", ""))

    @classmethod
    def of(cls, trial: Trial, outcome: Outcome) -> "PathScore":
        """Return the record of a study's outcome."""
        assert isinstance(trial.candidate, LayerPath)
        if isinstance(outcome, Failed):
            return cls(trial.candidate, None, f"{outcome.reason}: {outcome.detail}")
        return cls(trial.candidate, tuple(outcome.values["sums"]))


@dataclass(frozen=True)
class ItemRecord:
    """One question with all that was evaluated on it.

    Attributes:
        id: Of the question.
        question: Its text.
        choices: Its options.
        answer: Index of the right one.
        prompt_tokens: Tokens of the prompt.
        tokens: Tokens per option.
        bytes: UTF-8 bytes per option, leading space included.
        depth: Layers of the unmodified decoder.
        split: `dev` items choose the label-free menu, `test` items judge it.
        search: The identity, then the search's paths in the order of asking.
        random: The identity, then random search's paths.
        menu: The candidate paths of the label-free choice.
        verified: The reported path again, alone, nothing shared or batched.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    prompt_tokens: int
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    depth: int
    split: str
    search: tuple[PathScore, ...]
    random: tuple[PathScore, ...] = ()
    menu: tuple[PathScore, ...] = ()
    verified: tuple[PathScore, ...] = ()

    def to_json(self) -> JSON:
        """Return plain JSON."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        lists = {name: [score.to_json() for score in getattr(self, name)] for name in _SCORES}
        return {**{name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}, **lists}

    @classmethod
    def from_json(cls, values: Mapping[str, JSON]) -> "ItemRecord":
        """Return what `to_json` wrote."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v := values[name], list) else v for name in _PLAIN}
        fields |= {name: tuple(map(PathScore.from_json, values[name])) for name in _SCORES}
        return cls(**fields)

    @property
    def identity(self) -> PathScore:
        """The unmodified decoder's scores."""
        return self.search[0]

    def normalised(self, score: PathScore, rule: Rule) -> tuple[float, ...]:
        """Return the options' scores under `rule`: nats, nats per token or nats per byte."""
        assert score.sums is not None
        sizes: Sequence[int] = {"sum": (1,) * len(score.sums), "token": self.tokens, "byte": self.bytes}[rule]
        return tuple(total / size for total, size in zip(score.sums, sizes, strict=True))

    def prediction(self, score: PathScore, rule: Rule) -> int | None:
        """Return the option that `score` picks, the first of equals; None where there is no score."""
        if score.sums is None:
            return None
        values = self.normalised(score, rule)
        return values.index(max(values))

    def right(self, score: PathScore, rule: Rule) -> bool:
        """Return whether `score` picks the right option."""
        return self.prediction(score, rule) == self.answer


_PLAIN = ("id", "question", "choices", "answer", "prompt_tokens", "tokens", "bytes", "depth", "split")
_SCORES = ("search", "random", "menu", "verified")


def reported_path(item: ItemRecord, rule: Rule) -> LayerPath:
    """Return the shortest right path of the search, the first asked of equals; the identity where none is right."""
    right = [score.path for score in item.search if item.right(score, rule)]
    return min(right, key=len) if right else item.identity.path


def sizes_of(outcome: Scored) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return prompt tokens, tokens per option and bytes per option of an outcome."""
    values = outcome.values
    return values["prompt_tokens"], tuple(values["tokens"]), tuple(values["bytes"])
