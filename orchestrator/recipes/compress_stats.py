"""The figures of a compression run: each search beside the others at equal student-epochs, intervals over searches."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...intervals import FEWEST, SHARE, Interval, excludes_zero, mean_interval, paired_interval, share_interval, too_few
from ...records import JSON
from ...search.rewards import n2n_reward
from .compress_records import Finalist, Point, Student, front_of

PLACES = 24
"""Points of a learning curve in the result."""


def method_row(
    method: str, finalists: Sequence[Finalist], teacher: Mapping[str, Any], spent: Sequence[int], asked: Sequence[int]
) -> dict[str, JSON]:
    """Return a method's line: its finalists over seeds, what they cost, what the search spent.

    With one seed the interval of the test accuracy is over test examples, else over searches.
    """
    accuracies = [finalist.accuracy for finalist in finalists]
    if len(finalists) == 1:
        test = share_interval(finalists[0].correct, finalists[0].n)
    else:
        test = mean_interval(accuracies, "test", method, support=SHARE)
    rewards = [
        n2n_reward(finalist.accuracy, teacher["test"]["mean"], finalist.student.params, teacher["params"])
        for finalist in finalists
    ]
    return {
        "method": method,
        "searches": len(spent),
        "finalists": len(finalists),
        "test": test,
        "interval_over": "test examples" if len(finalists) == 1 else "searches",
        "validation": mean_interval(
            [finalist.validation for finalist in finalists], "validation", method, support=SHARE
        ),
        "params": _mean([finalist.student.params for finalist in finalists]),
        "macs": _mean([finalist.student.macs for finalist in finalists]),
        "cost": _mean([finalist.student.cost for finalist in finalists]),
        "reward": mean_interval(rewards, "reward", method),
        "epochs": _mean(spent),
        "students": _mean(asked),
    }


def compared(ours: str, finalists: Mapping[str, Sequence[Finalist]]) -> dict[str, Interval]:
    """Return for each rival our test accuracy minus its own, paired by seed; with one seed there is no interval."""
    own = {finalist.student.seed: finalist.accuracy for finalist in finalists.get(ours, ())}
    gaps = {}
    for rival, found in finalists.items():
        theirs = {finalist.student.seed: finalist.accuracy for finalist in found}
        both = sorted(set(own) & set(theirs))
        if rival != ours and both:
            gaps[rival] = paired_interval([own[at] for at in both], [theirs[at] for at in both], ours, rival)
    return gaps


def curve_rows(curves: Mapping[str, Sequence[Sequence[Point]]], budget: int) -> list[dict[str, JSON]]:
    """Return for each method the best validation accuracy within the limit by student-epochs spent, mean over seeds."""
    places = sorted({max(1, round(budget * at / PLACES)) for at in range(1, PLACES + 1)})
    rows: list[dict[str, JSON]] = []
    for method, seeds in curves.items():
        for epochs in places:
            values = [_at(points, epochs) for points in seeds]
            rows.append(
                {
                    "method": method,
                    "epochs": epochs,
                    **mean_interval(values, "curve", method, str(epochs), support=SHARE),
                }
            )
    return rows


def pareto_rows(students: Sequence[Student]) -> list[dict[str, JSON]]:
    """Return the students of the highest rung, those that no other beats in parameters or in MACs marked.

    Accuracy is on validation examples.
    """
    if not students:
        return []
    top = max(student.epochs for student in students)
    best: dict[tuple[str, str], Student] = {}
    for student in students:
        key = (student.method, student.arch)
        if student.epochs == top and (key not in best or student.accuracy > best[key].accuracy):
            best[key] = student
    shown = list(best.values())
    fronts = {
        "params": {id(student) for student in front_of(shown, lambda student: student.params)},
        "macs": {id(student) for student in front_of(shown, lambda student: student.macs)},
    }
    return [
        {
            "method": student.method, "arch": student.arch, "params": student.params, "macs": student.macs,
            "accuracy": student.accuracy, "epochs": student.epochs,
            "front": {name: id(student) in ids for name, ids in fronts.items()},
        }
        for student in shown
    ]  # fmt: skip


def statement(summary: Mapping[str, Any]) -> str:
    """Return in a sentence or two what the search gave beyond its rivals; says so where that is nothing."""
    ours, gaps = summary["profile"], summary["gaps"]
    if not gaps and (rivals := [row["method"] for row in summary.get("methods", ()) if row["method"] != ours]):
        return (
            f"No student of {ours} and a rival ({', '.join(rivals)}) was trained to the end: nothing is known of "
            "what the policy gave."
        )
    if not gaps:
        return "No rival ran beside the search: nothing is known of what the policy gave."
    parts = []
    for rival, gap in gaps.items():
        points = f"{100 * gap['mean']:+.1f} points"
        if gap["low"] is None:
            parts.append(f"{points} of test accuracy against {rival} (one search each: no interval)")
        elif too_few(gap):
            parts.append(f"{points} against {rival} (too few searches to tell: {gap['n']}, {FEWEST} are the least)")
        elif excludes_zero(gap):
            verb = "beats" if gap["mean"] > 0 else "loses to"
            parts.append(f"{verb} {rival} by {points} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]")
        else:
            parts.append(
                f"no sure difference from {rival}: {points} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
            )
    return f"At equal student-epochs, {ours}: " + "; ".join(parts) + "."


def promise(summary: Mapping[str, Any], latency: Mapping[str, float]) -> str:
    """Return what was promised beside what was measured, where the target is in milliseconds; "" elsewhere."""
    chosen, target = summary["chosen"], summary["target"]
    if not chosen or target["measure"] != "ms" or chosen["arch"] not in latency:
        return ""
    measured = latency[chosen["arch"]]
    verdict = "met" if measured <= target["limit"] else "NOT met: the prediction was too low"
    return f"{target['limit']:.4g} ms at most, {chosen['cost']:.4g} ms predicted, {measured:.4g} ms measured: {verdict}"


def _at(points: Sequence[Point], epochs: int) -> float:
    return max((point.accuracy for point in points if point.epochs <= epochs), default=0.0)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None
