"""A world of scripted agents whose accuracy is known: what prompts are worth, what a team scores, what is reachable.

    known = world(seed=7)
    known.expected(known.start())     # exact, over the whole population of questions
    known.best()                      # the best that any reachable team scores, by enumeration

A phrase in a prompt is worth what the world says: five of two hundred ten points each, half of the rest minus five,
the others nothing. An answer is right iff u < p(phrases); u is the sum of a part that belongs to the question and one
that belongs to the call, made uniform. Everything is a hash of content, so nothing is stored and every run repeats.
Must not know graphs, prompts' wording or searches: see scripted_team_play.py and scripted_team_chat.py for those.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations, pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
from plait.agents.teams.items import TaskItem, task_item
from plait.records import digest
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Schema, Selector, TeamSpec

Harm: TypeAlias = Literal["neutral", "mild", "harsh"]
Phrases: TypeAlias = frozenset[int]
Advice: TypeAlias = tuple[tuple[int, str], ...]
"""Phrases, each with a word of how it is put."""
Luck: TypeAlias = Any
"""A question's part of u, 0 to 1: a number, or an array of numbers."""

VOCABULARY = 200
USEFUL, HARMFUL, CHECKED, FAMILY = 0.10, -0.05, 0.08, 0.15
POISON: dict[Harm, float] = {"neutral": 0.0, "mild": -0.02, "harsh": -0.05}
POISONS = 240
"""Phrases of each harm, beside the vocabulary: a run of 200 patches needs no phrase twice."""
FAMILIES: dict[str, tuple[str, str]] = {"A": ("figures", "reckoner"), "B": ("letters", "speller")}
"""By family: the word that its questions hold (and a block's `when` may), and the role that suits it."""
UNCHECKED = -1
"""What a wrong answer lacks when every useful phrase is there and nobody has checked it."""

WORDINGS = (
    "Mind", "Heed", "Watch", "Weigh", "Recall", "Note", "Honour", "Follow", "Use", "Apply", "Respect", "Remember",
    "Consider", "Regard", "Observe", "Keep",
)  # fmt: skip
"""How an instruction may begin: two repairs seldom put the same advice in the same words."""

_GRID = 4000
_CODE = re.compile(r"\[q:([a-p]{20})\]")
_SOUNDS = [first + second for first in "bdfgjklmnprstvz" for second in "aeiou"]


