"""A made-up landscape over phrases in instructions, and outcomes for every trial of a search over teams.

Five of 200 phrases are worth ten points each, half of the others cost five, the rest nothing; a plain prompt is right
on 40 % of the items. Luck is half the item's and half the call's. No graph, no prompt, no model: plain functions.
"""

import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist

from plait.records import Outcome, Scored, Trial, seed_of
from plait.search.textual import TextualSearch
from plait.search.textual_trials import Critique, Forward, Repair, TextualTrial
from plait.teams import AgentSpec, Block, LayerSpec, Schema, TeamSpec

VOCABULARY, USEFUL, BASE = 200, 5, 0.40
NUMBER = Schema(kind="number")
TRAIN = [f"t{at}" for at in range(200)]
VALIDATION = [f"v{at}" for at in range(300)]


def team(*layers: str, temperature: float = 0.0) -> TeamSpec:
    """Return a team of one agent a layer; agents are called after their layers."""
    made = []
    for name in layers or ("solve",):
        agent = AgentSpec(name=f"{name}-agent", instructions="Think.", temperature=temperature, output=NUMBER)
        made.append(LayerSpec(name=name, task=f"Do {name}.", blocks=(Block(name="one", agents=(agent,)),)))
    return TeamSpec(layers=tuple(made), answer=NUMBER)


def layers_of(changed: TeamSpec, **values: float) -> dict[str, dict[str, object]]:
    row = {"block": "one", "bad_selection": False, "agents": 1, "unparsed": 0, "disagree": 0, **values}
    return {layer.name: dict(row) for layer in changed.layers}


def scored(changed: TeamSpec, score: float) -> Scored:
    values = {"score": score, "calls": 1, "tokens": 100, "path": 1, "unparsed": 0, "answer": "7"}
    return Scored({**values, "layers": layers_of(changed)})


def instructions(agent: str, text: str) -> dict[str, object]:
    return {"edits": [{"op": "set_instructions", "agent": agent, "text": text}], "rationale": "so"}


def proposed(patch: dict[str, object] | None, error: str = "") -> Scored:
    return Scored({"patch": patch, "text": "", "error": error})


class Landscape:
    """Answers trials; `q` is how often the critic names a phrase that helps, where one is missing."""

    def __init__(self, seed: int, q: float = 0.5) -> None:
        self.seed, self.q = seed, q
        words = random.Random(seed_of(seed, "worth")).sample(range(VOCABULARY), VOCABULARY)
        self.useful, self.harmful = set(words[:USEFUL]), set(words[USEFUL : USEFUL + (VOCABULARY - USEFUL) // 2])
        self.accuracy = lru_cache(maxsize=None)(self._accuracy)
        self._luck = lru_cache(maxsize=None)(self._normal)

    def outcome(self, trial: TextualTrial) -> Outcome:
        if isinstance(trial, Forward):
            luck = self._luck(trial.item) + self._luck(f"{trial.item} {trial.team.hash} {trial.sample}{trial.resample}")
            return scored(trial.team, float(NormalDist(0, 2**0.5).cdf(luck) < self.accuracy(trial.team)))
        rng = random.Random(seed_of(self.seed, trial.key))
        if isinstance(trial, Critique):
            layer = trial.scope or trial.team.layers[0].name
            texts = [f"lacks p{self._named(trial.team, rng)}" for _ in range(1 if trial.scope else 3)]
            findings = [{"layer": layer, "agent": None, "kind": "prompt", "text": text} for text in texts]
            return Scored({"findings": findings, "text": f"{'; '.join(texts)} in {trial.scope or 'all'}"})
        return self._repaired(trial, rng)

    def gain(self, changed: TeamSpec) -> float:
        """Return the share of the reachable gain."""
        return (self.accuracy(changed) - BASE) / (0.10 * USEFUL)

    def _repaired(self, trial: Repair, rng: random.Random) -> Scored:
        named = re.search(r"p\d+", trial.finding.text)
        word = named[0] if named else f"p{rng.randrange(VOCABULARY)}"
        layer = trial.team.layer(trial.finding.layer) or trial.team.layers[0]
        agent = layer.blocks[0].agents[0]
        filler = rng.randrange(1000) if trial.refused else 0  # the same in other words: another team, another draw
        return proposed(instructions(agent.name, f"{agent.instructions} {'so ' * bool(filler)}{filler or ''} {word}"))

    def _named(self, changed: TeamSpec, rng: random.Random) -> int:
        missing = sorted(self.useful - set(_phrases(changed)))
        return rng.choice(missing) if missing and rng.random() < self.q else rng.randrange(VOCABULARY)

    def _accuracy(self, changed: TeamSpec) -> float:
        found = set(_phrases(changed))
        return min(1.0, max(0.0, BASE + 0.10 * len(found & self.useful) - 0.05 * len(found & self.harmful)))

    def _normal(self, name: str) -> float:
        return NormalDist().inv_cdf((seed_of(self.seed, "luck", name) + 0.5) / 2**64)


def _phrases(changed: TeamSpec) -> Iterator[int]:
    for agent in changed.agents():
        yield from (int(word[1:]) for word in agent.instructions.split() if word[0] == "p" and word[1:].isdigit())


def play(search: TextualSearch, outcome, chunks: Sequence[int] = (64,), most: int | None = None) -> list[Trial]:
    """Run a search to its end, or for `most` trials, asking in chunks of the given sizes in turn; return all trials."""
    trials: list[Trial] = []
    while not search.done and (most is None or len(trials) < most):
        asked = search.ask(chunks[len(trials) % len(chunks)])
        assert asked, "not done, asks nothing, waits for nothing"
        for trial in asked:
            search.tell(trial, outcome(trial.candidate))
        trials += asked
    return trials
