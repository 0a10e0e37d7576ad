"""An exported network lives without Plait, gives the same bits there, and refuses weights of another."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from plait.architectures import Architecture, Layer
from plait.errors import SpecError, StoreError
from plait.models.export import export, load_export, to_onnx
from plait.models.export_source import source_of
from plait.models.network import build, state_of, with_state
from plait.models.tracing import from_module
from plait.models.zoo import named
from random_architectures import architectures
from safetensors.numpy import load_file, save_file

ODD = Architecture(
    input=(3, 9, 9),
    layers=tuple(Layer(**fields) for fields in (
        {"op": "conv", "name": "a.0.conv", "out": 8, "kernel": (3, 1), "padding": (1, 0), "stride": (2, 1)},
        {"op": "norm", "name": "a.1", "eps": 1e-3}, {"op": "act", "act": "hardswish"},
        {"op": "conv", "name": "forward", "groups": 0, "kernel": (3,), "padding": (1,), "bias": False},
        {"op": "global_pool"}, {"op": "conv", "name": "class", "out": 8}, {"op": "act", "act": "sigmoid"},
        {"op": "mul", "inputs": (3, 6)}, {"op": "add", "inputs": (2, 7)}, {"op": "cat", "inputs": (8, 2, 7)},
        {"op": "max_pool", "kernel": (3,), "stride": (2,), "padding": (1,)}, {"op": "avg_pool", "kernel": (2, 1)},
        {"op": "flatten"}, {"op": "dropout", "rate": 0.25}, {"op": "linear", "out": 5, "bias": False},
        {"op": "act", "act": "gelu"}, {"op": "linear", "name": "conv14", "out": 4},
        {"op": "linear", "name": "a_1", "out": 5}, {"op": "softmax"},
    )),
)  # fmt: skip
"""Everything at once; names that are no Python names, or those of a module's own attributes."""
NETS = {
    "odd": ODD, "resnet": named("resnet18:width=4", (3, 16, 16), 10), "vgg": named("vgg11:width=4", (1, 28, 28), 10),
    "line": named("cnn1d:width=6", (1, 40), 10), "features": named("mlp:12-8", (20,), 3),
}  # fmt: skip
CASES = pytest.mark.parametrize("arch", NETS.values(), ids=NETS.keys())

ELSEWHERE = """
import sys
for name in ("plait", "safetensors", "pydantic", "ray"):
    sys.modules[name] = None
sys.path.insert(0, {folder!r})
import torch
from model import load, prepared
torch.set_num_threads(1)
raw = torch.load({given!r}, weights_only=True)
with torch.no_grad():
    torch.save(load()(prepared(raw)), {made!r})
"""
"""A process in which importing Plait, or what it needs beside torch, is an error."""


def trained(arch):
    """Return a network whose norms have statistics."""
    network = build(arch, 0)
    draw = np.random.default_rng(0)
    state = {
        name: array if array.ndim > 1 else (array + draw.random(array.shape)).astype(np.float32)
        for name, array in state_of(network).items()
    }
    return with_state(arch, state).eval()


def images(arch):
    return torch.randn(4, *arch.input, generator=torch.Generator().manual_seed(1))


@CASES
def test_a_process_without_plait_computes_the_same_bits(arch, tmp_path):
    network, x = trained(arch), images(arch)
    export(network, tmp_path / "net", {"data": "made up"})
    torch.save(x, tmp_path / "x.pt")
    code = ELSEWHERE.format(folder=str(tmp_path / "net"), given=str(tmp_path / "x.pt"), made=str(tmp_path / "y.pt"))
    subprocess.run([sys.executable, "-I", "-c", code], cwd="/", check=True, timeout=120)
    torch.set_num_threads(1)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), network(x))


@CASES
def test_a_network_comes_back_as_it_was(arch, tmp_path):
    network = trained(arch)
    export(network, tmp_path, {})
    back = load_export(tmp_path)
    assert back.arch == arch
    ours, theirs = state_of(network), state_of(back)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@given(architectures())
def test_the_text_of_any_network_is_that_network_and_is_read_back(arch):
    network, x = build(arch, 0).eval(), images(arch)
    scope = {"__file__": "model.py", "__name__": "model"}
    exec(source_of(arch), scope)
    module, state = scope["Network"]().eval(), state_of(network)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        layer, _, own = name.rpartition(".")
        if own != "num_batches_tracked":
            tensor.data.copy_(torch.from_numpy(state[f"{scope['LAYERS'][layer]}.{own}"]))
    read = from_module(module, x).eval()
    with torch.no_grad():
        assert torch.equal(module(x), network(x))
        assert torch.equal(read(x), network(x))
    assert [layer.op for layer in read.arch.layers] == [layer.op for layer in arch.layers]
    assert (read.arch.sources, read.arch.layer_params) == (arch.sources, arch.layer_params)


