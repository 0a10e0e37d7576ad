"""Scoring a file of questions along one layer path: no search, no run folder, one row an item."""

import json
from pathlib import Path
from typing import Any, get_args

from ...candidates import LayerPath
from ...errors import SpecError, nearest
from ...models.evaluator import OptionScorer, ScorerSpec
from ...models.packing import Bos
from ...models.sources import ensure, weights_folder
from ...models.sources.convert import Dtype
from ...records import JSON, Failed, Request, Scored
from ..data import Question, load_questions
from ..runfolder import write_text

BATCH = 16
"""Items scored at once; rows of many items share the layers' matrix products."""


def score_file(
    model: str, data: str, path: str, out: Path, *, limit: int | None, bos: str, dtype: str, alone: bool
) -> dict[str, JSON]:
    """Write one JSON line an item: id, sums, tokens, bytes, answer and the prediction by each rule.

    Returns:
        What was done: items, path, accuracy by rule.

    Raises:
        SpecError: path, bos or dtype cannot be used with this model.
        DataError: a question cannot be used.
    """
    import torch

    for name, value, known in (("bos", bos, get_args(Bos)), ("dtype", dtype, get_args(Dtype))):
        if value not in known:
            raise SpecError(name, value, nearest(value, list(known)))
    questions = load_questions(data, limit)
    layers = LayerPath.parse(path) if path else None
    local = ensure(model)
    layers = layers or LayerPath.identity(local.layers)
    layers.check(local.layers)
    torch.set_num_threads(1)  # equal bits in any batch need it
    spec = ScorerSpec(local.model_hash, dtype, "cpu", bos, "alone" if alone else "batched")  # type: ignore[arg-type]
    scorer = OptionScorer.load(weights_folder(local, spec.dtype), spec)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(questions), BATCH):
        part = questions[start : start + BATCH]
        outcomes = scorer.evaluate([Request(layers.key, question.item()) for question in part])
        for question, outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, Failed):
                raise SpecError(f"{data}: {question.id}", outcome.detail, "a question that fits the model")
            rows.append(_row(question, outcome))
    write_text(out, "".join(f"{json.dumps(row)}\n" for row in rows))
    accuracy = {
        rule: sum(row[f"by_{rule}"] == row["answer"] for row in rows) / len(rows) for rule in ("sum", "token", "byte")
    }
    return {"items": len(rows), "path": layers.key, "out": str(out), "accuracy": accuracy}


def _row(question: Question, outcome: Scored) -> dict[str, JSON]:
    sums, tokens, sizes = (outcome.values[name] for name in ("sums", "tokens", "bytes"))
    row = {"id": question.id, "sums": sums, "tokens": tokens, "bytes": sizes, "answer": question.answer}
    for rule, divide in (("sum", [1] * len(sums)), ("token", tokens), ("byte", sizes)):
        values = [total / size for total, size in zip(sums, divide, strict=True)]
        row[f"by_{rule}"] = values.index(max(values))
    return row
