"""Which items a run learns from, decides on, confirms on and is tested on, and whether a text gives any away.

Pure. Must not know what an item is beyond its question's text, or how a team is run. Source: specs/ann, sections 9.6
and 9.9.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import islice

from ..errors import SpecError
from ..records import seed_of
from .gate import GAINS, Gate, sign

_PUNCTUATION = re.compile(
    r"(?<![\d])[.,:]|[.,:](?!\d)|(?<=\d),(?=\d{3}(?!\d))|[;!?\"'`\u00b4\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf]"
    r"|(?<=[^\W\d])[-\u2010-\u2015](?=[^\W\d])"
)
SPAN = 8
"""Words in a row that a text must not share with a held-out question."""
EXAMPLE = ("<example>", "</example>")
"""Marks around the one training example that instructions may hold."""
NAMED = 5
"""Items that a message names; it counts the others."""


@dataclass(frozen=True)
class Splits:
    """Ids of items, each in one split at most.

    Attributes:
        train: Critics may see their answers.
        validation: They decide which edits are kept.
        confirm: They decide, once a run, whether what it ended with is better than what it began with.
        test: Scored once, after that.

    Raises:
        SpecError: an item is in two splits, or twice in one.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_overlap((item, item, name) for name, items in self.parts() for item in items)

    def parts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each split's name and items."""
        for part in fields(self):
            yield part.name, getattr(self, part.name)

    def split_of(self, item: str) -> str:
        """Return the name of the split that holds `item`, "" where none does."""
        return next((name for name, items in self.parts() if item in items), "")

    @property
    def held_out(self) -> tuple[str, ...]:
        """Items whose questions and answers no prompt of the optimiser may hold."""
        return self.validation + self.confirm + self.test

    def check(self, questions: Mapping[str, str]) -> None:
        """Check that no question, as `normalised`, is asked in two splits, where splits came from elsewhere.

        Args:
            questions: Text by item.

        Raises:
            SpecError: one is, and the error names the items; or an item has no question.
        """
        placed = ((_text(questions, item), item, name) for name, items in self.parts() for item in items)
        _refuse_overlap(placed, within=False)

    def notes(self, gate: Gate) -> tuple[str, ...]:
        """Return what these splits are too small for, with the power that is left; () where they are large enough.

        Args:
            gate: Decides on the validation items.

        Raises:
            SpecError: they are too few for the gate to decide anything.
        """
        notes = [f"validation: {note}"] if (note := gate.note(len(self.validation))) else []
        if not self.confirm:
            return (*notes, "confirm: no items, so nothing that is learned can be confirmed")
        test = sign(0.05, len(self.confirm))
        small, large = (test.power(len(self.confirm), gain) for gain in GAINS)
        if small < 0.5:
            some = f"{small:.0%} of gains of +5 points and {large:.0%} of +10"
            notes.append(f"confirm: {len(self.confirm)} items confirm {some}")
        return tuple(notes)


def split_items(questions: Mapping[str, str], sizes: Mapping[str, int | float], seed: int) -> Splits:
    """Deal items into splits by a hash of their questions' text, so that equal questions fall on one side.

    Args:
        questions: Text by item.
        sizes: By split's name, all of them numbers of items or all of them shares of 1; a split not named is empty,
            and items that none has room for are left out. By shares, more items move no item that was there before.
        seed: Equal seeds deal equally, whatever the order of `questions`.

    Raises:
        SpecError: a name is no split's, or there are too few items.
    """
    names = [part.name for part in fields(Splits)]
    if unknown := [name for name in sizes if name not in names]:
        raise SpecError("splits", unknown[0], f"names among {', '.join(names)}")
    ordered = {name: sizes[name] for name in names if sizes.get(name)}
    groups = _groups(questions, seed)
    if all(isinstance(size, float) for size in ordered.values()):
        return Splits(**_by_share(groups, ordered))
    return Splits(**_by_size(groups, ordered, len(questions)))


def normalised(text: str) -> str:
    """Return `text` without what makes no other question of it: case, spaces, punctuation and forms of characters.

    Signs that mean something stay: a decimal point, brackets, operators; of a text of nothing else, all stay.
    """
    plain = _plain(text)
    return _PUNCTUATION.sub("", plain) or plain


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _groups(questions: Mapping[str, str], seed: int) -> list[tuple[int, list[str]]]:
    """Return the items of each question with the question's hash, in the order of the hashes."""
    groups: dict[str, list[str]] = defaultdict(list)
    for item in sorted(questions):
        groups[normalised(questions[item])].append(item)
    # The hash is of a question as it is written, spaces and case aside: data without twins falls as it ever did.
    written = {text: min(_plain(questions[item]) for item in items) for text, items in groups.items()}
    return sorted((seed_of(seed, "split", written[text]), items) for text, items in groups.items())


