"""A network's examples go with it: an export is measured, and teaches, under what it was trained with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plait.errors import PlaitError, SpecError
from plait.models.distill import logits_of
from plait.models.export import export, load_export, preparation_of
from plait.models.images import load_images
from plait.models.network import build
from plait.models.preparation import Preparation, Statistics
from plait.models.tracing import from_module
from plait.models.zoo import named
from plait.orchestrator.recipes.compress import Compress
from plait.orchestrator.recipes.compress_data import check_preparation
from plait.orchestrator.recipes.compress_phases import final_training
from plait.orchestrator.recipes.compress_teacher import settled_teacher, student_setup


def archive(folder, **more):
    draw = np.random.default_rng(0)
    y = np.arange(400) % 4
    x = (draw.integers(0, 60, (400, 8, 8, 3)) + 45 * y[:, None, None, None]).astype(np.uint8)  # a class: a brightness
    np.savez(folder / "x.npz", x_train=x[100:], y_train=y[100:], x_test=x[:100], y_test=y[:100], **more)
    return folder / "x.npz"


def settled(folder, teacher, data, **settings):
    run = Compress(teacher, data, teacher_epochs=60, **settings)
    return run, *settled_teacher(folder, run._taught, run.data, run.spec, lambda *_: None)


@pytest.mark.parametrize(
    "settings", [{}, {"normalisation": "none"}, {"normalisation": "0.3/0.1"}, {"size": 4}, {"scale": 16.0}]
)
def test_an_export_meets_examples_as_it_was_trained(settings, tmp_path):
    place = archive(tmp_path)
    first, _, figures = settled(tmp_path, "mlp:16", place, **settings)
    again, _, same = settled(tmp_path / "again", str(tmp_path / "teacher"), place, seed=3)  # another fit part
    assert (again.data.normalisation, again.data.input) == (first.data.normalisation, first.data.input)
    assert same["test"] == figures["test"]
    assert preparation_of(tmp_path / "teacher") == first.data.preparation


def test_an_older_export_has_statistics_alone(tmp_path):
    place = archive(tmp_path)
    first, _, figures = settled(tmp_path, "mlp:16", place)
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    del config["preparation"]
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
    assert isinstance(preparation_of(tmp_path / "teacher"), Statistics)
    again, _, same = settled(tmp_path / "again", str(tmp_path / "teacher"), place, seed=3)
    assert again.data.normalisation == first.data.normalisation
    assert same["test"] == figures["test"]


def test_an_assistant_meets_examples_as_it_was_trained(tmp_path):
    place = archive(tmp_path)
    other, assistant, _ = settled(tmp_path, "mlp:16", place, normalisation="none")
    run = Compress("mlp:24", place, assistants=(str(tmp_path / "teacher"),))
    teacher = build(named("mlp:24", run.data.input, 4), 0)
    setup = student_setup(run.data, run.spec, final_training(run.spec, "plait"), teacher)
    ours, beside = (target.logits for target in setup.targets)
    np.testing.assert_array_equal(ours, logits_of(teacher, run.data.fit_x))
    np.testing.assert_allclose(beside, logits_of(assistant, other.data.fit_x), rtol=1e-3, atol=1e-3)
    far = np.abs(beside - logits_of(assistant, run.data.fit_x)).max()
    assert far > 0.1, "the run's own normalisation is another"


def test_a_preparation_that_is_no_teachers_own_is_refused_unless_accepted(tmp_path):
    place = archive(tmp_path)
    settled(tmp_path, "mlp:16", place)
    folder = str(tmp_path / "teacher")
    with pytest.raises(SpecError, match=r"teacher: normalisation: got .*accept_lower=true"):
        settled(tmp_path / "none", folder, place, normalisation="none")
    _, _, figures = settled(tmp_path / "accepted", folder, place, normalisation="none", accept_lower=True)
    assert figures["prepared"]["as prepared"] < figures["prepared"]["normalisation=data"]


def test_guesses_must_be_far_better():
    """An untrained network names a few more right under one of the usual statistics, by luck."""
    data = load_images("plait:digits")
    net = build(named("mlp:16", (1, 8, 8), 10), 0)
    shares = check_preparation(net, data)
    assert shares["normalisation=0.5/0.5"] > shares["as prepared"] + 0.01


def test_outputs_of_other_names_are_refused(tmp_path):
    place = archive(tmp_path, classes=np.array(["a", "b", "c", "d"]))
    settled(tmp_path, "mlp:16", place)
    assert json.loads((tmp_path / "teacher" / "config.json").read_text())["labels"] == ["a", "b", "c", "d"]
    (tmp_path / "other").mkdir()
    other = archive(tmp_path / "other", classes=np.array(["b", "a", "c", "d"]))
    with pytest.raises(SpecError, match=r"classes: got 'b, a, c, d', expected a, b, c, d"):
        Compress(str(tmp_path / "teacher"), other).teacher


@pytest.mark.parametrize(
    ("field", "value"), [("layout", "channels_last"), ("scale", 2.0), ("size", 4), ("classes", 10)]
)
def test_what_is_ready_is_not_prepared_again(field, value):
    with pytest.raises(SpecError, match="say it where the data are made"):
        Compress(data=load_images("plait:digits"), **{field: value}).data


def test_what_is_ready_can_be_normalised_otherwise():
    data = load_images("plait:digits")
    raw = Compress(data=data, normalisation="none").data
    np.testing.assert_allclose(raw.test_x, load_images("plait:digits", normalisation="none").test_x, atol=1e-6)
    assert raw.digest != data.digest
    assert Compress(data=data, normalisation="data").data.digest == data.digest or np.allclose(
        Compress(data=data, normalisation="data").data.test_x, data.test_x, atol=1e-5
    )


@pytest.mark.parametrize(("outputs", "classes"), [(3, None), (6, None), (4, 6)])
def test_more_or_fewer_outputs_than_classes_are_one_line(outputs, classes, tmp_path):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, outputs))
    with pytest.raises(PlaitError, match="classes") as caught:
        settled(tmp_path / "run", net, archive(tmp_path), classes=classes)
    assert "\n" not in str(caught.value)


def test_classes_that_do_not_occur_are_outputs_where_they_are_counted(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6))
    run = Compress(net, archive(tmp_path), classes=6)
    assert (run.data.classes, run.teacher.classes) == (6, 6)


@pytest.mark.parametrize("settings", [{}, {"normalisation": "data"}, {"normalisation": "0.5/0.5"}])
def test_a_module_of_features_meets_rows_as_they_are(settings, tmp_path):
    draw = np.random.default_rng(0)
    x, y = draw.random((200, 12), np.float32), np.arange(200) % 4
    x[np.arange(200), y] += 1
    net = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    rows = load_images((x, y), layout="features", **{"normalisation": "none", **settings})
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.tensor(rows.fit_x)), torch.tensor(rows.fit_y)).backward()
        optimiser.step()
    run, _, figures = settled(tmp_path, net, (x, y), **settings)
    assert run.data.digest == rows.digest or np.allclose(run.data.fit_x, rows.fit_x, atol=1e-5)
    with torch.no_grad():
        right = (net(torch.tensor(rows.test_x)).argmax(1).numpy() == rows.test_y).mean()
    assert figures["test"]["mean"] == pytest.approx(right, abs=1e-4)
    again, _, same = settled(tmp_path / "again", str(tmp_path / "teacher"), (x, y))
    assert (again.data.input, same["test"]) == ((12,), figures["test"])


def test_a_preparation_of_other_examples_is_not_exported(tmp_path):
    net = from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4)), torch.zeros(1, 1, 8, 8))
    wrong = Preparation((4, 4), "no_channels").to_json()
    with pytest.raises(SpecError, match=r"about\.preparation"):
        export(net, tmp_path / "net", {"preparation": wrong})
    with pytest.raises(SpecError, match="preparation"):
        export(net, tmp_path / "net", {"preparation": {"shape": [8, 8]}})
    assert not Path(tmp_path / "net").exists()
    export(net, tmp_path / "net", {"preparation": Preparation((8, 8), "no_channels").to_json()})
    assert load_export(tmp_path / "net").arch == net.arch
