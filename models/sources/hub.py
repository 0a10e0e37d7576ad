"""Bringing a model from a hub: its client fills its own cache, which other tools share; weights are checked after."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from ...errors import OfflineError, SourceError
from ..families import check_family
from ..loading import check_tokenizer_settings, read_config
from .cache import Progress, sha256
from .source import Source

PATTERNS = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "*token*",
            "*.model", "vocab*", "merges.txt", "chat_template*", "special_tokens_map.json"]  # fmt: skip

BETWEEN = 0.25
"""Seconds between reports of bytes, as pip does it."""


def from_hub(source: Source, progress: Progress) -> Path:
    """Return the folder of the hub's cache that holds the model; only safetensors are asked for.

    Raises:
        SourceError: the hub knows no such repository or revision, asks for consent, or other bytes came than it says.
        OfflineError: the hub cannot be reached and its cache does not hold the model.
    """
    import huggingface_hub

    progress("download", 0, 0)
    early = _check_config(source)

    def counted(stage: str, done: int, total: int) -> None:
        progress(stage, done + early, total + early if total else 0)

    with _hub_errors(source):
        folder = Path(
            huggingface_hub.snapshot_download(
                source.place,
                revision=source.detail or None,
                allow_patterns=PATTERNS,
                tqdm_class=_reporting(counted),
            )
        )
    _check(source, folder, progress)
    return folder


def _check_config(source: Source) -> int:
    """Refuse a model by its config alone, before any weights are fetched; return the bytes that came."""
    import huggingface_hub

    came = 0

    def count(stage: str, done: int, total: int) -> None:
        nonlocal came
        came = max(came, done)

    with _hub_errors(source):
        small = ["config.json", "tokenizer_config.json", "adapter_config.json"]
        folder = Path(
            huggingface_hub.snapshot_download(
                source.place,
                revision=source.detail or None,
                allow_patterns=small,
                tqdm_class=_reporting(count),
            )
        )
    check_family(read_config(folder, source.text), source.text)
    check_tokenizer_settings(folder, source.text)
    return came


def _check(source: Source, folder: Path, progress: Progress) -> None:
    """Compare every weights file with the SHA-256 that the hub states for it; a wrong one leaves the cache."""
    import huggingface_hub
    from huggingface_hub import errors

    progress("check", 0, 0)
    try:
        with _hub_errors(source):  # the folder's name is the commit: no push in between can confuse the two
            info = huggingface_hub.HfApi().model_info(source.place, revision=folder.name, files_metadata=True)
    except OfflineError as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise
        progress("unchecked: no network", 0, 0)  # the hub's cache served it, and nobody can be asked
        return
    for known in info.siblings or []:
        file = folder / known.rfilename
        if known.lfs is None or file.suffix != ".safetensors" or not file.exists():
            continue
        found = sha256(file)
        if found != known.lfs.sha256:
            file.resolve().unlink()  # the bytes, which the next pull would take for good; then the link to them
            file.unlink(missing_ok=True)
            raise SourceError(
                source.text, f"{known.rfilename} has SHA-256 {found}, the hub says {known.lfs.sha256}; pull again"
            )


@contextmanager
def _hub_errors(source: Source) -> Iterator[None]:
    """Turn the hub client's errors into one line of ours."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        advice = "this repository asks for consent: accept it on the hub, set HF_TOKEN"
        raise SourceError(source.text, advice) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(source.text, f"the hub knows no {source.place}, or it is private: set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(source.text, f"{source.place} has no revision {source.detail}") from error
    except Exception as error:
        known = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError)
        # The client's HTTP library is httpx or httpx2, by its version; its errors share no base with ours.
        if not isinstance(error, known) and type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk is told where all of them are
        if isinstance(error, OSError) and error.errno is not None and error.filename:
            raise SourceError(source.text, f"{error.filename}: {error.strerror}; see HF_HOME") from error
        advice = "with a network, pull again; without one, use the path of a folder that holds the model"
        raise OfflineError(source.text, f"the hub cannot be reached ({type(error).__name__}); {advice}") from error


def _reporting(progress: Progress) -> Any:
    """Return a class of progress bars that draws nothing and reports the bytes of all files together."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Reporting(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            # Bytes come twice, as received and as written; and there is a bar that counts files.
            self._counts = settings.get("unit") == "B" and not str(settings.get("name")).endswith(".transfer")
            self._done, self._told, self._lock_of_count = 0, 0.0, Lock()
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            with self._lock_of_count:
                self._done += int(n or 0)
                total, now = int(self.total or 0), time.monotonic()
                if self._counts and (self._done == total or now - self._told >= BETWEEN):
                    self._told = now
                    progress("download", self._done, total)
            return None

    return Reporting
