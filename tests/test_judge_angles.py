"""A role cache made of a run's own angles, used by the next run."""

import json

import pytest
from plait.agents.judges.wording import Wording
from plait.errors import SpecError
from plait.orchestrator.recipes.judge_angles import common_angles, write_cache
from plait.orchestrator.recipes.judge_records import ItemVerdict, Outcome
from plait.orchestrator.runfolder import RunFolder


def rows(*named, fallback=()):
    return [
        ItemVerdict(
            id=str(number), query="q", lengths=(1, 1),
            network=Outcome(verdict="tie", angles=angles, fallback=number in fallback),
        )
        for number, angles in enumerate(named)
    ]  # fmt: skip


def test_angles_are_counted_over_items_and_spellings_taken_as_one():
    found = common_angles(
        rows(("Clarity", "facts"), ("clarity", "Facts"), ("Clarity", "tone"), ("Accuracy",), fallback={3})
    )
    assert found[0] == ("Clarity", 3)
    assert found[1][1] == 2
    assert dict(found)["tone"] == 1
    assert "Accuracy" not in dict(found)
    assert len(common_angles(rows(*[(f"angle {i}",) for i in range(40)]))) == 16


def folder_of(tmp_path, roles, items):
    folder = RunFolder.create(tmp_path / "run", "judge").path
    network = {"roles": roles, "family": "qa"}
    data = {
        "resolved": {"network": network},
        "spec": {"prompts": None},
        "items": [i.model_dump(mode="json") for i in items],
    }
    (folder / "result.json").write_text(json.dumps(data))
    return folder


def test_a_cache_is_a_prompts_folder_whose_standard_angles_it_is(tmp_path):
    found = write_cache(folder_of(tmp_path, "generated", rows(("tone", "depth"), ("tone",))), tmp_path / "prompts")
    assert found == [("tone", 2), ("depth", 1)]
    own = Wording(tmp_path / "prompts")
    assert own.family("qa")["angles"] == ["tone", "depth"]
    assert own.family("code") == Wording().family("code")
    assert own.hash != Wording().hash


def test_a_run_whose_angles_were_given_makes_no_cache(tmp_path):
    with pytest.raises(SpecError, match="generated"):
        write_cache(folder_of(tmp_path, "standard", rows(("tone",))), tmp_path / "prompts")


def test_a_folder_that_cannot_be_made_is_one_line(plait, tmp_path):
    run = folder_of(tmp_path, "generated", rows(("tone",)))
    (tmp_path / "file").write_text("")
    code, out, err = plait("judge", "angles", run, "--out", tmp_path / "file" / "prompts")
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert "file/prompts" in line
