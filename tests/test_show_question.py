"""The paths of one question of a finished run, on the command line."""

import json

import pytest
from plait.candidates import LayerPath
from plait.orchestrator.recipes.cola_records import ItemRecord, PathScore
from plait.orchestrator.runfolder import RunFolder, write_json


def scored(text, *sums):
    return PathScore(LayerPath.parse(text), sums)


@pytest.fixture
def run(tmp_path):
    """A run of two layers and one question: the model as it is is wrong, a shorter path is right."""
    folder = RunFolder.create(tmp_path / "run", "cola")
    item = ItemRecord(
        "q1", "What is wet?", ("sand", "water"), 1, 5, (1, 1), (5, 6), 2, "dev",
        (scored("0-1", -1.0, -2.0), scored("0,1,1", -3.0, -2.0), scored("1", -3.0, -1.0)),
        (scored("0-1", -1.0, -2.0), scored("0,0,1", -3.0, -2.0)), (), (scored("1", -3.0, -1.0),),
    )  # fmt: skip
    excluded = [{"id": "q2", "reason": "NotFinite: nan"}]
    data = {"schema": 1, "method": "cola", "status": "SUCCEEDED", "stop_reason": "", "summary": {"rule": "token"}}
    write_json(folder.path / "result.json", {**data, "items": [item.to_json()], "excluded": excluded})
    return folder.path


def test_best_identity_and_random_stand_beside_each_other(plait, run):
    code, out, _ = plait("show", run, "--question", "q1", "--json")
    assert code == 0
    paths = {name.partition(" (")[0]: row for name, row in json.loads(out)["paths"].items()}
    assert (paths["best path of the search"]["path"], paths["best path of the search"]["right"]) == ("1", True)
    assert (paths["the model as it is"]["prediction"], paths["the model as it is"]["right"]) == (0, False)
    assert paths["best path of random search"]["path"] == "0x2,1"
    assert "1 (1 layers) answers 1, right" in plait("show", run, "--question", "q1")[1]


def test_a_question_that_is_not_there_is_refused(plait, run):
    code, _, err = plait("show", run, "--question", "q11")
    assert code == 2
    assert "q1?" in err
    assert "NotFinite: nan" in plait("show", run, "--question", "q2")[2]
