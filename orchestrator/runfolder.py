"""A run as a folder: what was asked, what was paid, what came out. `plait resume` needs nothing else.

run.json        format version, run id, method, when it was made
spec.json       the spec as resolved: every default filled in, model hash, digest of the data
data.jsonl      the data items
ledger.db       outcomes (unless the spec names another ledger)
events.jsonl    the stream of events
result.json     the result: the same bytes for the same spec and seed
timing.json     what differs from run to run: seconds, host names, spend
report.html     the report
"""

import errno
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ..errors import RunFolderError, StoreError
from ..records import JSON

FORMAT = 1
"""Raise it when a folder of the old kind can no longer be continued."""

HOW = "run"
"""The part of a spec that says how a run is carried out: it may change between starts."""


class RunFolder:
    """One run's files. Make it with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info: dict[str, JSON] = json.loads((path / "run.json").read_text())

    @classmethod
    def create(cls, path: Path, method: str) -> "RunFolder":
        """Return the run in `path`, made if the folder is absent or empty.

        Raises:
            RunFolderError: the folder holds something else, or cannot be made.
            StoreError: the disk is full or read-only.
        """
        if (path / "run.json").exists():
            return cls.open(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunFolderError(str(path), "holds files that are no run; give an empty or a new folder")
        except OSError as error:
            if error.errno in ADVICE:
                raise store_error(path, error) from error
            raise RunFolderError(str(path), f"cannot be written ({error.strerror})") from error
        made = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(path / "run.json", {"format": FORMAT, "id": secrets.token_hex(8), "method": method, "made": made})
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Return an existing run.

        Raises:
            RunFolderError: there is none, it cannot be read, or it is of another format.
        """
        try:
            info = json.loads((path / "run.json").read_text())
            version = info["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(str(path), "no run folder: run.json is missing or unreadable") from error
        if version != FORMAT:
            raise RunFolderError(str(path), f"run of format {version}, this Plait continues format {FORMAT}")
        return cls(path)

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.info["id"])

    def settle_spec(self, spec: Mapping[str, JSON]) -> None:
        """Write the spec on the first start; on a later one, refuse any other. A ledger's password is left out.

        Raises:
            RunFolderError: a field differs; the error names the fields with both values.
        """
        file = self.path / "spec.json"
        if file.exists():
            before = json.loads(file.read_text())
            names = sorted(
                name for name in {*before, *spec} - {HOW} if before.get(name) != json.loads(json.dumps(spec.get(name)))
            )
            if names:
                changes = "; ".join(f"{name}: {before.get(name)!r} then, {spec.get(name)!r} now" for name in names)
                raise RunFolderError(str(self.path), f"holds a run of another spec ({changes})")
        write_json(file, _without_password(spec))

    def spec(self) -> dict[str, JSON]:
        """Return the spec of the run.

        Raises:
            RunFolderError: it was never started.
        """
        try:
            values: dict[str, JSON] = json.loads((self.path / "spec.json").read_text())
        except (OSError, ValueError) as error:
            raise RunFolderError(str(self.path), "no readable spec.json") from error
        return values

    def result(self) -> dict[str, JSON]:
        """Return the result.

        Raises:
            RunFolderError: there is none yet.
        """
        try:
            values: dict[str, JSON] = json.loads((self.path / "result.json").read_text())
        except (OSError, ValueError) as error:
            raise RunFolderError(str(self.path), "no result yet; continue the run: plait resume") from error
        return values

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Hold the folder as its one driver.

        Raises:
            RunFolderError: another process drives this run.
            StoreError: the disk is full or read-only.
        """
        with storing(self.path):
            lock = (self.path / "lock").open("w")
        with lock:
            for patience in (0.05, 0.1, 0.2, None):  # who only looks whether the run is driven holds it for a moment
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if patience is None:
                        raise RunFolderError(str(self.path), "another process works on this run") from error
                    time.sleep(patience)
            yield

    @property
    def driven(self) -> bool:
        """Whether a process works on this run: its lock ends with it, however it ends."""
        try:
            with (self.path / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:  # held, or not to be seen from here
            return True
        return False


_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@|(?<=[?&])(?:ssl)?password=[^&]*&?", re.DOTALL | re.IGNORECASE)
"""Of a database's URL, after the user or as an option; up to the last @, since a password may hold another."""


def _without_password(spec: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a spec whose ledger, if it is a database by URL, is named without its password."""
    how = spec.get(HOW)
    if not isinstance(how, Mapping) or not isinstance(how.get("ledger"), str):
        return dict(spec)
    ledger = _PASSWORD.sub(lambda found: "" if found[1] is None else f"{found[1]}@", how["ledger"])
    return {**spec, HOW: {**how, "ledger": ledger}}


def write_json(path: Path, value: JSON) -> None:
    """Write readable JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all: a draft beside it, flushed to disk, then renamed.

    Raises:
        StoreError: the disk is full, read-only or failing.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with storing(path):
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            with suppress(OSError):  # on a full disk it frees what it took; on a read-only one it cannot go
                draft.unlink(missing_ok=True)
            raise


ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and resume",
    errno.EDQUOT: "the disk quota is used up: free some space and resume",
    errno.EROFS: "the file system is read-only: make it writable and resume",
    errno.EIO: "the disk reports an error: repair it and resume",
}
"""What to do when a disk refuses, by the system's number of the error."""


def store_error(path: Path, error: OSError) -> StoreError:
    """Return what an error of the file system means for the run."""
    number = error.errno or 0
    return StoreError(str(path), ADVICE.get(number, f"cannot be written ({error.strerror or type(error).__name__})"))


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn errors of the file system, while `path` is written, into one line of ours."""
    try:
        yield
    except OSError as error:
        raise store_error(path, error) from error
