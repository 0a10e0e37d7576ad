"""Figures of a run that cut a language model, and the result in the hand. Pure but for the page's template."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...decoder_cuts import DecoderCut
from ...intervals import FEWEST, excludes_zero, mean_interval, paired_interval, too_few
from ...models.cut_scorer import QUESTIONS
from ...records import JSON, Failed, Outcome, Scored, Trial
from ...search.cut_space import CutSpace
from ..data import Question
from .compress_decoder_spec import CompressDecoderSpec
from .result import MethodResult

Told = Sequence[tuple[Trial, Outcome]]


@dataclass(frozen=True)
class Found:
    """What the studies gave: finalists by name, and outcomes by strand."""

    cuts: Mapping[str, DecoderCut]
    outcomes: Mapping[str, Told] = field(default_factory=dict)

    def outcome(self, strand: str) -> Outcome | None:
        """Return the one outcome of a strand that asks once."""
        told = self.outcomes.get(strand, ())
        return told[0][1] if told else None


def reward(trial: Trial, outcome: Scored) -> Scored:
    """Return what the searches maximise: the mean log-probability of a validation token, in nats."""
    return Scored({"reward": -_mean(_nats(outcome, "validation"))})


def summarise(
    spec: CompressDecoderSpec, space: CutSpace, influence: Sequence[float], questions: Sequence[Question], found: Found
) -> dict[str, JSON]:
    """Return all figures.

    `full` and each of `rows`: name, cut, params, share, blocks, `before` and `after` distillation per text {nats,
    perplexity: mean, low, high}, and `accuracy`; rows also have the paired differences of their test nats (`less_nats`,
    what the policy's cut needs less of a token) and of their accuracy (`less_right`, what the full model has more).
    `chosen` names the row with the best validation text after distillation; test figures play no part in it.
    """
    full = found.outcome("full")
    base = _row("full", space.sizes.full, space, None, full, questions, spec.rule)
    rows = [
        _row(name, cut, space, found.outcome(f"before/{name}"), found.outcome(f"after/{name}"), questions, spec.rule)
        for name, cut in found.cuts.items()
    ]
    for row in rows:
        after = found.outcome(f"after/{row['name']}")
        row |= {
            "less_nats": _difference(after, found.outcome("after/policy"), "test"),
            "less_right": _less_right(full, after, questions, spec.rule),
        }
    ranked = [row for row in rows if row["after"]]
    chosen = min(ranked, key=lambda row: row["after"]["validation"]["nats"]["mean"])["name"] if ranked else None
    return {
        "full": base, "rows": rows, "chosen": chosen, "limit": space.params, "rule": spec.rule,
        "influence": [round(value, 6) for value in influence],
        "chance": _mean([1 / len(question.choices) for question in questions]),
        "majority": _majority(questions),
        "screening": {name: _curve(found.outcomes.get(name, ())) for name in ("policy", "prior", "random")},
    }  # fmt: skip


def _row(
    name: str, cut: DecoderCut, space: CutSpace, before: Outcome | None, after: Outcome | None,
    questions: Sequence[Question], rule: str,
) -> dict[str, JSON]:  # fmt: skip
    params = space.sizes.params(cut)
    failures = [f"{one.reason}: {one.detail}" for one in (before, after) if isinstance(one, Failed)]
    return {
        "name": name, "cut": cut.key, "params": params, "share": params / space.sizes.params(space.sizes.full),
        "blocks": len(cut.blocks), "uniform": cut.uniform, "before": _texts(before), "after": _texts(after),
        "accuracy": mean_interval(_right(after, questions, rule), "accuracy"), "failure": "; ".join(failures),
    }  # fmt: skip


def _texts(outcome: Outcome | None) -> dict[str, JSON] | None:
    """Return per text nats a token and perplexity, with intervals over sequences."""
    if not isinstance(outcome, Scored):
        return None
    texts: dict[str, JSON] = {}
    for name in sorted(set(outcome.values) - {"losses", QUESTIONS}):
        nats = mean_interval(_nats(outcome, name), name)
        ends = {"mean": nats["mean"], "low": nats["low"], "high": nats["high"]}
        shown = {end: None if value is None else math.exp(min(value, 700.0)) for end, value in ends.items()}
        texts[name] = {"nats": nats, "perplexity": shown}
    return texts


def _nats(outcome: Scored, text: str) -> list[float]:
    values = outcome.values[text]
    return [total / values["tokens"] for total in values["nats"]]


def _right(outcome: Outcome | None, questions: Sequence[Question], rule: str) -> list[float]:
    """Return 1 a question answered right, else 0; nothing where questions were not scored."""
    if not isinstance(outcome, Scored) or QUESTIONS not in outcome.values:
        return []
    right = []
    for question, scores in zip(questions, outcome.values[QUESTIONS], strict=True):
        sizes = {"sum": [1] * len(scores["sums"]), "token": scores["tokens"], "byte": scores["bytes"]}[rule]
        values = [total / size for total, size in zip(scores["sums"], sizes, strict=True)]
        right.append(float(values.index(max(values)) == question.answer))
    return right


def _difference(theirs: Outcome | None, ours: Outcome | None, text: str) -> JSON:
    if not (isinstance(theirs, Scored) and isinstance(ours, Scored)):
        return None
    return paired_interval(_nats(theirs, text), _nats(ours, text), "nats")


def _less_right(full: Outcome | None, cut: Outcome | None, questions: Sequence[Question], rule: str) -> JSON:
    before, after = _right(full, questions, rule), _right(cut, questions, rule)
    return paired_interval(before, after, "right") if before and after else None


def _majority(questions: Sequence[Question]) -> float:
    """Return the accuracy of always giving the most frequent place: it uses the answers."""
    answers = [question.answer for question in questions]
    return max(answers.count(place) for place in set(answers)) / len(answers)


def _curve(told: Told) -> list[float | None]:
    """Return the best validation perplexity after each untrained cut, in the order of asking."""
    best, curve = math.inf, []
    for trial, outcome in told:
        if isinstance(outcome, Scored):
            best = min(best, -float(reward(trial, outcome).values["reward"]))
        curve.append(None if math.isinf(best) else round(math.exp(best), 4))
    return curve


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def statement(summary: Mapping[str, JSON]) -> str:
    """Return in sentences which cut is best on the validation text, and how the policy's compares on the test text."""
    if summary["chosen"] is None:
        return "No student was distilled."
    parts = [f"Best on the validation text after distillation: {summary['chosen']}."]
    groups: dict[str, list[str]] = {"better than": [], "worse than": [], "not to be told from": []}
    sequences = 0
    for row in summary["rows"]:
        less = row["less_nats"]
        if row["name"] == "policy" or less is None:
            continue
        sequences = less["n"] if too_few(less) else 0
        words = "better than" if less["mean"] > 0 else "worse than"
        groups[words if excludes_zero(less) else "not to be told from"].append(row["name"])
    for words, names in groups.items():
        if names:
            parts.append(f"On the test text the policy's cut is {words} {', '.join(names)}.")
    if sequences:
        parts.append(f"{sequences} test sequences are too few to tell cuts apart ({FEWEST} are the least).")
    return " ".join(parts)


class CompressDecoderResult(MethodResult):
    """What a run found; `summary` is described at `summarise`."""

    def line(self) -> str:
        """Return the outcome in a line."""
        chosen, full = self.summary["chosen"], self.summary["full"]
        if chosen is None or full["after"] is None:
            return f"{self.status}: no student, {self.folder}"
        row = next(row for row in self.summary["rows"] if row["name"] == chosen)
        texts = [f"{one['after']['test']['perplexity']['mean']:.2f}" for one in (full, row)]
        return f"{self.status}: {chosen}, {row['share']:.3f}x, perplexity {texts[0]} to {texts[1]}, {self.folder}"

    def show(self, console: Console) -> None:
        """Print every finalist beside the full model, controls and chance."""
        from ..report.compress_decoder_page import table_rows

        table = Table(*table_rows(self.summary)[0], box=None, pad_edge=False)
        for row in table_rows(self.summary)[1:]:
            table.add_row(*(Text(part) for part in row))
        console.print(table)
        console.print(Text(f"\n{statement(self.summary)}"))
        self.show_end(console)

    def page(self) -> str:
        """Return report.html."""
        from ..report.compress_decoder_page import render

        return render(self.data, self.timing)


def rows_of(summary: Mapping[str, JSON]) -> list[dict[str, Any]]:
    """Return the full model and every finalist."""
    return [summary["full"], *summary["rows"]]
