"""A choice of path without labels: a small menu fixed on dev items, a vote per input, judged on other items.

The identity is the default: unless the vote's gain on the dev items is sure, the choice is the identity, and
what it costs or gains on the test items is reported either way. Source: CoLa spec, section 5; the votes are ours.
"""

import math
from collections.abc import Callable, Sequence

from ...intervals import Interval, excludes_zero, mean_interval, paired_interval
from ...records import JSON
from .cola_records import ItemRecord, Rule

MENU = 5
"""Paths of the menu at most, the identity among them."""

Vote = Callable[[ItemRecord, Sequence[int], Rule], int]


def label_free(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return the menu and what each way to use it scores on items not used to choose it; None without a menu."""
    dev = [item for item in items if item.split == "dev" and _complete(item)]
    test = [item for item in items if item.split == "test" and _complete(item)]
    if not dev or not test:
        return None
    menu = _choose(dev, rule)
    best = max(range(len(dev[0].menu)), key=lambda at: (_accuracy(dev, [at], rule, plurality), -at))
    gain = paired_interval(_rights(dev, menu, rule, weighted), _rights(dev, [0], rule, plurality), "dev-gain")
    chosen = menu if excludes_zero(gain) and (gain["mean"] or 0) > 0 else [0]
    identity = _rights(test, [0], rule, plurality)
    rows = {
        "identity": identity,
        "best fixed path on dev": _rights(test, [best], rule, plurality),
        "plurality over the menu": _rights(test, menu, rule, plurality),
        "margin-weighted vote over the menu": _rights(test, menu, rule, weighted),
        "the choice (identity unless the gain on dev is sure)": _rights(test, chosen, rule, weighted),
    }
    paths = [score.path.key for score in dev[0].menu]
    return {
        "dev": len(dev),
        "test": len(test),
        "candidates": paths,
        "menu": [paths[at] for at in menu],
        "best_fixed": paths[best],
        "chosen": "menu" if chosen == menu and menu != [0] else "identity",
        "dev_gain": gain,
        "rows": [_row(name, rights, identity) for name, rights in rows.items()],
    }


def plurality(item: ItemRecord, menu: Sequence[int], rule: Rule) -> int:
    """Return the option that most paths of the menu pick; ties go to the larger summed probability."""
    votes = [0.0] * len(item.choices)
    for at in menu:
        shares = _shares(item, at, rule)
        votes[shares.index(max(shares))] += 1.0
        votes = [vote + 1e-6 * share for vote, share in zip(votes, shares, strict=True)]
    return votes.index(max(votes))


def weighted(item: ItemRecord, menu: Sequence[int], rule: Rule) -> int:
    """Return the option that wins when each path votes with its margin, first over second option."""
    votes = [0.0] * len(item.choices)
    for at in menu:
        shares = _shares(item, at, rule)
        first, second = sorted(shares, reverse=True)[:2]
        votes[shares.index(first)] += first - second
    return votes.index(max(votes))


def _choose(dev: Sequence[ItemRecord], rule: Rule) -> list[int]:
    """Return the menu, grown from the identity by the path that helps the weighted vote on dev most."""
    menu = [0]
    while len(menu) < MENU:
        rest = [at for at in range(len(dev[0].menu)) if at not in menu]
        gains = [(_accuracy(dev, [*menu, at], rule, weighted), -at) for at in rest]
        if not gains or max(gains)[0] <= _accuracy(dev, menu, rule, weighted):
            break
        menu.append(-max(gains)[1])
    return menu


def _complete(item: ItemRecord) -> bool:
    return bool(item.menu) and all(score.sums is not None for score in item.menu)


def _shares(item: ItemRecord, at: int, rule: Rule) -> list[float]:
    """Return the options' softmax over normalised scores of the menu's path `at`."""
    values = item.normalised(item.menu[at], rule)
    top = max(values)
    parts = [math.exp(value - top) for value in values]
    return [part / sum(parts) for part in parts]


def _rights(items: Sequence[ItemRecord], menu: Sequence[int], rule: Rule, vote: Vote) -> list[bool]:
    return [vote(item, menu, rule) == item.answer for item in items]


def _accuracy(items: Sequence[ItemRecord], menu: Sequence[int], rule: Rule, vote: Vote) -> float:
    rights = _rights(items, menu, rule, vote)
    return sum(rights) / len(rights)


def _row(name: str, rights: Sequence[bool], identity: Sequence[bool]) -> dict[str, str | Interval]:
    return {
        "name": name,
        "accuracy": mean_interval(rights, "label-free", name),
        "minus_identity": paired_interval(rights, identity, "label-free-gain", name),
    }
