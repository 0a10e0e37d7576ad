"""Compression takes networks and data as users have them, and hands back what is best."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from plait.architecture_edits import pinned
from plait.architectures import Architecture, Layer
from plait.errors import PlaitError
from plait.models.images import load_images
from plait.models.network import build
from plait.orchestrator.recipes.compress import Compress
from plait.orchestrator.recipes.compress_phases import Problem, search_strands
from plait.orchestrator.recipes.compress_spec import CompressSpec
from plait.orchestrator.recipes.compress_teacher import settled_teacher
from plait.search.network_space import NetworkSpace
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def stored(folder, shape):
    draw = np.random.default_rng(0)
    y = np.tile(np.arange(4), 10)
    x = draw.random((40, *shape), dtype=np.float32)
    np.savez(folder / "x.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder / "x.npz", x


@pytest.mark.row("F: own net measured on other pixels than it was trained on")
def test_a_users_module_meets_examples_as_they_are(tmp_path):
    place, x = stored(tmp_path, (8, 8))
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    assert np.array_equal(Compress(module, place).data.test_x, x[:, None])


@pytest.mark.row("F: [N,3,8,8] read as 8 channels")
def test_channels_first_are_read_as_such(tmp_path):
    place, _ = stored(tmp_path, (3, 8, 8))
    assert load_images(place).input == (3, 8, 8)


@pytest.mark.row("F: pruning aborts without batch norm")
def test_pruning_runs_on_a_network_without_batch_norm():
    layers = (Layer(op="flatten"), Layer(op="linear", out=64), Layer(op="act"), Layer(op="linear", out=4))
    teacher = build(Architecture(input=(1, 8, 8), layers=layers), 0)
    space = NetworkSpace(teacher.arch, limit=2000)
    strands = search_strands(CompressSpec(), Problem(space, teacher, 0.9), ["pruning"])
    assert len(strands[0].search.ask(4)) == 1


@pytest.mark.row("F: a convolution as classifier is dropped")
def test_the_convolution_that_makes_the_classes_stays():
    layers = (
        Layer(op="conv", out=8, kernel=(3,), padding=(1,)), Layer(op="act"), Layer(op="conv", out=4, kernel=(1,)),
        Layer(op="global_pool"), Layer(op="flatten"),
    )  # fmt: skip
    arch = Architecture(input=(1, 8, 8), layers=layers)
    assert pinned(arch)[2]
    assert NetworkSpace(arch).smallest().shapes[-1] == (4,)


def coloured(count=600, classes=4):
    """Return bytes [count, 8, 8, 3], a class a bright quarter of the image, and the classes."""
    draw = np.random.default_rng(1)
    y = np.arange(count) % classes
    x = draw.integers(0, 160, (count, 8, 8, 3))
    for at, label in enumerate(y):
        top, left = 4 * (label // 2), 4 * (label % 2)
        x[at, top : top + 4, left : left + 4, label % 3] += 90
    return x.astype(np.uint8), y


def bright(count=600):
    """Return bytes [count, 8, 8, 3], a class a brightness, and the classes."""
    x, y = coloured(count)
    return (x // 8 + 50 * y[:, None, None, None]).astype(np.uint8), y


def archive(folder, x, y, test=200):
    np.savez(folder / "data.npz", x_train=x[test:], y_train=y[test:], x_test=x[:test], y_test=y[:test])
    return folder / "data.npz"


def taught(x, y, shift=0.0, scale=1.0):
    """Return a small network that was trained on (x - shift) / scale, x channels first, and fails on other scales."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(x.shape[1], 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4))
    rows, labels = torch.tensor((x - shift) / scale, dtype=torch.float32), torch.tensor(y)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(rows), labels).backward()
        optimiser.step()
    return net.eval()


def settled(folder, teacher, data, **settings):
    """Return the figures that a run would state for its teacher; its export lies in FOLDER/teacher."""
    run = Compress(teacher, data, **settings)
    given = run.spec.teacher if isinstance(teacher, str) else teacher
    return settled_teacher(folder, given, run.data, run.spec, lambda *_: None)[1]


@pytest.mark.row("F: own net measured on other pixels than it was trained on")
def test_a_module_is_measured_as_it_was_trained(tmp_path):
    x, y = bright()
    rows = np.moveaxis(x, -1, 1).astype(np.float32) / 255
    net = taught(rows[200:], y[200:])
    with torch.no_grad():
        right = (net(torch.tensor(rows[:200])).argmax(1).numpy() == y[:200]).mean()
    assert right > 0.9
    assert settled(tmp_path, net, archive(tmp_path, x, y))["test"]["mean"] == pytest.approx(right)


@pytest.mark.row("F: own net measured on other pixels than it was trained on")
def test_a_module_that_does_better_on_other_pixels_is_refused(tmp_path):
    x, y = bright()
    rows = np.moveaxis(x, -1, 1).astype(np.float32)
    with pytest.raises(PlaitError, match="normalisation") as caught:  # trained on 0..255, where bytes are 0..1 here
        settled(tmp_path, taught(rows[200:], y[200:], 96.0), archive(tmp_path, x, y))
    assert "\n" not in str(caught.value)


@pytest.mark.row("F: own net measured on other pixels than it was trained on")
def test_a_module_handed_over_with_examples_prepared_otherwise_is_refused(tmp_path):
    x, y = bright()
    rows = np.moveaxis(x, -1, 1).astype(np.float32) / 255
    data = load_images(archive(tmp_path, x, y))  # normalised
    with pytest.raises(PlaitError, match=r"normalisation=none"):
        settled(tmp_path, taught(rows[200:], y[200:]), data)