def _by_share(groups: Sequence[tuple[int, list[str]]], shares: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    if not all(0 < share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise SpecError("splits", dict(shares), "shares above 0 that add up to 1 or less")
    dealt: dict[str, list[str]] = {name: [] for name in shares}
    for place, items in groups:
        upto = 0.0
        for name, share in shares.items():
            upto += share
            if place / 2**64 < upto:
                dealt[name] += items
                break
    return {name: tuple(items) for name, items in dealt.items()}


def _by_size(
    groups: Sequence[tuple[int, list[str]]], sizes: Mapping[str, int | float], there: int
) -> dict[str, tuple[str, ...]]:
    if not all(isinstance(size, int) and size > 0 for size in sizes.values()):
        raise SpecError("splits", dict(sizes), "numbers of items, or shares such as 0.25 for all of them")
    if sum(sizes.values()) > there:
        raise SpecError("splits", dict(sizes), f"{there} items or fewer, as many as there are")
    dealt: dict[str, list[str]] = {name: [] for name in sizes}
    for _, items in groups:
        # A question's repeats stay together: they go to the first split with room for all of them.
        name = next((name for name, size in sizes.items() if len(dealt[name]) + len(items) <= size), None)
        if name is not None:
            dealt[name] += items
    for name, size in sizes.items():
        if len(dealt[name]) < size:
            expected = f"{len(dealt[name])} items, all that is left: a question's repeats stay together"
            raise SpecError(f"splits: {name}", size, expected)
    return {name: tuple(items) for name, items in dealt.items()}


def _text(questions: Mapping[str, str], item: str) -> str:
    if item not in questions:
        raise SpecError("splits", item, "an item with a question")
    return normalised(questions[item])


def _refuse_overlap(placed: Iterable[tuple[str, str, str]], *, within: bool = True) -> None:
    """Refuse what is the same in two splits, or, `within`, twice in one: triples of what, item and split."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for what, item, name in placed:
        places[what].append((item, name))
    shared = [found for found in places.values() if len(found if within else {name for _, name in found}) > 1]
    if shared:
        named = "; ".join(" and ".join(f"{item} in {name}" for item, name in found) for found in shared[:NAMED])
        more = f"; {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise SpecError("splits", named + more, "each question in one split")


@dataclass(frozen=True)
class Grams:
    """Hashes of the 8-word spans of held-out questions: tells whether a text gives one away, and holds no question.

    Words are compared in lower case and without punctuation. A question of fewer than eight words has no span.

    Attributes:
        spans: Of the held-out questions, without those that training questions hold too.
        trained: Whether training questions were taken away.
    """

    spans: frozenset[int] = frozenset()
    trained: bool = False

    @classmethod
    def of(cls, texts: Iterable[str], training: Iterable[str] = ()) -> "Grams":
        """Return the spans of `texts`.

        Args:
            texts: Questions of validation, confirm and test items.
            training: Questions whose wording is no leak: a phrase that all questions of a task share, and the
                training example that instructions may hold.
        """
        ours = {span for text in training for span in _spans(text)}
        return cls(frozenset(span for text in texts for span in _spans(text)) - ours, bool(ours))

    def leaks(self, text: str) -> bool:
        """Return whether `text` holds a span of a held-out question.

        Where no training questions were given, the first passage between the marks `EXAMPLE` is taken for one and
        passed over; where they were, it is checked like the rest.
        """
        if not self.trained:
            before, opened, rest = text.partition(EXAMPLE[0])
            _, closed, after = rest.partition(EXAMPLE[1])
            if opened and closed:
                return self._holds(before) or self._holds(after)
        return self._holds(text)

    def _holds(self, text: str) -> bool:
        return any(span in self.spans for span in _spans(text))


def _spans(text: str) -> Iterator[int]:
    """Yield the hash of every eight words in a row; the same on every machine."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    for span in zip(*(islice(words, start, None) for start in range(SPAN)), strict=False):
        yield int.from_bytes(blake2b("\x1f".join(span).encode(), digest_size=8).digest(), "big")
