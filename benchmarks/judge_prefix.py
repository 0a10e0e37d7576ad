"""One item's judge calls on the host's batcher: prompt tokens computed against sent, time against no reuse.

    python benchmarks/judge_prefix.py [--roles 6] [--reviews] [--repeats 3]

The calls of a judge network of 2 layers, each role in both orders of the answers: 4 n calls. Sizes in tokens as in the
cost model of WideDeep on LLMEval^2: 440 of system, question and answers, 210 of role and instruction, 180 a review.
All roles share what comes first, the role comes last; layer 2 has all reviews of layer 1 in one order before the role.
A call reads the log-probabilities of three labels; with `--reviews` those of layer 1 write 180 tokens instead.

`least` counts each token once that some call shares with an earlier one: what a cache without blocks would compute.
`released` is what the released code sends for the same roles (windows of 2, nothing shared). Last line: JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from plait import LayeredDecoder, ensure
from plait.models.chat import Sampling
from plait.models.generation import Batcher, GenerationCounters
from plait.models.generation_choice import LabelTree
from plait.models.generation_request import Answer, GenerationRequest
from plait.orchestrator.data import SHIPPED, load_questions
from transformers import AutoTokenizer

SYSTEM, QUESTION, ANSWER, ROLE, REVIEW = 60, 100, 140, 210, 180
Tokens = tuple[int, ...]


def words(tokenizer: AutoTokenizer) -> Iterator[int]:
    """Yield the tokens of the shipped questions, over and over."""
    text = " ".join(question.item()["prompt"] for question in load_questions(SHIPPED))
    tokens = tokenizer.encode(text)
    while True:
        yield from tokens


def calls(stream: Iterator[int], roles: int) -> list[list[Tokens]]:
    """Return the prompts of each layer, those of an order next to each other."""

    def text(tokens: int) -> Tokens:
        return tuple(next(stream) for _ in range(tokens))

    head, first, second = text(SYSTEM + QUESTION), text(ANSWER), text(ANSWER)
    history = text(2 * roles * REVIEW)
    suffixes = [text(ROLE) for _ in range(roles)]
    orders = [head + first + second, head + second + first]
    return [
        [order + suffix for order in orders for suffix in suffixes],
        [order + history + suffix for order in orders for suffix in suffixes],
    ]


def run(
    decoder: LayeredDecoder, layers: Sequence[Sequence[GenerationRequest]], cache_bytes: int
) -> tuple[list[Answer], GenerationCounters]:
    """Make the calls, a layer at once; return the answers and the counts."""
    batcher = Batcher(decoder, lambda _: "", cache_bytes=cache_bytes)
    return [answer for requests in layers for answer in batcher.run(requests)], batcher.counters


def least_tokens(prompts: Sequence[Tokens]) -> int:
    """Return the tokens of `prompts` that begin no earlier one."""
    known: set[int] = set()
    for prompt in prompts:
        key = 0
        for token in prompt:
            key = hash((key, token))
            known.add(key)
    return len(known)


def released_tokens(roles: int) -> int:
    """Return what the released code sends: own reviews and those of the neighbours on both sides, both orders."""
    shared = SYSTEM + QUESTION + 2 * ANSWER + ROLE
    windows = [len({role - 1, role, role + 1} & set(range(roles))) for role in range(roles)]
    return sum(2 * shared + 2 * (shared + 2 * REVIEW * window) for window in windows)


def main() -> None:
    """Measure both sides in turn and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--roles", type=int, default=6)
    parser.add_argument("--reviews", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = ensure("smollm2-135m").folder
    decoder = LayeredDecoder.load(folder)
    decoder.stop_tokens = frozenset()  # a review has its length
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = {
        label: tuple(tuple(tokenizer.encode(space + label)) for space in ("", " ")) for label in ("A", "B", "tie")
    }
    prompts = calls(words(tokenizer), given.roles)
    layers = [[GenerationRequest(prompt, labels=labels) for prompt in layer] for layer in prompts]
    if given.reviews:
        layers[0] = [GenerationRequest(prompt, Sampling(max_tokens=REVIEW)) for prompt in prompts[0]]
    ratios = []
    for _ in range(given.repeats):
        start = time.perf_counter()
        shared, counts = run(decoder, layers, 1 << 30)
        middle = time.perf_counter()
        plain, without = run(decoder, layers, 0)
        ratios.append((time.perf_counter() - middle) / (middle - start))
        assert shared == plain, "a shared block changed an answer"
    requests = [request for layer in layers for request in layer]
    least, released = least_tokens([request.tokens for request in requests]), released_tokens(given.roles)
    label_rows = sum(len(LabelTree.of(one.labels).rows) for one in requests if one.labels is not None)
    computed = counts.computed - label_rows
    result = {
        "name": "judge_prefix",
        "ratio": round(statistics.median(ratios), 2),
        "cores": len(os.sched_getaffinity(0)),
        "range": [round(min(ratios), 2), round(max(ratios), 2)],
        "calls": len(requests),
        "sent": counts.sent,
        "computed": computed,
        "computed_without_reuse": without.computed - label_rows,
        "least": least,
        "computed_over_least": round(computed / least, 3),
        "released_over_computed": round(released / computed, 2),
        "released_over_least": round(released / least, 2),
        "reviews": given.reviews,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
