"""Every command whose output a machine may read gives JSON with --json, and nothing else on stdout."""

import json
import shutil

import jsonschema
import pytest
from plait import CoLa
from plait.orchestrator.commands_run import RECIPES, recipe
from plait.orchestrator.runfolder import RunFolder

BROKEN = {
    "no-json": ("run.json", "{"),
    "other-format": ("run.json", '{"format": 99}'),
    "a-list": ("run.json", "[]"),
    "without-a-method": ("run.json", '{"format": 1, "id": "x", "made": "2026-01-01T00:00:00+00:00"}'),
    "without-a-time": ("run.json", '{"format": 1, "id": "x", "method": "cola"}'),
    "torn-result": ("result.json", '{"status"'),
    "result-of-nothing": ("result.json", "[]"),
}


def test_list_goes_on_past_broken_folders(plait, tmp_path):
    for name in ("whole-1", *BROKEN, "whole-2"):
        RunFolder.create(tmp_path / "runs" / name, "cola")
    for name, (file, text) in BROKEN.items():
        (tmp_path / "runs" / name / file).write_text(text)
    code, out, err = plait("list", "--json")
    assert (code, err) == (0, "")
    rows = {row["folder"].removeprefix("runs/"): row for row in map(json.loads, out.splitlines())}
    assert set(rows) == {"whole-1", "whole-2", *BROKEN}
    for name, row in rows.items():
        assert row["status"] == ("BROKEN" if name in BROKEN else "PENDING"), row
        assert ("problem" in row) == (name in BROKEN)

    code, out, err = plait("list")
    assert (code, err) == (0, "")
    assert "99" in out
    assert "whole-2" in out


@pytest.mark.parametrize("method", RECIPES)
def test_schema_is_json_schema_of_the_methods_spec(plait, method):
    code, out, err = plait("schema", method)
    assert (code, err) == (0, "")
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == recipe(method).spec_type.model_json_schema()
    undocumented = [name for name, field in schema["properties"].items() if "description" not in field]
    assert undocumented == []


def test_schema_tells_right_specs_from_wrong_ones(plait):
    schema = json.loads(plait("schema", "cola")[1])
    jsonschema.validate({"method": "cola", "simulations": 3, "run": {"max_failures": 0.5}}, schema)
    for wrong in ({"simulations": 0}, {"simulatoins": 3}, {"run": {"max_failures": 2}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_schema_without_a_method_has_all_of_them(plait):
    assert set(json.loads(plait("schema")[1])) == set(RECIPES)


def test_schema_of_an_unknown_method_names_the_nearest(plait):
    code, out, err = plait("schema", "kola")
    assert (code, out) == (2, "")
    assert "cola" in err


@pytest.mark.weights
def test_models_show_and_remove(plait, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    shutil.copytree(tiny_folder, tmp_path / "mine")
    shown = json.loads(plait("models", "show", "mine", "--json")[1])
    code, out, err = plait("models", "remove", "mine", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {**shown, "removed": False}
    assert "stay" in plait("models", "remove", "mine")[1]
    assert (tmp_path / "mine" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def finished(ray_cluster, tiny_folder, tmp_path_factory):
    settings = {"limit": 2, "simulations": 2, "menu": 0, "run": {"actors": 1}}
    return CoLa(str(tiny_folder), **settings).run(tmp_path_factory.mktemp("finished") / "run").folder


@pytest.mark.ray
@pytest.mark.weights
def test_show_report_and_list_of_a_finished_run(plait, finished):
    shown = json.loads(plait("show", finished, "--json")[1])
    assert shown["status"] == "SUCCEEDED"
    (finished / "report.html").unlink()
    code, out, err = plait("report", finished, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"report": str(finished / "report.html")}
    assert (finished / "report.html").exists()
    (row,) = [json.loads(line) for line in plait("list", finished.parent, "--json")[1].splitlines()]
    assert (row["status"], row["method"]) == ("SUCCEEDED", "cola")


@pytest.mark.ray
@pytest.mark.weights
def test_a_run_is_told_from_launch_to_done(plait, finished):
    code, out, _ = plait("resume", finished, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert lines[0] == {"event": "launch"}
    assert lines[-1]["event"] == "done"
    assert (lines[-1]["status"], lines[-1]["exit_code"]) == ("SUCCEEDED", 0)


@pytest.mark.weights
def test_a_run_that_fails_is_told_to_its_end_too(plait, tiny_folder):
    code, out, err = plait("cola", "--model", tiny_folder, "--limit", "2", "--address", "127.0.0.1:1", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == lines[-1]["exit_code"] == 2
    assert (lines[-1]["event"], lines[-1]["status"]) == ("done", "FAILED")
    assert lines[-1]["error"] in err
