"""CoLa end to end on a real Ray cluster and the real model, and its figures against what can be counted by hand."""

import json
import re

import pytest
from plait import CoLa, LayerPath
from plait.orchestrator.events import read_events

pytestmark = [pytest.mark.ray, pytest.mark.weights]
SETTINGS = {"data": "plait:questions", "limit": 6, "simulations": 8, "menu": 2}


@pytest.fixture(scope="module")
def result(ray_cluster, tmp_path_factory):
    return CoLa(**SETTINGS, run={"actors": 2}).run(tmp_path_factory.mktemp("cola") / "run")


def test_run_succeeds_and_writes_what_it_says(result):
    assert result.status == "SUCCEEDED"
    for name in ("run.json", "spec.json", "result.json", "timing.json", "report.html", "events.jsonl", "data.jsonl"):
        assert (result.folder / name).stat().st_size > 0, name


def test_identity_accuracy_is_what_the_decoder_says(result, real_decoder, real_packer, questions):
    from plait.models.executor import score_alone

    path, right = tuple(range(30)), 0
    for question in questions[:6]:
        item = question.item()
        packed = real_packer.pack(item["prompt"], item["options"])
        sums = score_alone(real_decoder, packed, path).sums
        rates = [s / len(t) for s, t in zip(sums, packed.targets, strict=True)]
        right += rates.index(max(rates)) == question.answer
    assert result.summary["identity"]["token"]["mean"] == pytest.approx(right / 6)


def test_oracles_stand_beside_their_controls(result):
    oracle = result.summary["oracle"]
    identity = result.summary["identity"]["token"]["mean"]
    for name in ("search", "random"):
        assert oracle[name]["mean"] >= identity
        assert oracle[name]["low"] <= oracle[name]["mean"] <= oracle[name]["high"]


def test_reported_paths_are_legal_and_verified(result):
    for row in result.data["items"]:
        assert row["verified"], row["id"]
        LayerPath.parse(row["verified"][0]["path"]).check(30)


def test_pandas_save_and_plot(result, tmp_path):
    frame = result.to_pandas()
    assert len(frame) >= 6
    result.save(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text()) == result.data
    assert result.plot() is not None


def test_events_tell_the_run(result):
    kinds = [event["kind"] for event in read_events(result.folder / "events.jsonl")]
    assert kinds[0] == "run"
    assert "progress" in kinds


@pytest.mark.parametrize("actors", [1, 4])
def test_any_number_of_actors_gives_the_same_bytes(result, actors, tmp_path):
    other = CoLa(**SETTINGS, run={"actors": actors, "window": 3}).run(tmp_path / "run")
    assert (other.folder / "result.json").read_bytes() == (result.folder / "result.json").read_bytes()


def test_questions_given_in_python(ray_cluster, tmp_path):
    rows = [
        {"id": str(i), "question": f"What is {i} plus one?", "choices": [str(i + 1), str(i)], "answer": 0}
        for i in range(2)
    ]
    result = CoLa(data=rows, simulations=2, menu=0, random_baseline=False).run(tmp_path / "run")
    assert result.summary["items"] == 2


def test_the_report_is_one_file_without_network(result):
    page = (result.folder / "report.html").read_text()
    # Names of XML vocabularies look like addresses and load nothing; whatever loads is one of these.
    loads = re.findall(
        r'<(?:script|img|iframe|object|embed)[^>]+src=|<link[^>]+href="(?!data:)|@import|url\((?!#|data:)', page
    )
    assert loads == []
    assert page.count("<svg") >= 3
    assert "random search" in page
    assert "viewport" in page
