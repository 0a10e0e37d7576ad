"""Shared fixtures: one Ray cluster a session, the real model, tiny models of every family."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis.configuration
import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHARED = ROOT.parent / "shared" / "data"

# What tests start would otherwise compile the package anew in each process.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Property tests draw their examples from a fixed seed, so that a change fails or passes alike everywhere; `make full`
# draws more, and others every time.
settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "full", max_examples=300, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")
if not os.access(ROOT, os.W_OK):
    hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"hypothesis-{os.getuid()}")

NEEDS = {"ray_cluster": "ray", "smollm2": "weights", "plait": "e2e"}
"""Marker of the tests that use a fixture, also through another one."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, and put files with a cluster first: they take longest, and share workers best."""
    for item in items:
        for fixture, marker in NEEDS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    clustered = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in clustered)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run torch on one thread, as hosts do: the promise of equal bits is for one thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A real local cluster; its cores are slots, so that hosts of several models and counts fit."""
    import ray

    # A folder of its own: /tmp/ray may be another user's. Its name is short, since sockets lie below it.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    os.environ["RAY_TMPDIR"] = folder
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, namespace="plait")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    del os.environ["RAY_TMPDIR"]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def smollm2():
    """The real model, pulled once into the user's cache."""
    from plait.models.sources import ensure

    return ensure("smollm2-135m")


@pytest.fixture(scope="session")
def real_decoder(smollm2, one_thread):
    from plait.models.decoder import LayeredDecoder

    return LayeredDecoder.load(smollm2.folder)


@pytest.fixture(scope="session")
def real_packer(smollm2):
    from plait.models.packing import Packer
    from transformers import AutoTokenizer

    return Packer(AutoTokenizer.from_pretrained(smollm2.folder), 8192)


@pytest.fixture(scope="session")
def questions():
    from plait.orchestrator.data import SHIPPED, load_questions

    return load_questions(SHIPPED)


@pytest.fixture(scope="session")
def tiny_folder(smollm2, tmp_path_factory) -> Path:
    """A model of four random layers with the real tokenizer: runs in a moment."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in smollm2.folder.glob("token*"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture
def plait(monkeypatch, capsys, tmp_path):
    """Run a command in this process; return (exit code, stdout, stderr)."""
    from plait.orchestrator import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["plait", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


@pytest.fixture
def no_ray_left(ray_cluster) -> Iterator[None]:
    """Kill the hosts a test made, so that the next one has the cores."""
    yield
    kill_hosts()


def kill_hosts() -> None:
    """Kill every named actor of the cluster."""
    import ray
    from ray.util import list_named_actors

    for actor in list_named_actors(all_namespaces=True):
        ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
