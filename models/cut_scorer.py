"""Cut decoders as an evaluator: a cut and a number of distillation steps in, raw log-probabilities out.

What it returns is raw: nats a sequence of text, log-probabilities an option of a question. Perplexity, accuracy and
rewards are made of them where they are read. Must not know Ray, ledgers or searches.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..candidates import LayerPath
from ..decoder_cuts import DecoderCut
from ..errors import PlaitError
from ..records import JSON, Failed, Outcome, Request, Scored, digest
from .cut_distill import Distillation, distil, last_states, sequence_nats
from .decoder import LayeredDecoder
from .decoder_cut import Calibration, cut_model, load_model
from .evaluator import OptionScorer, ScorerSpec

QUESTIONS = "questions"
"""The split that is scored as questions and not as text."""

TOGETHER = 8
"""Questions that are scored at once."""


@dataclass(frozen=True)
class CutData:
    """What students are trained and measured on.

    Attributes:
        fit: Token ids [sequences, length] to distil on.
        texts: By split, token ids [sequences, length] to measure perplexity on.
        questions: Each {"prompt", "options"}, without the answer.
        calibration: Which channels a narrow block keeps.
    """

    fit: Tensor
    texts: Mapping[str, Tensor]
    questions: Sequence[JSON]
    calibration: Calibration

    @property
    def digests(self) -> dict[str, str]:
        """What a value depends on, part by part."""
        texts = {f"text {name}": digest(part.tolist()) for name, part in sorted(self.texts.items())}
        own = {"fit": digest(self.fit.tolist()), QUESTIONS: digest(list(self.questions))}
        return {**own, **texts, "channels": self.calibration.hash}


@dataclass
class _Cost:
    """What an evaluation took."""

    started: float = field(default_factory=time.perf_counter)
    worked: float = field(default_factory=time.process_time)
    trained: int = 0
    scored: int = 0

    def read(self) -> dict[str, float]:
        took = {"seconds": time.perf_counter() - self.started, "cpu_seconds": time.process_time() - self.worked}
        return {**took, "tokens_trained": float(self.trained), "tokens_scored": float(self.scored)}


class CutScorer:
    """Evaluates cuts: `candidate` is a cut's text, `item` {"steps", "seed", "splits"}.

    `steps` of distillation (0: as it is cut), `seed` of its order, and `splits` to be measured: names of texts, or
    "questions".
    """

    name: ClassVar[str] = "decoder-cut"
    version: ClassVar[int] = 2
    """Raise it whenever a change of this file, the distillation, the cutting or option scoring may change a value."""

    def __init__(self, model: Any, tokenizer: Any, model_hash: str, data: CutData, how: Distillation) -> None:
        self._model, self._tokenizer, self._hash = model, tokenizer, model_hash
        self._data, self._how = data, how
        self._states: Tensor | None = None

    @property
    def spec(self) -> JSON:
        """The part of the ledger key that this evaluator answers for."""
        return spec_of(self._hash, self._data, self._how)

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return one outcome a request, in order.

        `Scored.values` have, per split of text, `nats` (one sum a sequence) and `tokens` (predicted in each); under
        "questions" one {"sums", "tokens", "bytes"} a question, as `OptionScorer` gives them; and `losses`, one a step.
        A cut that the model does not have, or a split that is not there, is `Failed("BadInput")`; a loss that is not
        finite is `Failed("Diverged")`.
        """
        return [self._evaluate(request) for request in requests]

    def student(self, cut: DecoderCut, steps: int, seed: int) -> tuple[Any, list[float]]:
        """Return a cut model after its distillation, and the loss of every step."""
        model = cut_model(self._model, cut, self._data.calibration.channels)
        if not steps:
            return model, []
        if self._states is None:
            self._states = last_states(self._model, self._data.fit)
        return model, distil(model, self._model, self._data.fit, self._states, self._how, steps=steps, seed=seed)

    def _evaluate(self, request: Request) -> Outcome:
        cost, item = _Cost(), request.item
        unknown = set(item["splits"]) - {*self._data.texts, QUESTIONS}
        if unknown:
            return Failed("BadInput", f"no split {', '.join(sorted(unknown))}")
        try:
            model, losses = self.student(DecoderCut.parse(request.candidate), item["steps"], item["seed"])
        except PlaitError as error:
            return Failed("BadInput", str(error))
        cost.trained = len(losses) * self._how.batch * self._data.fit.shape[1]
        if losses and not math.isfinite(losses[-1]):
            return Failed("Diverged", f"loss {losses[-1]} at step {len(losses)}", cost=cost.read())
        values: dict[str, JSON] = {"losses": [round(loss, 6) for loss in losses]}
        for split in sorted(set(item["splits"]) - {QUESTIONS}):
            text = self._data.texts[split]
            values[split] = {"nats": sequence_nats(model, text), "tokens": text.shape[1] - 1}
            cost.scored += text.numel()
        if not all(math.isfinite(sum(values[split]["nats"])) for split in values if split != "losses"):
            return Failed("Diverged", "log-probabilities are not finite", cost=cost.read())
        if QUESTIONS in item["splits"]:  # last: the option scorer changes how the model runs its attention
            scores = self._options(model, cost)
            if isinstance(scores, Failed):
                return replace(scores, cost=cost.read())
            values[QUESTIONS] = scores
        return Scored(values, cost.read())

    def _options(self, model: Any, cost: _Cost) -> list[JSON] | Failed:
        """Return the raw option scores of every question, or why one of them has none."""
        decoder = LayeredDecoder(model)
        scorer = OptionScorer(decoder, self._tokenizer, ScorerSpec(self._hash), cache_bytes=1 << 26)
        path, scores = LayerPath.identity(decoder.depth).key, list[JSON]()
        questions = self._data.questions
        for start in range(0, len(questions), TOGETHER):
            for outcome in scorer.evaluate([Request(path, item) for item in questions[start : start + TOGETHER]]):
                if isinstance(outcome, Failed):
                    return Failed(outcome.reason, f"question {len(scores)}: {outcome.detail}")
                scores.append({name: outcome.values[name] for name in ("sums", "tokens", "bytes")})
                cost.scored += outcome.values["prompt_tokens"] + sum(outcome.values["tokens"])
        return scores


def spec_of(model_hash: str, data: CutData, how: Distillation) -> JSON:
    """Return what a cut scorer's values depend on, beside cut and item."""
    return {"model": model_hash, "dtype": "float32", "data": data.digests, "distillation": asdict(how)}


@dataclass(frozen=True)
class CutScorerIdentity:
    """What the ledger knows a cut scorer by, where the model itself is with the workers."""

    model: str
    data: CutData
    how: Distillation

    @property
    def name(self) -> str:
        """The evaluator's name."""
        return CutScorer.name

    @property
    def version(self) -> int:
        """The evaluator's version."""
        return CutScorer.version

    @property
    def spec(self) -> JSON:
        """All else that values depend on."""
        return spec_of(self.model, self.data, self.how)


def load_scorer(folder: Path | str, model_hash: str, data: CutData, how: Distillation) -> CutScorer:
    """Return a scorer of the model in `folder`; this process computes on one thread from then on.

    More threads would change last bits, and workers would fight over the cores.
    """
    from .loading import load_tokenizer

    torch.set_num_threads(1)
    model = load_model(folder)
    tokenizer = load_tokenizer(folder, model.config.vocab_size)
    return CutScorer(model, tokenizer, model_hash, data, how)
