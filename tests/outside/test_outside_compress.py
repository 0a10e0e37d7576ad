"""Compression takes networks and data as users have them, and hands back what is best."""

import numpy as np
import pytest
from plait.architecture_edits import pinned
from plait.architectures import Architecture, Layer
from plait.models.images import load_images
from plait.models.network import build
from plait.orchestrator.recipes.compress import Compress
from plait.orchestrator.recipes.compress_phases import Problem, search_strands
from plait.orchestrator.recipes.compress_spec import CompressSpec
from plait.search.network_space import NetworkSpace
from torch import nn


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
