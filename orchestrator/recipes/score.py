"""Scoring a file of questions along one layer path: no search, no run folder, one row an item."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ...candidates import LayerPath
from ...errors import SpecError, nearest
from ...models.chat import CallFailed
from ...models.chat_template import ChatTemplate
from ...models.evaluator import OptionScorer, ScorerSpec
from ...models.packing import Bos
from ...models.sources import LocalModel, ensure, text_hash, weights_folder
from ...models.sources.convert import Dtype
from ...records import JSON, Failed, Request, Scored
from ..data import TEMPLATE, Question, Row, question_rows
from ..runfolder import write_text

BATCH = 16
"""Items scored at once; rows of many items share the layers' matrix products."""

RULES = ("sum", "token", "byte")


@dataclass(frozen=True)
class ScoreOptions:
    """How a file is scored.

    Attributes:
        limit: Use the first so many lines.
        bos: What opens a prompt; a chat template writes its own.
        dtype: Numbers that the layers compute in.
        alone: Nothing shared, nothing batched.
        template: The prompt; None for the usual one, or for the question alone where it is a chat's turn.
        chat: The prompt is a user's turn in the model's chat template, the options begin the answer.
        max_failures: Share of the lines that may give no score.
    """

    limit: int | None = None
    bos: str = "auto"
    dtype: str = "float32"
    alone: bool = False
    template: str | None = None
    chat: bool = False
    max_failures: float = 0.1


def score_file(model: str, data: str, path: str | None, out: Path, options: ScoreOptions) -> dict[str, JSON]:
    """Write one JSON line an item: id, sums, tokens, bytes, answer and the prediction by each rule.

    A line that cannot be read, and a question that cannot be scored, is left out and reported.

    Returns:
        What was done: items, path, accuracy by rule, and per line that was left out its number, id and reason.

    Raises:
        SpecError: path, bos, dtype, template or `out` cannot be used with this model.
        DataError: no line is a question; the error is that of the first.
    """
    import torch

    _check(options, out)
    rows = question_rows(data)[: options.limit]
    if rows[0].problem is not None and all(row.question is None for row in rows):
        raise rows[0].problem
    layers = None if path is None else LayerPath.parse(path)
    local = ensure(model)
    layers = layers or LayerPath.identity(local.layers)
    layers.check(local.layers)
    torch.set_num_threads(1)  # equal bits in any batch need it
    scorer, prompts = _scorer(local, options), _Prompts(local, options)
    excluded = [_excluded(row, str(row.problem)) for row in rows if row.problem is not None]
    lines: list[dict[str, Any]] = []
    asked: list[tuple[Row, Question, dict[str, Any]]] = []
    for row in rows:
        if row.question is None:
            continue
        try:
            asked.append((row, row.question, prompts(row.question)))
        except CallFailed as failure:
            excluded.append(_excluded(row, failure.detail))
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        outcomes = scorer.evaluate([Request(layers.key, item) for _, _, item in part])
        for (row, question, _), outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, Failed):
                excluded.append(_excluded(row, f"{outcome.reason}: {outcome.detail}"))
            else:
                lines.append(_line(question, outcome))
    write_text(out, "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in lines))
    accuracy = {rule: _accuracy(lines, rule) for rule in RULES}
    excluded.sort(key=lambda one: one["line"])
    share = len(excluded) / len(rows)
    return {
        "items": len(lines), "path": layers.key, "out": str(out), "accuracy": accuracy,
        "excluded": excluded, "failed_share": round(share, 6),
    }  # fmt: skip


def _check(options: ScoreOptions, out: Path) -> None:
    """Refuse what cannot run before anything is read or loaded."""
    for name, value, known in (("bos", options.bos, get_args(Bos)), ("dtype", options.dtype, get_args(Dtype))):
        if value not in known:
            raise SpecError(name, value, nearest(value, list(known)))
    if not (math.isfinite(options.max_failures) and 0 <= options.max_failures <= 1):
        raise SpecError("--max-failures", options.max_failures, "a share from 0 to 1")
    if options.template is not None and "{question}" not in options.template:
        raise SpecError("--template", options.template, "a text with {question} in it")
    if options.chat and options.bos != "auto":
        raise SpecError("--bos", options.bos, "none beside --chat-template: the template writes its own")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise SpecError("--out", str(out), "a file in a folder that exists")


def _scorer(local: LocalModel, options: ScoreOptions) -> OptionScorer:
    folder = weights_folder(local, options.dtype)  # type: ignore[arg-type]
    spec = ScorerSpec(
        local.model_hash, options.dtype, "cpu", "never" if options.chat else options.bos,  # type: ignore[arg-type]
        "alone" if options.alone else "batched", files=text_hash(local.folder),
    )  # fmt: skip
    return OptionScorer.load(folder, spec)


class _Prompts:
    """Turns questions into what is scored: prompt and options."""

    def __init__(self, local: LocalModel, options: ScoreOptions) -> None:
        self._template = options.template or ("{question}" if options.chat else TEMPLATE)
        self._chat: ChatTemplate | None = None
        if options.chat:
            from transformers import AutoTokenizer

            self._chat = ChatTemplate(AutoTokenizer.from_pretrained(local.folder, local_files_only=True))
            if self._chat.digest is None:
                raise SpecError("--chat-template", "a model that comes with none", "a model with a chat template")

    def __call__(self, question: Question) -> dict[str, Any]:
        item: dict[str, Any] = question.item(self._template)
        if self._chat is None:
            return item
        prompt = self._chat.text([{"role": "user", "content": item["prompt"]}])
        return {"prompt": prompt, "options": list(question.choices)}


def _excluded(row: Row, reason: str) -> dict[str, JSON]:
    return {"line": row.line, "id": None if row.question is None else row.question.id, "reason": reason}


def _line(question: Question, outcome: Scored) -> dict[str, JSON]:
    sums, tokens, sizes = (outcome.values[name] for name in ("sums", "tokens", "bytes"))
    line = {"id": question.id, "sums": sums, "tokens": tokens, "bytes": sizes, "answer": question.answer}
    for rule, divide in zip(RULES, ([1] * len(sums), tokens, sizes), strict=True):
        values = [total / size for total, size in zip(sums, divide, strict=True)]
        line[f"by_{rule}"] = values.index(max(values))
    return line


def _accuracy(lines: Sequence[dict[str, Any]], rule: str) -> float | None:
    """Return the share of right predictions among what was scored; None where nothing was."""
    return sum(line[f"by_{rule}"] == line["answer"] for line in lines) / len(lines) if lines else None
