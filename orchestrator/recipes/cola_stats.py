"""From records to the figures of a CoLa report: pure, deterministic, each number with its control.

An accuracy that used the answer key to pick a path is an oracle's and is called so. With m options, paths that
give d different answers would hold the right one with chance d / m if they knew nothing: the chance control.
"""

from collections.abc import Callable, Sequence

from ...candidates import LayerPath
from ...intervals import FEWEST, SHARE, excludes_zero, mean_interval, paired_interval, too_few
from ...records import JSON
from .cola_menu import label_free
from .cola_records import RULES, ItemRecord, PathScore, Rule, reported_path

BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Paths = Callable[[ItemRecord], Sequence[PathScore]]


def summarise(items: Sequence[ItemRecord], rule: Rule, excluded: int = 0) -> dict[str, JSON]:
    """Return every figure of the report.

    Args:
        items: Questions whose identity was scored.
        rule: How options are compared.
        excluded: Questions without an identity score: bounded, never counted as wrong or right.
    """
    identity = {name: mean_interval([item.right(item.identity, name) for item in items], name) for name in RULES}
    rights = sum(item.right(item.identity, rule) for item in items)
    total = max(1, len(items) + excluded)
    return {
        "rule": rule,
        "items": len(items),
        "excluded": excluded,
        "bounds": {"worst": round(rights / total, 6), "best": round((rights + excluded) / total, 6)},
        "failures": sum(score.sums is None for item in items for score in (*item.search, *item.random)),
        "identity": identity,
        "majority": _majority(items),
        "oracle": _oracle(items, rule),
        "curve": _curve(items, rule),
        "shorter": _shorter(items, rule),
        "corrected": _corrected(items, rule),
        "lengths": _lengths(items, rule),
        "layer_use": _layer_use(items, rule),
        "verified": _verified(items, rule),
        "label_free": label_free(items, rule),
        "pareto": _pareto(items, rule),
    }


def statement(summary: dict[str, JSON]) -> str:
    """Return in a sentence what the search gives beyond random search, from the numbers alone."""
    gain = summary["oracle"]["search_minus_random"]
    if gain is None or gain["mean"] is None:
        return "Random search was not run beside the search, so nothing can be said of what the search gives."
    spread = f"{100 * gain['mean']:+.1f} points of oracle accuracy (95 % interval {_range(gain)})"
    if too_few(gain):
        few = f"{gain['n']} questions are too few to say what the search gives beyond random search"
        return f"{few} ({FEWEST} are the least)."
    if not excludes_zero(gain):
        return f"Beyond random search at the same budget, the search gives no difference that is sure: {spread}."
    word = "more" if gain["mean"] > 0 else "less"
    return f"Beyond random search at the same budget, the search gives {word}: {spread}."


def _range(interval: JSON) -> str:
    return f"{100 * interval['low']:+.1f} to {100 * interval['high']:+.1f}"


def _search(item: ItemRecord) -> Sequence[PathScore]:
    return item.search


def _random(item: ItemRecord) -> Sequence[PathScore]:
    return item.random


def _any_right(item: ItemRecord, scores: Sequence[PathScore], rule: Rule) -> bool:
    return any(item.right(score, rule) for score in scores)


def _distinct(item: ItemRecord, scores: Sequence[PathScore], rule: Rule) -> float:
    """Return d / m: the chance that as many different guesses as the paths gave hold the right option."""
    answers = {item.prediction(score, rule) for score in scores} - {None}
    return len(answers) / len(item.choices)


def _majority(items: Sequence[ItemRecord]) -> JSON:
    """Return the accuracy of always naming the most frequent answer index; it used the answers."""
    options = max((len(item.choices) for item in items), default=1)
    counts = [sum(item.answer == at for item in items) for at in range(options)]
    best = counts.index(max(counts))
    return {"index": best, **mean_interval([item.answer == best for item in items], "majority")}


