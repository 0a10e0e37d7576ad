"""How often 95 % intervals hold the mean they are for, at the numbers of units that reports have.

Prints a table and writes docs/figures/interval_coverage.svg with `--figure`. The last line is JSON:
`ratio` is the least coverage over 0.93, the least that is asked for; above 1 all hold.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from plait.agents.judges.metrics import agreement, paired_difference
from plait.agents.judges.verdicts import LABELS
from plait.intervals import SHARE, Interval, mean_interval, paired_interval
from scipy import stats

SIZES = (6, 10, 30, 100)
ASKED = 0.93
FIGURE = Path(__file__).resolve().parent.parent / "docs" / "figures" / "interval_coverage.svg"

Draw = Callable[[np.random.Generator, int], Interval]


def normal(random: np.random.Generator, n: int) -> Interval:
    """Student's own case."""
    return mean_interval(random.normal(0, 1, n), "coverage")


def lognormal(random: np.random.Generator, n: int) -> Interval:
    """Skewed to the right, sigma 1."""
    return mean_interval(random.lognormal(0, 1, n), "coverage")


def scores(random: np.random.Generator, n: int) -> Interval:
    """Scores of items that can be half right."""
    return mean_interval(random.choice([0.0, 0.5, 1.0], n, p=[0.2, 0.2, 0.6]), "coverage", support=SHARE)


def share(rate: float) -> Draw:
    """Right and wrong answers."""
    return lambda random, n: mean_interval((random.random(n) < rate).astype(float), "coverage")


def paired(wins: float, losses: float) -> Draw:
    """Differences in {-1, 0, 1}: right and wrong of two on the same items."""

    def draw(random: np.random.Generator, n: int) -> Interval:
        luck = random.random(n)
        ours, theirs = (luck < wins).astype(float), ((luck >= wins) & (luck < wins + losses)).astype(float)
        return paired_interval(ours, theirs, "coverage")

    return draw


def judged(random: np.random.Generator, n: int, accuracy: float) -> tuple[list[str], list[str]]:
    """Return labels and verdicts of a judge that is right with `accuracy` on three classes."""
    labels = random.choice(3, n, p=[0.45, 0.45, 0.1])
    wrong = (labels + random.integers(1, 3, n)) % 3
    verdicts = np.where(random.random(n) < accuracy, labels, wrong)
    return [LABELS[at] for at in labels], [LABELS[at] for at in verdicts]


def of_judge(metric: str, accuracy: float) -> Draw:
    """Draw a metric of one judge."""

    def draw(random: np.random.Generator, n: int) -> Interval:
        labels, verdicts = judged(random, n, accuracy)
        return agreement(verdicts, labels, "coverage").intervals[metric]

    return draw


def of_judges(metric: str) -> Draw:
    """Two judges, right in 90 and 70 %, on the same items."""

    def draw(random: np.random.Generator, n: int) -> Interval:
        labels = random.choice(3, n, p=[0.45, 0.45, 0.1])
        luck = random.random(n)
        both = []
        for accuracy in (0.9, 0.7):
            wrong = (labels + random.integers(1, 3, n)) % 3
            both.append([LABELS[at] for at in np.where(luck < accuracy, labels, wrong)])
        return paired_difference(both[0], both[1], [LABELS[at] for at in labels], metric, "coverage")

    return draw


def large(draw: Draw) -> float:
    """Return the mean that an interval is for, off a sample large enough to be it."""
    mean = draw(np.random.default_rng(1), 400_000)["mean"]
    assert mean is not None
    return mean


KINDS: dict[str, tuple[Draw, float | None]] = {
    "mean, normal": (normal, 0.0),
    "mean, lognormal": (lognormal, float(np.exp(0.5))),
    "mean of scores 0, 1/2, 1": (scores, 0.7),
    "share .5": (share(0.5), 0.5),
    "share .9": (share(0.9), 0.9),
    "share .99": (share(0.99), 0.99),
    "paired, 80 % equal, 10:10": (paired(0.1, 0.1), 0.0),
    "paired, 80 % equal, 15:5": (paired(0.15, 0.05), 0.1),
    "paired, 80 % equal, 20:0": (paired(0.2, 0.0), 0.2),
    "kappa, 90 % right": (of_judge("kappa", 0.9), None),
    "macro-F1, 90 % right": (of_judge("macro_f1", 0.9), None),
    "kappa, difference": (of_judges("kappa"), None),
    "macro-F1, difference": (of_judges("macro_f1"), None),
}


def coverage(draw: Draw, mean: float, n: int, repeats: int) -> tuple[float, float]:
    """Return how many of `repeats` intervals hold `mean`, and their median width; one without ends holds."""
    held, widths = 0, []
    for repeat in range(repeats):
        interval = draw(np.random.default_rng((n, repeat)), n)
        low, high = interval["low"], interval["high"]
        held += low is None or high is None or low - 1e-6 <= mean <= high + 1e-6
        widths.append(np.inf if low is None or high is None else high - low)
    return held / repeats, float(np.median(widths))


def drawn(table: dict[str, list[float]], repeats: int) -> None:
    """Write the figure: a line a kind, a point a size."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "plait"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.2))
    for place, (kind, shares) in enumerate(table.items()):
        axes.plot(range(len(SIZES)), [100 * share for share in shares], marker="o", label=kind, color=f"C{place % 10}",
                  linestyle="-" if place < 10 else "--")  # fmt: skip
    axes.axhline(100 * ASKED, color="black", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
    axes.set(xlabel="units", ylabel="intervals that hold the mean, %", ylim=(90, 100.5))
    axes.set_title(f"Coverage of 95 % intervals ({repeats} samples a point)", fontsize=10)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, bbox_inches="tight", metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="samples a kind and size")
    parser.add_argument("--figure", action="store_true", help="write docs/figures/interval_coverage.svg")
    given = parser.parse_args(arguments)
    table: dict[str, list[float]] = {}
    print(f"{'coverage (median width) at':28}" + "".join(f"{size:>16}" for size in SIZES))
    for kind, (draw, mean) in KINDS.items():
        goal = large(draw) if mean is None else mean
        cells = [coverage(draw, goal, size, given.repeats) for size in SIZES]
        table[kind] = [held for held, _ in cells]
        print(f"{kind:28}" + "".join(f"{100 * held:8.1f} ({width:5.2f})" for held, width in cells))
    if given.figure:
        drawn(table, given.repeats)
    least = min(min(row) for row in table.values())
    noise = float(stats.norm.ppf(0.975)) * (ASKED * (1 - ASKED) / given.repeats) ** 0.5
    facts = {"name": "interval_coverage", "ratio": round(least / ASKED, 4), "cores": len(os.sched_getaffinity(0)),
             "least": round(least, 4), "asked": ASKED, "noise": round(noise, 4)}  # fmt: skip
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
