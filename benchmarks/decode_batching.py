"""Sixteen answers at once on the host's batcher, against one at a time and against stock transformers.

    python benchmarks/decode_batching.py [--answers 16] [--alone 4] [--tokens 48] [--repeats 3]

Arms, each on the same chat prompts and with as many new tokens an answer (no end-of-text token): `together` is the
batcher, one thread; `one` is the batcher with one request at a time, the first `--alone` of them; `stock` is
`model.generate` over one left-padded batch on one thread, `stock_all_cores` the same with torch on all cores;
`stock_one` is `model.generate` prompt by prompt, one thread. Repeats are interleaved, rates compared. That `together`
and `one` give the same tokens is asserted, and how many answers of `stock` are the same is printed. Last line: JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from plait import LayeredDecoder, ensure
from plait.models.chat import Sampling
from plait.models.generation import Batcher
from plait.models.generation_request import GenerationRequest
from plait.orchestrator.data import SHIPPED, load_questions
from transformers import AutoModelForCausalLM, AutoTokenizer

Tokens = list[tuple[int, ...]]


def chat_prompts(tokenizer: Any, count: int) -> Tokens:
    """Return chat prompts of differing lengths, made of the shipped questions."""
    prompts = []
    for index, question in enumerate(load_questions(SHIPPED, 4 * count)[::4]):
        asked = f"{question.item()['prompt']} Explain at length." + " Be exact and polite." * (index % 5 * 4)
        turns = [{"role": "user", "content": asked}]
        prompts.append(tuple(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)))
    return prompts


def ours(decoder: LayeredDecoder, prompts: Tokens, tokens: int, at_once: int) -> Tokens:
    """Answer `prompts`, `at_once` at a time; nothing is kept between calls."""
    requests = [GenerationRequest(prompt, Sampling(max_tokens=tokens)) for prompt in prompts]
    batcher, answers = Batcher(decoder, lambda _: "", cache_bytes=0), []
    for start in range(0, len(requests), at_once):
        answers += [answer.tokens for answer in batcher.run(requests[start : start + at_once])]
    return answers


@torch.inference_mode()
def stock(model: Any, prompts: Tokens, tokens: int, at_once: int, threads: int = 1) -> Tokens:
    """Answer `prompts` with `model.generate`, `at_once` in a left-padded batch."""
    torch.set_num_threads(threads)
    answers: Tokens = []
    for start in range(0, len(prompts), at_once):
        batch = prompts[start : start + at_once]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(one)) + list(one) for one in batch])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
        made = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False)
        answers += [tuple(row) for row in made[:, width:].tolist()]
    torch.set_num_threads(1)
    return answers


def main() -> None:
    """Measure the arms in turn and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--alone", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder, cores = ensure("smollm2-135m").folder, len(os.sched_getaffinity(0))
    decoder, model = LayeredDecoder.load(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    decoder.stop_tokens = frozenset()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    prompts = chat_prompts(AutoTokenizer.from_pretrained(folder), given.answers)
    count, tokens = given.answers, given.tokens
    few = prompts[: given.alone]
    arms: dict[str, Callable[[], Tokens]] = {
        "together": lambda: ours(decoder, prompts, tokens, count),
        "stock": lambda: stock(model, prompts, tokens, count),
        "stock_all_cores": lambda: stock(model, prompts, tokens, count, cores),
        "one": lambda: ours(decoder, few, tokens, 1),
        "stock_one": lambda: stock(model, few, tokens, 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    answers = {"together": arms["together"](), "one": arms["one"]()}  # equal answers first; this warms up too
    assert answers["together"][: len(few)] == answers["one"], "an answer depends on its batch-mates"
    for _ in range(given.repeats):
        for name, arm in arms.items():
            start = time.perf_counter()
            answers[name] = arm()
            rates[name].append(len(answers[name]) * tokens / (time.perf_counter() - start))
    rate = {name: statistics.median(measured) for name, measured in rates.items()}
    same = sum(mine == theirs for mine, theirs in zip(answers["together"], answers["stock"], strict=True))
    result = {
        "name": "decode_batching",
        "ratio": round(rate["together"] / rate["one"], 2),
        "cores": cores,
        "over_stock_batch": round(rate["together"] / rate["stock"], 2),
        "over_stock_batch_all_cores": round(rate["together"] / rate["stock_all_cores"], 2),
        "over_stock_one_at_a_time": round(rate["together"] / rate["stock_one"], 2),
        "tokens_per_second": {name: round(median, 1) for name, median in rate.items()},
        "answers_as_stock": f"{same}/{count}",
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
