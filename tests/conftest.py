"""Shared fixtures: one Ray cluster a session, the real model, tiny models of every family."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run torch on one thread, as hosts do: the promise of equal bits is for one thread."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A real local cluster; its cores are slots, so that hosts of several models and counts fit."""
    import ray

    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, namespace="plait")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


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
    import shutil

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
