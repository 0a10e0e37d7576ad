"""hf: sources against a small hub on this machine, through huggingface_hub's own client in a process of its own."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from plait.tests.hub_server import COMMIT, REPOSITORY, Hub, serving

pytestmark = pytest.mark.weights  # the tiny model has the real model's tokenizer


@pytest.fixture
def hub(tiny_folder):
    with serving(Hub({file.name: file.read_bytes() for file in sorted(tiny_folder.iterdir())})) as one:
        yield one


@pytest.fixture
def plait(hub, tmp_path):
    """Run a command with that hub for the hub; return (exit code, stdout, stderr)."""

    def run(*arguments: str, **variables: str):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PLAIT_HOME": str(tmp_path / "home")}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", **variables}
        command = [sys.executable, "-m", "plait.orchestrator.cli", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def is_one_line(err: str) -> bool:
    return "Traceback" not in err and len([line for line in err.splitlines() if line.startswith("plait: ")]) == 1


def test_a_good_pull(plait, hub, tiny_folder, tmp_path):
    code, out, err = plait("models", "pull", f"hf:{REPOSITORY}@v1", "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert list(dict.fromkeys(line["stage"] for line in lines[:-1])) == ["download", "check", "hash", "done"]
    size = sum((tiny_folder / name).stat().st_size for name in hub.files)
    assert ("download", size, size) in [(line["stage"], line["done"], line["total"]) for line in lines[:-1]]
    model = lines[-1]
    assert model["layers"] == 4
    assert model["weights"] == {"model.safetensors": sha256(hub.files["model.safetensors"]).hexdigest()}
    assert Path(model["folder"]).name == COMMIT
    assert "it/s" not in err, "the hub's own bars are not drawn"

    asked = len(hub.asked)
    code, _, err = plait("models", "pull", f"hf:{REPOSITORY}@v1")
    assert code == 0, err
    assert len(hub.asked) == asked, "a model that is here is not asked for again"


def test_a_wrong_hash_leaves_the_cache_usable(plait, hub, tmp_path):
    right = hub.files["model.safetensors"]
    hub.instead["model.safetensors"] = right[:-1] + bytes([right[-1] ^ 1])  # as long, and one bit different
    code, out, err = plait("models", "pull", f"hf:{REPOSITORY}")
    assert code == 2
    assert is_one_line(err), err
    assert "SHA-256" in err
    assert sha256(right).hexdigest() in err
    assert plait("models", "list") == (0, "", "")
    assert not list((tmp_path / "home").glob("tmp/*"))
    hub.instead.clear()
    code, _, err = plait("models", "pull", f"hf:{REPOSITORY}")
    assert code == 0, err
    _, out, _ = plait("models", "show", f"hf:{REPOSITORY}", "--json")
    assert json.loads(out)["weights"]["model.safetensors"] == sha256(right).hexdigest()


def test_a_cut_download_is_one_line_and_the_next_pull_is_good(plait, hub):
    hub.instead["model.safetensors"] = hub.files["model.safetensors"][:1000]
    code, _, err = plait("models", "pull", f"hf:{REPOSITORY}")
    assert code in {2, 4}
    assert is_one_line(err), err
    hub.instead.clear()
    assert plait("models", "pull", f"hf:{REPOSITORY}")[0] == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [("hf:someone/nothing", "the hub knows no someone/nothing"), (f"hf:{REPOSITORY}@v9", "has no revision v9")],
)
def test_what_the_hub_does_not_know(plait, source, words):
    code, out, err = plait("models", "pull", source)
    assert (code, out) == (2, "")
    assert is_one_line(err), err
    assert words in err


def test_nobody_at_the_hubs_address(plait, tmp_path):
    code, out, err = plait("models", "pull", f"hf:{REPOSITORY}", HF_ENDPOINT="http://127.0.0.1:1")
    assert (code, out) == (4, "")
    assert is_one_line(err), err
    assert "cannot be reached" in err


def test_offline_the_hubs_cache_serves_and_says_that_it_is_unchecked(plait, hub):
    assert plait("models", "pull", f"hf:{REPOSITORY}")[0] == 0
    assert plait("models", "remove", f"hf:{REPOSITORY}")[0] == 0
    asked = len(hub.asked)
    code, _, err = plait("models", "pull", f"hf:{REPOSITORY}", HF_HUB_OFFLINE="1")
    assert code == 0, err
    assert "unchecked" in err
    assert len(hub.asked) == asked