def _oracle(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    search = [_any_right(item, item.search, rule) for item in items]
    guesses = [1 - (1 - 1 / len(item.choices)) ** len(item.search) for item in items]
    out: dict[str, JSON] = {
        "search": mean_interval(search, "oracle-search"),
        "search_chance": mean_interval(
            [_distinct(item, item.search, rule) for item in items], "chance-search", support=SHARE
        ),
        "guesses": mean_interval(guesses, "guesses", support=SHARE),
        "random": None,
        "random_chance": None,
        "search_minus_random": None,
    }
    paired = [item for item in items if item.random]
    if paired:
        ours = [_any_right(item, item.search, rule) for item in paired]
        theirs = [_any_right(item, item.random, rule) for item in paired]
        out["random"] = mean_interval(theirs, "oracle-random")
        out["random_chance"] = mean_interval(
            [_distinct(i, i.random, rule) for i in paired], "chance-random", support=SHARE
        )
        out["search_minus_random"] = paired_interval(ours, theirs, "search-random")
    return out


def _curve(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return oracle accuracy by budget: the identity and the first k paths."""
    longest = max((len(item.search) for item in items), default=1) - 1
    points = []
    for k in sorted({0, *(budget for budget in BUDGETS if budget < longest), longest}):
        point: dict[str, JSON] = {"paths": k}
        for name, paths in (("search", _search), ("random", _random)):
            used = [item for item in items if paths(item)]
            right = [_any_right(item, paths(item)[: k + 1], rule) for item in used]
            point[name] = mean_interval(right, "curve", name, str(k))
            chance = [_distinct(item, paths(item)[: k + 1], rule) for item in used]
            point[f"{name}_chance"] = mean_interval(chance, "curve-chance", name, str(k))["mean"]
        points.append(point)
    return points


def _shorter(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return the share of right items with a shorter right path.

    Control: of the wrong items, those that keep their wrong answer on a shorter path. Where the two are alike,
    a shorter right path says that answers are hard to move, not that the item needs less depth.
    """

    def keeps(item: ItemRecord, scores: Sequence[PathScore]) -> bool:
        first = item.prediction(item.identity, rule)
        return any(len(score.path) < item.depth and item.prediction(score, rule) == first for score in scores)

    right = [item for item in items if item.right(item.identity, rule)]
    wrong = [item for item in items if not item.right(item.identity, rule)]
    return {
        "items": len(right),
        "search": mean_interval([keeps(item, item.search) for item in right], "shorter-search"),
        "random": mean_interval([keeps(item, item.random) for item in right if item.random], "shorter-random"),
        "control": mean_interval([keeps(item, item.search) for item in wrong], "shorter-control"),
    }


def _corrected(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return the share of wrong items that some path gets right.

    Control: the same random paths with a wrong option, other than the identity's, taken for the right one.
    """

    def reached(item: ItemRecord, scores: Sequence[PathScore]) -> float:
        first = item.prediction(item.identity, rule)
        others = [at for at in range(len(item.choices)) if at not in (first, item.answer)]
        answers = {item.prediction(score, rule) for score in scores}
        return sum(at in answers for at in others) / len(others) if others else 0.0

    wrong = [item for item in items if not item.right(item.identity, rule)]
    drawn = [item for item in wrong if item.random]
    return {
        "items": len(wrong),
        "search": mean_interval([_any_right(item, item.search, rule) for item in wrong], "corrected-search"),
        "random": mean_interval([_any_right(item, item.random, rule) for item in drawn], "corrected-random"),
        "control": mean_interval([reached(item, item.random) for item in drawn], "corrected-control", support=SHARE),
    }


def _groups(items: Sequence[ItemRecord], rule: Rule) -> dict[str, list[tuple[ItemRecord, LayerPath]]]:
    """Return the reported paths of items that were right as they are, and of items that were corrected."""
    groups: dict[str, list[tuple[ItemRecord, LayerPath]]] = {"right": [], "corrected": []}
    for item in items:
        path = reported_path(item, rule)
        if item.right(item.identity, rule):
            groups["right"].append((item, path))
        elif path != item.identity.path:
            groups["corrected"].append((item, path))
    return groups


def _lengths(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return lengths of the reported (oracle) paths, in layers executed."""
    out: dict[str, JSON] = {"depth": items[0].depth if items else 0}
    for name, pairs in _groups(items, rule).items():
        lengths = [len(path) for _, path in pairs]
        out[name] = {"lengths": lengths, **mean_interval(lengths, "length", name)}
    return out


def _layer_use(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return per layer the mean executions over the reported (oracle) paths of each group."""
    depth = items[0].depth if items else 0
    return {
        name: [
            round(sum(path.layers.count(layer) for _, path in pairs) / len(pairs), 6) if pairs else None
            for layer in range(depth)
        ]
        for name, pairs in _groups(items, rule).items()
    }


def _verified(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return how many reported paths pick another option when run alone, and the largest difference in nats."""
    flips, largest, count = 0, 0.0, 0
    for item in items:
        for again in item.verified:
            before = next((score for score in item.search if score.path == again.path), None)
            if before is None or before.sums is None or again.sums is None:
                continue
            count += 1
            flips += item.prediction(before, rule) != item.prediction(again, rule)
            largest = max([largest, *(abs(a - b) for a, b in zip(before.sums, again.sums, strict=True))])
    return {"paths": count, "flips": flips, "rate": round(flips / count, 6) if count else None, "largest": largest}


def _pareto(items: Sequence[ItemRecord], rule: Rule) -> JSON:
    """Return (mean layers executed, accuracy) of fixed paths on the test items, and of the oracle, called so."""
    test = [item for item in items if item.split == "test" and item.menu]
    points = []
    for at in range(min((len(item.menu) for item in test), default=0)):
        path = test[0].menu[at].path
        right = [item.right(item.menu[at], rule) for item in test]
        points.append(
            {
                "name": path.key,
                "oracle": False,
                "layers": len(path),
                "accuracy": mean_interval(right, "fixed", path.key),
            }
        )
    if test:
        paths = [reported_path(item, rule) for item in test]
        right = [_any_right(item, item.search, rule) for item in test]
        layers = round(sum(map(len, paths)) / len(paths), 6)
        accuracy = mean_interval(right, "pareto-oracle")
        points.append({"name": "oracle of the search", "oracle": True, "layers": layers, "accuracy": accuracy})
    for point in points:
        point["front"] = not any(_dominates(other, point) for other in points if other["oracle"] == point["oracle"])
    return points


def _dominates(one: JSON, other: JSON) -> bool:
    fewer, better = one["layers"] - other["layers"], one["accuracy"]["mean"] - other["accuracy"]["mean"]
    return fewer <= 0 and better >= 0 and (fewer < 0 or better > 0)
