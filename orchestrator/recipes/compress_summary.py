"""What a compression run says of itself: every method's line, curves, the Pareto set, the student to take."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...intervals import share_interval
from ...records import JSON, Scored
from ...search.network_space import NetworkSpace
from .compress_phases import training_of
from .compress_records import Finalist, Told, curve_of, epochs_of, students_of
from .compress_spec import CompressSpec
from .compress_stats import compared, curve_rows, method_row, pareto_rows
from .compress_target import Target


def summarise(
    spec: CompressSpec,
    teacher: Mapping[str, Any],
    space: NetworkSpace,
    searched: Mapping[str, Told],
    finals: Sequence[Finalist],
    lottery: Mapping[str, Told],
    left_out: Mapping[str, str] | None = None,
) -> dict[str, JSON]:
    """Return all figures of a run.

    Args:
        spec: Of the run.
        teacher: Its figures, with its architecture's canonical text.
        space: Of the search, with cost and limit.
        searched: Per strand what was told.
        finals: Each search's chosen student after its final training.
        lottery: What was told of lottery tickets, on validation and on test.
        left_out: Rivals that cannot run on this teacher, and why.
    """
    assert space.limit is not None, "a compression has a target"
    target, methods = Target.parse(spec.target), [name for name in spec.methods if name != "lottery"]
    told = {name: [searched.get(f"{name}/{at}", []) for at in range(spec.seeds)] for name in methods}
    mine = {name: [final for final in finals if final.student.method == name] for name in methods}
    schedules = {name: training_of(spec, name).schedule for name in methods}
    students = {
        name: [students_of(name, at, pairs, space.cost) for at, pairs in enumerate(told[name])] for name in methods
    }
    rows = [
        method_row(
            name, mine[name], teacher,
            [epochs_of(pairs, schedules[name]) for pairs in told[name]], [len(found) for found in students[name]],
        )
        for name in methods
    ]  # fmt: skip
    curves = {
        name: [curve_of(pairs, schedules[name], space.cost, space.limit) for pairs in told[name]] for name in methods
    }
    return {
        "profile": spec.profile,
        "target": {"measure": target.measure, "limit": space.limit, "text": target.said(space.limit)},
        "left_out": dict(left_out or {}),
        "teacher": dict(teacher),
        "methods": rows,
        "gaps": compared(spec.profile, mine),
        "curve": curve_rows(curves, spec.budget),
        "pareto": pareto_rows([student for found in students.values() for seed in found for student in seed]),
        "finals": [{**final.to_json(), "test": share_interval(final.correct, final.n)} for final in finals],
        "lottery": _tickets(lottery),
        "chosen": _chosen([final for name in methods for final in mine[name]], spec.take, len(methods) * spec.seeds),
    }


def _tickets(told: Mapping[str, Told]) -> list[dict[str, JSON]]:
    """Return a row a lottery ticket that was measured on the test part: weights left, parameters left, accuracy."""
    rows: list[dict[str, JSON]] = []
    for name, pairs in told.items():
        for _, outcome in pairs:
            if name.startswith("test/") and isinstance(outcome, Scored):
                values = outcome.values
                figures = {"params": values["params"], "test": share_interval(values["correct"], values["n"])}
                rows.append({"density": values["kept"], "epochs": values["epochs"], **figures})
    return rows


def _chosen(finals: Sequence[Finalist], take: str | None, searches: int) -> dict[str, JSON] | None:
    """Return the student of the highest validation accuracy, of all methods or of the one to take.

    The test part has no say.
    """
    mine = [final for final in finals if take in (None, final.student.method)]
    best = max(mine, key=lambda final: (final.validation, -final.student.cost), default=None)
    if best is None:
        return None
    why = f"taken as asked (take={take})" if take else "the highest validation accuracy of all methods"
    if len(finals) < searches:
        why += f", of the {len(finals)} of {searches} searches whose student was trained to the end"
    return {
        "why": why, "epochs": best.epochs,
        "method": best.student.method, "seed": best.student.seed, "arch": best.student.arch,
        "params": best.student.params, "macs": best.student.macs, "cost": best.student.cost,
        "validation": best.validation, "test": share_interval(best.correct, best.n),
    }  # fmt: skip