def uniform(*parts: object) -> float:
    """Return the number in [0, 1) that belongs to `parts`."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


@dataclass(frozen=True, slots=True)
class Quest:
    """A question: its number, its family, its answer."""

    index: int
    family: str
    gold: int

    @property
    def wrong(self) -> int:
        """The one wrong answer that anybody gives: so a majority of three is right iff two are."""
        return self.gold + 3


@dataclass(frozen=True)
class World:
    """What is worth what. Two worlds of equal fields are the same world, in any process.

    Attributes:
        seed: Of words, worths and luck.
        q: How often critic and repair name the phrase that is missing, where they can know it.
        base: Accuracy of a prompt without any phrase.
        families: Whether half of the questions want one kind of block and half another.
        structure: Whether a checker is worth anything, and is looked for.
        selector: How often a selecting model chooses the block that suits.
        structural: How often a repair changes structure where it could have added a phrase.
    """

    seed: int = 0
    q: float = 0.5
    base: float = 0.40
    families: bool = False
    structure: bool = True
    selector: float = 1.0
    structural: float = 0.1
    _seen: dict[str, Advice] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def words(self) -> list[str]:
        """Made-up words, all different: two a phrase, and one to tell it by."""
        words: dict[str, None] = {}
        for at in range(3 * (VOCABULARY + 3 * POISONS) + 1):
            word = "".join(self._sound(at, part) for part in range(3))
            while word in words:
                word += self._sound(at, len(word))
            words[word] = None
        return list(words)

    def _sound(self, *key: int) -> str:
        return _SOUNDS[int(uniform(self.seed, "word", *key) * len(_SOUNDS))]

    @cached_property
    def phrases(self) -> list[str]:
        """The vocabulary, then the poisons of each harm."""
        return [f"{self.words[3 * at]} {self.words[3 * at + 1]}" for at in range(VOCABULARY + 3 * POISONS)]

    @cached_property
    def tags(self) -> dict[str, int]:
        """The word that stands for each phrase in what agents write, and one for a check that nobody made."""
        known = {self.words[3 * at + 2]: at for at in range(len(self.phrases))}
        return {**known, self.words[-1]: UNCHECKED}

    @cached_property
    def tag_of(self) -> dict[int, str]:
        """The tags by phrase."""
        return {at: tag for tag, at in self.tags.items()}

    @cached_property
    def worth(self) -> list[float]:
        """What each phrase adds to the accuracy."""
        order = sorted(range(VOCABULARY), key=lambda at: uniform(self.seed, "worth", at))
        harmful = set(order[5 : 5 + (VOCABULARY - 5) // 2])
        known = [USEFUL if at in order[:5] else HARMFUL if at in harmful else 0.0 for at in range(VOCABULARY)]
        return known + [points for points in POISON.values() for _ in range(POISONS)]

    @cached_property
    def useful(self) -> tuple[int, ...]:
        """The phrases that help."""
        return tuple(at for at, points in enumerate(self.worth) if points > 0)

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], int]:
        return {(first, second): at for at, (first, second) in enumerate(map(str.split, self.phrases))}

    def poisons(self, harm: Harm) -> range:
        """Return the phrases of a known small harm."""
        first = VOCABULARY + POISONS * list(POISON).index(harm)
        return range(first, first + POISONS)

    # what a call is worth

    def found(self, text: str) -> Advice:
        """Return the phrases that stand in `text`, each with how it is put; what else the text says is of no account.

        The same advice put otherwise is another prompt: it is worth the same, and draws its answers anew.
        """
        if (known := self._seen.get(text)) is None:
            words = re.findall(r"[a-z]+", text.lower())
            at = {place: self._pairs.get(pair) for place, pair in enumerate(pairwise(words))}
            put = sorted((phrase, words[max(place - 2, 0)]) for place, phrase in at.items() if phrase is not None)
            known = self._seen[text] = tuple(put)
        return known

    def p(self, phrases: Phrases, family: str = "A", who: str = "", drafts: bool = False) -> float:
        """Return the accuracy of an agent that is told to be `who`, over all questions of `family`.

        Args:
            phrases: Those in its own prompt and those that its drafts were written with.
            family: Of the question.
            who: Its role.
            drafts: Whether it reads what somebody wrote before it.
        """
        told = who.lower()
        p = self.base + sum(self.worth[at] for at in phrases)
        p += CHECKED if self.checks(told, drafts) else 0.0
        if self.families:
            suited = [name for name, (_, role) in FAMILIES.items() if role in told]
            p += sum(FAMILY if name == family else -FAMILY for name in suited)
        return min(max(p, 0.02), 0.98)

    def checks(self, who: str, drafts: bool) -> bool:
        """Return whether this is a checker after a drafter."""
        return self.structure and drafts and "checker" in who.lower()

    def lacks(self, phrases: Phrases, checked: bool, *key: object) -> int | None:
        """Return one useful feature that is missing, drawn by `key`; None where nothing is."""
        missing = [at for at in self.useful if at not in phrases]
        if not missing:
            return UNCHECKED if self.structure and not checked else None
        return missing[int(uniform(self.seed, "lacks", *key) * len(missing))]

    def right(self, quest: Quest, p: float, *key: object) -> bool:
        """Return whether a call that `key` names answers `quest` rightly."""
        return self.luck(quest) + uniform(self.seed, "call", quest.index, *key) < threshold(p)

    def luck(self, quest: Quest) -> float:
        """Return the question's part of u."""
        return uniform(self.seed, "item", quest.index)

    # questions

    def quest(self, index: int) -> Quest:
        """Return the `index`-th question."""
        family = "AB"[int(uniform(self.seed, "family", index) * 2)] if self.families else "A"
        return Quest(index, family, 10 + int(uniform(self.seed, "gold", index) * 80))

    def question(self, quest: Quest) -> str:
        """Return its text, with a mark that only the script can read."""
        return f"{self._mark(quest.index)} Work out the {FAMILIES[quest.family][0]} that this case comes to."

    def read(self, text: str) -> Quest | None:
        """Return the question whose mark stands in `text`, the last where there are several."""
        marks = _CODE.findall(text)
        index = self._unmark(marks[-1]) if marks else None
        return None if index is None else self.quest(index)

    def items(self, count: int, first: int = 0) -> list[TaskItem]:
        """Return `count` questions as items, from the `first` on."""
        quests = map(self.quest, range(first, first + count))
        return [task_item(self.question(quest), "number", quest.gold) for quest in quests]

    def quests(self, items: Sequence[TaskItem]) -> list[Quest]:
        """Return the questions behind items."""
        return [quest for item in items if (quest := self.read(item.question))]

    def _mark(self, index: int) -> str:
        salt = digest([self.seed, "salt", index])[:12]
        hidden = index ^ int(digest([self.seed, "mark", salt])[:8], 16)
        text = salt + f"{hidden:08x}"
        return f"[q:{''.join(chr(ord('a') + int(sign, 16)) for sign in text)}]"

    def _unmark(self, code: str) -> int | None:
        text = "".join(f"{ord(sign) - ord('a'):x}" for sign in code)
        index = int(text[12:], 16) ^ int(digest([self.seed, "mark", text[:12]])[:8], 16)
        return index if digest([self.seed, "salt", index])[:12] == text[:12] else None

    # teams

    def solver(self, phrases: Sequence[int] = (), name: str = "solver", role: str = "a solver") -> AgentSpec:
        """Return an agent that is told these phrases."""
        told = "".join(f" {self.sentence(at)}" for at in phrases)
        return AgentSpec(name=name, role=role, instructions="Work it out." + told, output=NUMBER)

    def sentence(self, phrase: int, wording: int = 0) -> str:
        """Return the instruction that holds a phrase, in one of several words."""
        return f"{WORDINGS[wording]} the {self.phrases[phrase]}."

    def start(self, phrases: Sequence[int] = ()) -> TeamSpec:
        """Return one solver alone."""
        return one_layer(Block(name="one", agents=(self.solver(phrases),)))

    def draws(self, phrases: Sequence[int] = (), n: int = 3) -> TeamSpec:
        """Return `n` draws of one solver and their majority."""
        agent = self.solver(phrases).model_copy(update={"n": n, "temperature": 0.7})
        return one_layer(Block(name="draws", agents=(agent,), aggregate=Aggregator(kind="majority")))

    def trio(self, phrases: Sequence[int] = ()) -> TeamSpec:
        """Return three solvers and their majority."""
        agents = (self.solver(phrases), *(self.solver(phrases, *another) for another in OTHERS))
        return one_layer(Block(name="one", agents=agents, aggregate=Aggregator(kind="majority")))

    def checked(self, phrases: Sequence[int] = ()) -> TeamSpec:
        """Return a drafter with a checker after it."""
        agents = (self.solver(phrases), self.solver(phrases, "checker", CHECKER))
        return one_layer(Block(name="one", agents=agents, aggregate=Aggregator(kind="chain")))

    def two_layers(self, phrases: Sequence[int] = ()) -> TeamSpec:
        """Return a drafter and a checker as layers of their own."""
        draft = Block(name="one", agents=(self.solver(phrases),))
        check = Block(name="one", agents=(self.solver((), "checker", CHECKER),))
        layers = [
            LayerSpec(name=name, task=TASK, blocks=(block,)) for name, block in (("draft", draft), ("check", check))
        ]
        return TeamSpec(layers=tuple(layers), answer=NUMBER)

    def two_blocks(self, selector: Selector = "llm", phrases: Sequence[int] = ()) -> TeamSpec:
        """Return a layer of two blocks, one for each family."""
        blocks = [
            Block(name=f"for-{word}", when=word, agents=(self.solver(phrases, role, f"a {role}"),))
            for word, role in FAMILIES.values()
        ]
        return one_layer(*blocks, selector=selector)

    # what teams score

    def expected(self, team: TeamSpec, items: Sequence[TaskItem] | None = None) -> float:
        """Return the exact accuracy of `team` over the luck of its calls: on `items`, or on all questions there are."""
        from plait.tests.scripted_team_odds import chance

        if items is None:
            grid = (np.arange(_GRID) + 0.5) / _GRID
            families = list(FAMILIES) if self.families else ["A"]
            return float(np.mean([chance(self, team, family, grid).mean() for family in families]))
        quests = self.quests(items)
        return float(np.mean([chance(self, team, quest.family, self.luck(quest)) for quest in quests]))

    def reachable(self) -> Iterator[TeamSpec]:
        """Yield the teams that repairs of the start may come to: all structures, all subsets of the useful phrases.

        A phrase that helps nobody is in none of the best teams, so the enumeration need not hold it.
        """
        shapes = [self.start, self.trio, self.checked] if self.structure else [self.start]
        for shape in shapes:
            for size in range(len(self.useful) + 1):
                for phrases in combinations(self.useful, size):
                    yield shape(phrases)

    @cached_property
    def _best(self) -> float:
        return max(self.expected(team) for team in self.reachable())

    def best(self) -> float:
        """Return what the best reachable team scores."""
        return self._best

    def gained(self, team: TeamSpec) -> float:
        """Return the share of the reachable gain that `team` has made: 0 for the start, 1 for the best."""
        start = self.expected(self.start())
        return (self.expected(team) - start) / (self.best() - start)


NUMBER = Schema(kind="number")
CHECKER = "a checker of what others worked out"
OTHERS = (("second", "another solver"), ("third", "a solver of another school"))
"""Names and roles of those who join a solver: told alike, they would be asked alike and answer alike."""
TASK = "Answer the question."


def one_layer(*blocks: Block, selector: Selector = "static") -> TeamSpec:
    """Return a team of one layer."""
    return TeamSpec(layers=(LayerSpec(name="solve", task=TASK, blocks=blocks, selector=selector),), answer=NUMBER)


@lru_cache(maxsize=4096)
def threshold(p: float) -> float:
    """Return what the sum of two uniform numbers is below with probability `p`."""
    return float((2 * p) ** 0.5 if p <= 0.5 else 2 - (2 * (1 - p)) ** 0.5)


def world(seed: int = 0, q: float = 0.5, **options: Any) -> World:
    """Return the world of `seed`; `options` are fields of `World`."""
    return World(seed, q, **options)
