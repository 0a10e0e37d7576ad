"""What a compression run found: students, curves, Pareto sets, targets. No training here."""

from dataclasses import replace

import pytest
from plait.architectures import Architecture, Layer
from plait.errors import SpecError
from plait.orchestrator.recipes.compress_records import (
    Finalist,
    Student,
    chosen_of,
    curve_of,
    epochs_of,
    front_of,
    students_of,
)
from plait.orchestrator.recipes.compress_spec import CompressSpec
from plait.orchestrator.recipes.compress_stats import compared, method_row, pareto_rows, statement
from plait.orchestrator.recipes.compress_target import Target
from plait.records import Failed, Scored, Trial
from plait.search.halving import Rung


def net(width: int) -> Architecture:
    return Architecture(input=(4,), layers=(Layer(op="linear", out=width), Layer(op="linear", out=2)))


def told(*rows):
    """(width, rung, accuracy or None) as trials with outcomes; rung r has 2^r epochs."""
    return [
        (
            Trial(at, Rung(net(width), rung)),
            Failed("Diverged") if accuracy is None else Scored({"accuracy": accuracy, "epochs": 2**rung}),
        )
        for at, (width, rung, accuracy) in enumerate(rows)
    ]


def cost(arch: Architecture) -> float:
    return float(arch.params)


def student(**changes) -> Student:
    plain = Student(method="a", seed=0, arch="x", params=10, macs=10, cost=10.0, epochs=4, accuracy=0.5)
    return replace(plain, **changes)


def test_a_student_is_known_at_its_highest_rung_whatever_came_last():
    found = students_of("a", 0, told((4, 0, 0.9), (8, 0, 0.2), (4, 2, 0.6), (4, 1, 0.99)), cost)
    assert [(one.epochs, one.accuracy) for one in found] == [(4, 0.6), (1, 0.2)]


def test_a_failure_is_no_student():
    assert students_of("a", 0, told((4, 0, None)), cost) == []


def test_the_choice_is_within_the_limit_and_among_those_trained_longest():
    short, over = student(arch="short", epochs=1, accuracy=0.9), student(arch="over", cost=99.0, accuracy=0.95)
    long = student(arch="long", accuracy=0.8)
    assert chosen_of([short, over, long], 10) == long
    assert chosen_of([over], 10) is None


def test_epochs_are_paid_once_a_rung():
    assert epochs_of(told((4, 0, 0.1), (4, 0, 0.1), (4, 1, 0.2), (8, 0, None)), (1, 2, 4)) == 1 + 1 + 1


def test_the_curve_counts_what_is_within_the_limit():
    points = curve_of(told((4, 0, 0.5), (99, 0, 0.9), (4, 1, 0.7)), (1, 2, 4), cost, limit=cost(net(4)))
    assert [(point.epochs, point.accuracy) for point in points] == [(1, 0.5), (3, 0.7), (3, 0.7)]


def test_the_front_has_no_student_that_another_beats():
    cheap, worse, dear = (
        student(cost=1.0, accuracy=0.5),
        student(cost=2.0, accuracy=0.4),
        student(cost=3.0, accuracy=0.6),
    )
    assert front_of([dear, worse, cheap], lambda one: one.cost) == [cheap, dear]


def test_pareto_rows_compare_students_of_the_top_rung_alone():
    rows = pareto_rows([student(arch="a", epochs=1, accuracy=1.0), student(arch="b")])
    assert [row["arch"] for row in rows] == ["b"]


def finalist(method: str, seed: int, correct: int) -> Finalist:
    return Finalist(student(method=method, seed=seed), correct, 100, 0.5, 30)


def test_a_difference_is_paired_by_seed_and_a_single_search_has_no_interval():
    ours, theirs = [finalist("a", 0, 90), finalist("a", 1, 80)], [finalist("b", 1, 70)]
    gap = compared("a", {"a": ours, "b": theirs})["b"]
    assert gap["mean"] == pytest.approx(0.1)
    assert gap["low"] is None
    said = statement({"profile": "a", "gaps": {"b": gap}})
    assert "no interval" in said


def test_a_difference_that_is_not_sure_is_called_so():
    gap = {"mean": 0.01, "low": -0.02, "high": 0.04, "n": 6}
    assert "no sure difference from random" in statement({"profile": "plait", "gaps": {"random": gap}})
    lost = {"mean": -0.03, "low": -0.05, "high": -0.01, "n": 6}
    assert "loses to random" in statement({"profile": "plait", "gaps": {"random": lost}})


def test_five_searches_neither_beat_nor_lose():
    lost = {"mean": -0.03, "low": -0.05, "high": -0.01, "n": 5}
    said = statement({"profile": "plait", "gaps": {"random": lost}})
    assert "too few searches" in said
    assert "loses" not in said


def test_one_search_has_an_interval_over_test_examples():
    teacher = {"test": {"mean": 0.9}, "params": 100}
    row = method_row("a", [finalist("a", 0, 90)], teacher, [40], [12])
    assert row["interval_over"] == "test examples"
    assert row["test"]["low"] < 0.9 < row["test"]["high"]
    assert row["reward"]["mean"] == pytest.approx(0.9 * 1.1)


def test_a_finalist_survives_its_json():
    made = finalist("a", 3, 42)
    assert Finalist.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("text", "teacher", "limit"),
    [
        ("params=0.2x", 1000, 200),
        ("macs=1.5M", 1, 1.5e6),
        ("bytes=64k", 1, 64e3),
        (" ms = .8 ", 9, 0.8),
        ("params=70", 1, 70),
    ],
)
def test_targets(text, teacher, limit):
    assert Target.parse(text).limit(teacher) == pytest.approx(limit)


@pytest.mark.parametrize(
    "text", ["", "params", "params=", "weights=3", "params=1x", "params=2x", "params=0", "ms=3s", "params=-1"]
)
def test_what_is_no_target_is_told_in_one_line(text):
    with pytest.raises(SpecError, match=r"target: got .*, expected .*"):
        Target.parse(text)


def test_an_unknown_rival_names_the_nearest():
    with pytest.raises(ValueError, match="uniform"):
        CompressSpec(rivals=("unifrom",))


def test_bytes_are_float32_weights():
    assert Target.parse("bytes=1k").cost()(net(4)) == 4 * net(4).params
