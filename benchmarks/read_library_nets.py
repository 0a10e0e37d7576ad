"""Which networks of torchvision and timm are read, and whether each that is read computes the same.

    python benchmarks/read_library_nets.py [NAME ...]

Neither library is a dependency: install them beside (`pip install --no-deps torchvision timm`) to run this. Weights are
random, statistics and weights of norms are no constants. A net counts as wrong where outputs differ at any batch size,
where multiply-accumulates differ from `torch.utils.flop_counter`, parameters from those of the modules that ran, or
where a network drawn from it does not run, or dropping nothing changes an output. Last line: JSON.
"""

import json
import os
import random
import sys
import time
from dataclasses import dataclass

import torch
from plait.models.inheritance import inherit
from plait.models.network import Network, state_of, tensors, with_state
from plait.models.tracing import UnreadableModel, from_module
from plait.search.network_space import NetworkSpace
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

TORCHVISION = (
    "alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121",
    "squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5",
    "mnasnet1_0", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "googlenet", "inception_v3", "efficientnet_b0",
    "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "swin_t", "vit_b_16", "maxvit_t",
)  # fmt: skip
TIMM = (
    "resnet26d", "seresnet50", "resnetv2_50", "skresnet18", "res2net50_26w_4s", "dla34", "hrnet_w18_small",
    "ese_vovnet19b_dw", "cspresnet50", "darknet53", "dpn68", "ghostnet_100", "mixnet_s", "tf_efficientnet_lite0",
    "tf_mobilenetv3_small_100", "hardcorenas_a", "lcnet_050", "tinynet_e", "fbnetc_100", "semnasnet_075", "rexnet_100",
    "repvgg_a0", "mobileone_s0", "regnetz_b16", "nf_resnet50", "convmixer_768_32", "inception_v4", "nasnetalarge",
    "legacy_xception", "selecsls42", "gernet_s", "ecaresnet26t", "poolformer_s12", "fasternet_t0",
)  # fmt: skip
SIZE, FIXED = 128, ("alexnet", "vgg", "vit", "swin", "maxvit")
"""Of images; the nets of these families take the published 224 alone."""
CLOSE = 2e-4
"""Differences of outputs, in units of what they vary by from example to example."""


@dataclass(frozen=True)
class Found:
    """What came of a net: the reason why it is not read, or what is wrong with it, or how far its outputs differ."""

    refused: str = ""
    wrong: str = ""
    far: float = 0.0


def library_net(name: str) -> tuple[nn.Module, tuple[int, ...]] | None:
    """Return a net with random weights and the shape of its images; None where its library is not installed."""
    torch.manual_seed(0)
    try:
        if name in TORCHVISION:
            from torchvision import models

            kwargs = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            net = models.get_model(name, weights=None, **kwargs)
        else:
            import timm

            net = timm.create_model(name)
        size = 224 if name.startswith(FIXED) else SIZE
        return net, (3, size, size)
    except ImportError:
        return None


def settle(module: nn.Module) -> nn.Module:
    """Give norms statistics and weights that are no constants, and keep what the layers give within bounds."""
    draw = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for tensor in (part.running_mean, part.running_var, part.weight, part.bias):
                if tensor is not None:
                    tensor.data.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, generator=draw)
    return module.eval()


def counts(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Return multiply-accumulates of one example, and the trained parameters of the modules that ran."""
    ran: dict[int, int] = {}

    def note(part: nn.Module, given: object, made: object) -> None:
        ran.update({id(tensor): tensor.numel() for tensor in part.parameters(recurse=False)})

    hooks = [part.register_forward_hook(note) for part in module.modules()]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2 // len(x), sum(ran.values())


def varying(outputs: Tensor) -> float:
    """Return how much outputs vary from example to example."""
    return float((outputs - outputs.mean(0)).abs().max())


def checked(module: nn.Module, shape: tuple[int, ...]) -> Found:
    """Read the net and compare."""
    try:
        network = from_module(module, torch.zeros(1, *shape)).eval()
    except UnreadableModel as why:
        return Found(refused=str(why))
    far = 0.0
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(4, *shape, generator=draw)
    with torch.no_grad():
        scale = varying(module(x.clone()))
        if not 0 < scale < float("inf"):
            return Found(wrong=f"nothing to compare: outputs vary by {scale}")
        for batch in (4, 1):
            far = max(far, float((network(x[:batch]) - module(x[:batch].clone())).abs().max()) / scale)
    if far > CLOSE:
        return Found(wrong=f"outputs differ by {far:.1e}", far=far)
    ours, theirs = (network.arch.macs, network.arch.params), counts(module, x[:2])
    if ours != theirs:
        return Found(wrong=f"{ours} multiply-accumulates and parameters, not {theirs}", far=far)
    return Found(wrong=edits(network, x[:2]), far=far)


def edits(network: Network, x: Tensor) -> str:
    """Return what is wrong with networks drawn from this one, or with the one that nothing is dropped of."""
    space = NetworkSpace(network.arch)
    whole = space.apply([True] * len(space.units), [1.0] * len(space.groups))
    state = state_of(network)
    same = with_state(whole, {name: state[name] for name in tensors(Network(whole))})
    with torch.no_grad():
        before = network.eval()(x)
        if float((same.eval()(x) - before).abs().max()) > CLOSE * varying(before):
            return "dropping nothing changes the outputs"
        rng = random.Random(0)
        for _ in range(2):
            student = inherit(space.draw(rng), network, "sorted", 0)
            if student.eval()(x).shape != before.shape:
                return "a smaller network has other outputs"
    return ""


def main(names: list[str]) -> None:
    """Read each net, print a line each and the sums as JSON."""
    start, found = time.perf_counter(), dict[str, Found]()
    for name in names or [*TORCHVISION, *TIMM]:
        net = library_net(name)
        if net is None:
            print(f"{name}: skipped, its library is not installed", flush=True)
            continue
        found[name] = checked(settle(net[0]), net[1])
        said = found[name].refused or found[name].wrong
        how = "refused" if found[name].refused else "wrong" if found[name].wrong else "read"
        print(f"{name}: {how}{f' ({said})' if said else ''}, max difference {found[name].far:.1e}", flush=True)
    read = sum(not net.refused and not net.wrong for net in found.values())
    summary = {
        "name": "read_library_nets", "ratio": round(read / max(len(found), 1), 3), "cores": os.cpu_count(),
        "read": read, "total": len(found), "wrong": sum(bool(net.wrong) for net in found.values()),
        "seconds": round(time.perf_counter() - start),
    }  # fmt: skip
    print(json.dumps(summary))


if __name__ == "__main__":
    main(sys.argv[1:])
