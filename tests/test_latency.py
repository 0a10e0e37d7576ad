"""Times of networks on this device: what a table foretells, and that it goes on saying so. No time is asserted."""

import json
import math

import pytest
import torch
from plait.architecture_groups import channel_groups, shrunk
from plait.architectures import Architecture, Layer
from plait.errors import SpecError, StoreError
from plait.models.latency import Entry, LatencyTable, milliseconds
from plait.models.network import build
from plait.models.zoo import named

NET = Architecture(
    input=(2, 8, 8),
    layers=tuple(Layer(**settings) for settings in (
        {"op": "conv", "out": 8, "kernel": (3,), "padding": (1,)}, {"op": "norm"}, {"op": "act"},
        {"op": "conv", "groups": 0, "kernel": (3,), "padding": (1,)},
        {"op": "conv", "out": 8, "groups": 2}, {"op": "add", "inputs": (2, 4)}, {"op": "cat", "inputs": (5, 3)},
        {"op": "max_pool", "kernel": (2,)}, {"op": "flatten"}, {"op": "linear", "out": 3},
    )),
)  # fmt: skip
CONV = "conv (3, 3) (1, 1) (1, 1) 1"


def conv(given, made, ms, side=8, batch=1):
    return Entry("conv", CONV, (given, side, side), (made, side, side), made * given * 9 * side * side, batch, ms)


def alone(given, made, side=8):
    layer = Layer(op="conv", out=made, kernel=(3,), padding=(1,))
    return Architecture(input=(given, side, side), layers=(layer,))


TABLE = LatencyTable(
    [conv(2, 4, 1.0), conv(4, 8, 3.0), conv(4, 4, 10.0, side=4), conv(2, 4, 50.0, batch=64),
     Entry("act", "act relu", (4, 8, 8), (4, 8, 8), 512, 1, 0.5)],
    overhead={1: 0.25, 64: 0.25}, scale={1: 2.0, 64: 1.0},
)  # fmt: skip


@pytest.mark.parametrize(
    ("net", "batch", "ms"),
    [
        (alone(2, 4), 1, 0.25 + 2 * 1.0),  # as it was timed
        (alone(2, 4), 64, 0.25 + 50.0),
        (alone(2, 10), 1, 0.25 + 2 * 2.0),  # 180 multiplications a place, halfway between 72 and 288
        (alone(8, 8), 1, 0.25 + 2 * 6.0),  # beyond the largest on maps of 8x8, in proportion
        (alone(1, 1), 1, 0.25 + 2 * 1.0),  # below the smallest
        (alone(2, 4, side=16), 1, 0.25 + 2 * 3.0),  # maps of a size that was not timed: the work of 4 -> 8 on 8x8
    ],
    ids=["timed", "batch", "between", "beyond", "below", "maps"],
)  # fmt: skip
def test_a_table_adds_what_layers_take(net, batch, ms):
    assert TABLE.predict(net, batch) == pytest.approx(ms)


def test_an_operation_never_timed_is_taken_for_its_like():
    gelu = Architecture(input=(4, 8, 8), layers=(Layer(op="act", act="gelu"),))
    norm = Architecture(input=(4, 8, 8), layers=(Layer(op="norm"),))
    assert TABLE.predict(gelu) == pytest.approx(0.25 + 2 * 0.5)
    assert math.isfinite(TABLE.predict(norm))


def test_a_batch_never_timed_is_one_clear_line():
    with pytest.raises(SpecError, match=r"latency table: batch: got 8, expected one of \[1, 64\]"):
        TABLE.predict(NET, 8)


@pytest.mark.parametrize("net", [NET, named("resnet8:width=2", (1, 8, 8), 4), named("cnn1d:width=4", (1, 40), 10)])
def test_every_layer_is_timed_at_every_width(net):
    table = LatencyTable.measured(net, batches=(1,), fractions=(0.5, 1.0))
    assert all(entry.ms >= 0 and entry.work > 0 for entry in table.entries)
    assert len({entry.size for entry in table.entries}) == len(table.entries)
    kinds = {entry.op for entry in table.entries}
    assert kinds == {layer.op for layer in net.layers}
    for arch in (net, shrunk(net, [max(1, group.width // 3) for group in channel_groups(net)])):
        assert 0 < table.predict(arch) < math.inf
        assert table.predict(arch) == table.predict(arch)


def test_a_table_says_the_same_when_loaded(tmp_path):
    table = LatencyTable.measured(NET, batches=(1, 3), fractions=(0.5, 1.0))
    table.save(tmp_path / "latency.json")
    back = LatencyTable.load(tmp_path / "latency.json")
    assert back == table
    small = shrunk(NET, [4 for _ in channel_groups(NET)])
    assert [back.predict(small, batch) for batch in (1, 3)] == [table.predict(small, batch) for batch in (1, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["latency.json"]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", json.dumps({"entries": [[1]], "overhead": {}, "device": ""})])
def test_what_is_no_table_is_one_clear_line(text, tmp_path):
    if text is not None:
        (tmp_path / "latency.json").write_text(text)
    with pytest.raises(SpecError, match="expected a latency table"):
        LatencyTable.load(tmp_path / "latency.json")


def test_a_table_that_cannot_be_written_is_one_clear_line(tmp_path):
    with pytest.raises(StoreError, match="latency"):
        TABLE.save(tmp_path / "absent" / "latency.json")


def test_timing_leaves_the_network_and_torch_as_they_were():
    network = build(NET, 0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    assert milliseconds(network, batch=2) > 0
    assert network.training
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