def accuracy(folder, raw, labels):
    """Return what an exported network names right of raw examples, by its own model.py."""
    scope = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec((folder / "model.py").read_text(), scope)
    with torch.no_grad():
        outputs = scope["load"]()(scope["prepared"](torch.tensor(raw)))
    return (outputs.argmax(1).numpy() == labels).mean()


FORMS = {
    "bytes [N,8,8,3]": (lambda x: x, {}),
    "bytes [N,3,8,8]": (lambda x: np.moveaxis(x, -1, 1), {}),
    "bytes averaged down": (lambda x: x, {"size": 4}),
    "grey bytes [N,8,8]": (lambda x: x.max(-1), {}),
    "floats [N,8,8,3]": (lambda x: x.astype(np.float32) / 255, {}),
    "signals of bytes": (lambda x: x.max(-1).reshape(len(x), -1), {"teacher": "mlp:32"}),
}


@pytest.mark.row("F: raw bytes through prepared()")
@pytest.mark.parametrize("form", FORMS)
def test_an_export_names_of_raw_examples_what_the_run_measured(form, tmp_path):
    x, y = coloured()
    change, settings = FORMS[form]
    raw = np.ascontiguousarray(change(x))
    given = {"teacher": "cnn:width=4", "teacher_epochs": 6, **settings}
    figures = settled(tmp_path, given.pop("teacher"), archive(tmp_path, raw, y), **given)
    assert figures["test"]["mean"] > 0.7
    assert accuracy(tmp_path / "teacher", raw[:200], y[:200]) == pytest.approx(figures["test"]["mean"])


@pytest.mark.row("F: [N,3,8,8] read as 8 channels")
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 8, 8), (1, 8, 8)), ((2, 8, 6), (2, 8, 6)), ((4, 6, 9), (4, 6, 9)), ((2, 40), (2, 40)), ((40, 3), (3, 40))],
)
def test_a_clear_layout_is_recognised(shape, expected, tmp_path):
    place, _ = stored(tmp_path, shape)
    assert load_images(place).input == expected


@pytest.mark.row("F: [N,3,8,8] read as 8 channels")
@pytest.mark.parametrize("shape", [(3, 8, 3), (8, 6, 7), (3, 8, 4), (9, 12), (4, 5, 2)])
def test_a_layout_that_is_not_clear_is_asked_for(shape, tmp_path):
    place, _ = stored(tmp_path, shape)
    with pytest.raises(PlaitError, match="layout=") as caught:
        load_images(place)
    assert "\n" not in str(caught.value)


FORMS_OF_DATA = {
    "pairs": lambda x, y: (x, y),
    "tensors": lambda x, y: (torch.tensor(x), torch.tensor(y)),
    "a dataset": lambda x, y: TensorDataset(torch.tensor(x), torch.tensor(y)),
    "a loader": lambda x, y: DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), 7, shuffle=True),
}


@pytest.mark.row("F: DataLoader, Dataset, (x, y), an image folder")
@pytest.mark.parametrize("form", FORMS_OF_DATA)
def test_examples_are_taken_as_python_has_them(form):
    x, y = coloured()
    data = Compress("cnn:width=4", FORMS_OF_DATA[form](x, y)).data
    assert data.input == (3, 8, 8)
    assert len(data.fit_y) + len(data.validation_y) + len(data.test_y) == len(y)
    assert data.classes == 4


@pytest.mark.row("F: DataLoader, Dataset, (x, y), an image folder")
def test_a_folder_of_images_is_taken(tmp_path):
    x, y = coloured(40)
    for at, (image, label) in enumerate(zip(x, y, strict=True)):
        (tmp_path / f"class{label}").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"class{label}" / f"{at}.png")
    data = Compress("cnn:width=4", str(tmp_path)).data
    assert (data.input, data.classes) == ((3, 8, 8), 4)


@pytest.mark.row("F: a network from the command line")
def test_the_command_line_takes_a_network_from_a_file_and_names_the_folder(plait, tmp_path):
    x, y = coloured()
    place = archive(tmp_path, x, y)
    code = "import torch\nnet = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 64), torch.nn.ReLU(), "
    (tmp_path / "net.py").write_text(f"{code}torch.nn.Linear(64, 4))\n")
    status, out, err = plait("compress", "--teacher", f"module:{tmp_path / 'net.py'}:net", "--data", place, "--dry-run")
    assert status == 0, err
    assert f"{192 * 64 + 64 + 64 * 4 + 4}" in out
    status, _, err = plait("compress", "--teacher", "resnet9", "--data", place, "--dry-run")
    assert status == 2
    assert "FOLDER" in err


@pytest.mark.ray
@pytest.mark.row("F: a budget that ends the search leaves no student")
def test_a_budget_that_ends_the_search_leaves_the_best_so_far(ray_cluster, tmp_path):
    settings = {"teacher_epochs": 6, "train": 400, "target": "params=0.5x", "rivals": ("random",), "budget": 16}
    carried = {"actors": 1, "budget_evaluations": 6}
    run = Compress("mlp:24", training={"schedule": (1, 2)}, ask=2, lag=2, run=carried, **settings)
    result = run.run(tmp_path / "run", address=ray_cluster)
    assert result.status == "STOPPED"
    assert (tmp_path / "run" / "student" / "model.safetensors").exists()
    data, student = load_images("plait:digits", None, 400), result.student()
    with torch.no_grad():
        right = (student(torch.tensor(data.test_x)).argmax(1).numpy() == data.test_y).mean()
    assert result.summary["chosen"]["test"]["mean"] == pytest.approx(right, abs=1e-4)
    assert result.architecture.params <= result.summary["target"]["limit"]
    assert "No rival ran" not in result.statement
    told = Console(file=io.StringIO(), width=200)
    result.show(told)
    assert "No rival ran" not in told.file.getvalue()
