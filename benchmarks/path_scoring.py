"""The (item, path) set of a real search over ARC-Easy items: ours on two cores against serial stock layers.

    python benchmarks/path_scoring.py [--data FILE] [--items 40] [--simulations 6] [--repeats 3]

Arms, each on the same requests: `serial` is the stock layers one path at a time over padded option rows, torch on
all cores; `packed` is one process of ours without sharing or batching; `one` is our executor on one thread; `two`
is our executor in two processes of one thread each, as two hosts run. Repeats are interleaved. Last line: JSON.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from baseline import StockScorer
from plait import LayeredDecoder, PathExecutor, ensure
from plait.models.packing import Packer
from plait.orchestrator.data import load_questions
from plait.records import Scored
from plait.search.profiles import PROFILES

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mcq" / "arc_easy.jsonl"
_STATE: dict[str, Any] = {}


def requests_of_a_search(decoder: Any, packer: Packer, questions: list[Any], simulations: int) -> list[Any]:
    """Run the default search on every item; return its rounds of (item index, path), in the order asked."""
    executor = PathExecutor(decoder)
    searches = [PROFILES["plait"].search(decoder.depth, simulations, seed) for seed in range(len(questions))]
    packed = [packer.pack(question.item()["prompt"], question.item()["options"]) for question in questions]
    rounds = []
    while not all(search.done for search in searches):
        asked = [(i, trial) for i, search in enumerate(searches) for trial in search.ask(4)]
        scores = executor.score([(str(i), packed[i], trial.candidate.layers) for i, trial in asked])
        for (i, trial), score in zip(asked, scores, strict=True):
            rates = [s / len(t) for s, t in zip(score.sums, packed[i].targets, strict=True)]
            right = rates.index(max(rates)) == questions[i].answer
            searches[i].tell(trial, Scored({"reward": float(right)}))
        rounds.append([(i, trial.candidate.layers) for i, trial in asked])
    return rounds


def load(folder: str, questions: list[Any]) -> None:
    """Load the model in this process, once, on one thread."""
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    decoder = LayeredDecoder.load(folder)
    packer = Packer(AutoTokenizer.from_pretrained(folder), decoder.context_length)
    packed = [packer.pack(question.item()["prompt"], question.item()["options"]) for question in questions]
    _STATE.update(decoder=decoder, packer=packer, packed=packed)


def ours(rounds: list[Any], share: int = 0, of: int = 1, **levers: Any) -> list[float]:
    """Score this share of the items; returns the first option's sums, to keep the arms honest."""
    executor, packed = PathExecutor(_STATE["decoder"], **levers), _STATE["packed"]
    sums = []
    for asked in rounds:
        mine = [(str(i), packed[i], path) for i, path in asked if i % of == share]
        sums += [score.sums[0] for score in executor.score(mine)]
    return sums


def serial(stock: StockScorer, items: list[Any], rounds: list[Any]) -> None:
    """Score with the stock layers, one path at a time, on all cores."""
    torch.set_num_threads(os.cpu_count() or 1)
    for asked in rounds:
        for i, path in asked:
            stock.score(items[i], path)
    torch.set_num_threads(1)


def main() -> None:
    """Measure the arms in turn and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(DATA) if DATA.exists() else "plait:questions")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--simulations", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    questions, folder = load_questions(given.data, given.items), str(ensure("smollm2-135m").folder)
    load(folder, questions)
    rounds = requests_of_a_search(_STATE["decoder"], _STATE["packer"], questions, given.simulations)
    stock = StockScorer(folder)
    prompts = [_STATE["packer"].prompt(question.item()["prompt"]) for question in questions]
    items = [(head, [list(tail) for tail in one.targets]) for head, one in zip(prompts, _STATE["packed"], strict=True)]
    times: dict[str, list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(2, load, (folder, questions)) as pool:
        pool.starmap(ours, [(rounds[:1], 0, 2), (rounds[:1], 1, 2)], chunksize=1)  # warm
        arms = {
            "serial": lambda: serial(stock, items, rounds),
            "packed": lambda: ours(rounds, trie=False, layer_major=False),
            "trie": lambda: ours(rounds, layer_major=False),
            "one": lambda: ours(rounds),
            "two": lambda: pool.starmap(ours, [(rounds, 0, 2), (rounds, 1, 2)], chunksize=1),
        }
        for _ in range(given.repeats):
            for name, arm in arms.items():
                start = time.perf_counter()
                arm()
                times.setdefault(name, []).append(time.perf_counter() - start)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    print(
        json.dumps(
            {
                "name": "path_scoring",
                "ratio": round(seconds["serial"] / seconds["two"], 2),
                "cores": os.cpu_count(),
                "requests": sum(map(len, rounds)),
                "data": Path(given.data).name,
                "seconds": {name: round(value, 1) for name, value in seconds.items()},
                "over_packed_one_thread": round(seconds["packed"] / seconds["one"], 2),
                "over_trie_one_thread": round(seconds["trie"] / seconds["one"], 2),
                "two_over_one": round(seconds["one"] / seconds["two"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
