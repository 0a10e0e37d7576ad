"""Trained students on disk, one safetensors file a student and rung. Must not know how students are trained.

A file is written beside its place and moved there, so that it is whole or absent, whoever is killed and however many
write the same student. It carries a digest: one that is damaged all the same counts as absent.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import StoreError
from ..records import JSON, canonical
from .images import Array, array_digest


@dataclass(frozen=True)
class Checkpoint:
    """A student at the end of a rung.

    Attributes:
        rung: Index of the rung.
        arrays: Weights and the optimiser's state, by name.
        results: What it did on validation at the end of each rung, this one's last.
    """

    rung: int
    arrays: Mapping[str, Array]
    results: tuple[dict[str, JSON], ...]


class Checkpoints:
    """The checkpoints of one student.

    Args:
        folder: Of all students; made where it is absent.
        key: Names the student and all that its weights depend on.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = Path(folder), key

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and remove those of lower rungs: it holds their results too.

        Raises:
            StoreError: the disk is full, or the folder cannot be written.
        """
        about = {"rung": checkpoint.rung, "results": list(checkpoint.results)}
        metadata = {"about": canonical(about), "digest": _digest(checkpoint.arrays)}
        place = self._place(checkpoint.rung)
        draft = place.with_name(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(save(dict(checkpoint.arrays), metadata))
            draft.replace(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise StoreError(str(place), error.strerror or str(error)) from error
        for rung in range(checkpoint.rung):
            self._place(rung).unlink(missing_ok=True)

    def found(self) -> Iterator[Checkpoint]:
        """Yield the checkpoints that are whole, the highest rung first."""
        rungs = [int(file.stem.rpartition("-")[2]) for file in self._folder.glob(f"{self._key}-*.safetensors")]
        for rung in sorted(rungs, reverse=True):
            checkpoint = _read(self._place(rung))
            if checkpoint is not None:
                yield checkpoint

    def _place(self, rung: int) -> Path:
        return self._folder / f"{self._key}-{rung}.safetensors"


def _read(place: Path) -> Checkpoint | None:
    """Return the checkpoint at `place`; None where it is damaged, or another worker has just replaced it."""
    try:
        with safe_open(place, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if metadata.get("digest") != _digest(arrays):
            return None
        about = json.loads(metadata["about"])
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    return Checkpoint(about["rung"], arrays, tuple(about["results"]))


def _digest(arrays: Mapping[str, Array]) -> str:
    names = sorted(arrays)
    return array_digest(np.frombuffer("\n".join(names).encode(), np.uint8), *(arrays[name] for name in names))