def test_the_config_says_what_the_network_is_and_normalises_as_it_was_trained(tmp_path):
    arch = NETS["resnet"]
    network = trained(arch)
    statistics = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 2.0]}
    export(network, tmp_path, {"teacher": "resnet34", "normalisation": statistics})
    config = json.loads((tmp_path / "config.json").read_text())
    assert {name: config[name] for name in ("format", "version", "input", "classes", "params", "normalisation")} == {
        "format": "plait-network", "version": 1, "input": [3, 16, 16], "classes": 10, "params": arch.params,
        "normalisation": statistics,
    }  # fmt: skip
    assert config["about"] == {"teacher": "resnet34"}
    x = images(arch)
    torch.save(x, tmp_path / "x.pt")
    code = ELSEWHERE.format(folder=str(tmp_path), given=str(tmp_path / "x.pt"), made=str(tmp_path / "y.pt"))
    subprocess.run([sys.executable, "-I", "-c", code], cwd="/", check=True, timeout=120)
    mean, std = (torch.tensor(statistics[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), network((x - mean) / std))


def test_equal_networks_are_equal_files(tmp_path):
    for name in ("one", "other"):
        export(trained(ODD), tmp_path / name, {"b": 1, "a": 2})
    for file in ("config.json", "model.safetensors", "model.py"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "config.json",
        "model.py",
        "model.safetensors",
    ]


def run_model(folder):
    return subprocess.run(
        [sys.executable, "-I", str(folder / "model.py")],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def other_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["fc1.weight"] = np.zeros((2, 2), dtype=np.float32)
    save_file(tensors, folder / "model.safetensors")


def other_name(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["extra"] = tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "model.safetensors")


def other_network(folder):
    """Weights of the same names and shapes, of a network with another activation."""
    arch = NETS["features"]
    layers = tuple(layer.model_copy(update={"act": "gelu"}) if layer.op == "act" else layer for layer in arch.layers)
    export(build(arch.model_copy(update={"layers": layers}), 0), folder / "aside", {})
    (folder / "aside" / "model.safetensors").replace(folder / "model.safetensors")


def cut(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-8])


def garbage(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")


@pytest.mark.parametrize("damage", [other_shape, other_name, other_network, cut, garbage])
def test_weights_that_do_not_match_their_config_are_one_clear_line(damage, tmp_path):
    export(trained(NETS["features"]), tmp_path, {})
    damage(tmp_path)
    with pytest.raises(SpecError) as caught:
        load_export(tmp_path)
    done = run_model(tmp_path)
    assert done.returncode == 1
    for line in (str(caught.value), done.stderr.strip()):
        assert "model.safetensors" in line
        assert "\n" not in line
        assert "Traceback" not in line


def test_a_config_of_another_network_is_one_clear_line(tmp_path):
    export(trained(NETS["features"]), tmp_path / "one", {})
    export(trained(NETS["line"]), tmp_path / "other", {})
    (tmp_path / "other" / "config.json").replace(tmp_path / "one" / "config.json")
    with pytest.raises(SpecError, match=r"model\.safetensors: got '\w+', expected weights of \w+, as config\.json"):
        load_export(tmp_path / "one")
    done = run_model(tmp_path / "one")
    assert done.returncode == 1
    assert "config.json: architecture" in done.stderr


def test_the_generated_module_says_what_it_is_when_run(tmp_path):
    export(trained(NETS["line"]), tmp_path, {})
    done = run_model(tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "(1, 10)", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [(None, "no such file"), ("{", "expected the config"), ("{}", "expected format"), ("[]", "expected format"),
     ('{"format": "plait-network", "version": 9, "architecture": {}}', "version: got 9, expected 1"),
     ('{"format": "plait-network", "version": 1, "architecture": {"input": [3]}}', "architecture.layers")],
)  # fmt: skip
def test_what_is_no_exported_network_is_one_clear_line(text, line, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_export(tmp_path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("about", "where"),
    [({"x": float("nan")}, "about"), ({"x": object()}, "about"), ({"normalisation": 3}, "about.normalisation"),
     ({"normalisation": {"mean": [0, 0], "std": [1]}}, "about.normalisation"),
     ({"normalisation": {"mean": [0], "std": [0]}}, "about.normalisation")],
)  # fmt: skip
def test_what_no_file_can_say_is_refused_before_anything_is_written(about, where, tmp_path):
    with pytest.raises(SpecError, match=f"^{where}: got"):
        export(trained(NETS["vgg"]), tmp_path / "net", about)
    assert not (tmp_path / "net").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        export(trained(NETS["line"]), tmp_path / "file", {})


@CASES
def test_onnx_gives_the_same_outputs_for_any_batch(arch, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    network = trained(arch).train()
    to_onnx(network, tmp_path / "net.onnx")
    assert network.training
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    for x in (images(arch), images(arch)[:1]):
        with torch.no_grad():
            expected = network.eval()(x)
        torch.testing.assert_close(
            torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected, rtol=1e-4, atol=1e-5
        )


def test_without_onnx_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SpecError, match=r"ONNX: .* expected the extra: pip install 'plait\[onnx\]'"):
        to_onnx(trained(NETS["line"]), tmp_path / "net.onnx")
