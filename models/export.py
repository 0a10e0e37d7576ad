"""Networks as files that outlive Plait: `config.json`, `model.safetensors` and a `model.py` that needs torch alone.

No class is pickled. The three name one architecture by its hash, and are refused where they do not belong together.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..architectures import Architecture
from ..errors import SpecError, StoreError
from ..records import JSON, canonical
from .export_source import source_of
from .network import Network, State, state_of, with_state
from .preparation import Preparation, Statistics

FORMAT = "plait-network"
VERSION = 1


def export(network: Network, folder: Path | str, about: Mapping[str, JSON]) -> None:
    """Write `network` to `folder`, made where it is absent; each file is whole or absent, config.json comes last.

    Args:
        network: What is written.
        folder: Files of an earlier export there are replaced.
        about: Anything that JSON can say. `normalisation`, where given, is {"mean": [...], "std": [...]}, one number a
            channel: what was taken from, and divided out of, the examples that it was trained on. `preparation`, as
            `Preparation.to_json` writes it, says all that was done to raw examples, and stands for it; `labels` is the
            names of the classes.

    Raises:
        SpecError: `about` cannot be written as JSON, or its normalisation or preparation does not fit the network.
        StoreError: the folder cannot be written.
    """
    arch, about, place = network.arch, dict(about), Path(folder)
    preparation = _preparation(arch, about.pop("preparation", None))
    given = about.pop("normalisation", None)
    if isinstance(preparation, dict):
        given = {name: preparation[name] for name in ("mean", "std")}
    statistics, labels = _normalisation(arch, given), about.pop("labels", None)
    config = {
        "format": FORMAT, "version": VERSION, "hash": arch.hash, "input": list(arch.input), "classes": arch.classes,
        "params": arch.params, "macs": arch.macs, "normalisation": statistics,
        "preparation": preparation, "labels": labels, "about": about, "architecture": json.loads(arch.key),
    }  # fmt: skip
    try:
        text = json.dumps(config, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise SpecError("about", str(error), "what JSON can say") from error
    weights = save(state_of(network), {"architecture": arch.hash})  # one entry: several come in any order
    try:
        place.mkdir(parents=True, exist_ok=True)
        _write(place / "model.safetensors", weights)
        _write(place / "model.py", source_of(arch).encode())
        _write(place / "config.json", text.encode())
    except OSError as error:
        raise StoreError(str(place), str(error)) from error


def load_export(folder: Path | str) -> Network:
    """Return the network that `export` wrote to `folder`.

    Raises:
        SpecError: there is none, a file is damaged, or weights and config do not belong together.
    """
    place = Path(folder)
    config = _config(place / "config.json")
    arch = Architecture.parse(canonical(config["architecture"]))
    state, told = _weights(place / "model.safetensors")
    if told.get("architecture", arch.hash) != arch.hash:
        raise SpecError(
            str(place / "model.safetensors"), told["architecture"], f"weights of {arch.hash}, as config.json"
        )
    try:
        return with_state(arch, state)
    except SpecError as error:
        raise SpecError(f"{place / 'model.safetensors'}: {error.where}", error.got, error.expected) from error


def preparation_of(folder: Path | str) -> Preparation | Statistics | None:
    """Return what the network in `folder` was trained under: all of it, or its statistics alone in older exports.

    Raises:
        SpecError: it holds no exported network.
    """
    config = _config(Path(folder) / "config.json")
    how, statistics = config.get("preparation"), config.get("normalisation")
    if isinstance(how, dict):
        return Preparation.from_json(how)
    return Statistics.model_validate(statistics) if isinstance(statistics, dict) else None


def labels_of(folder: Path | str) -> tuple[str, ...] | None:
    """Return the names of the outputs of the network in `folder`, in their order; None where it has none.

    Raises:
        SpecError: it holds no exported network.
    """
    labels = _config(Path(folder) / "config.json").get("labels")
    return tuple(map(str, labels)) if isinstance(labels, list) else None


def to_onnx(network: Network, path: Path | str) -> None:
    """Write `network` in evaluation mode as one ONNX file, for batches of any size; input `x`, prepared; output `y`.

    Raises:
        SpecError: the packages of the extra `onnx` are not installed.
    """
    try:
        import onnxscript  # noqa: F401 - torch's exporter imports it, and tells less clearly that it is not there
    except ImportError as error:
        raise SpecError("ONNX", f"no package {error.name}", "the extra: pip install 'plait[onnx]'") from error
    training, example = network.training, torch.zeros(2, *network.arch.input)
    shapes = ({0: torch.export.Dim("batch")},)
    try:
        torch.onnx.export(
            network.eval(), (example,), str(path), input_names=["x"], output_names=["y"], dynamic_shapes=shapes,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    finally:
        network.train(training)


def _normalisation(arch: Architecture, given: Any) -> JSON:
    if given is None:
        return None
    sides = [given.get(name) if isinstance(given, Mapping) else None for name in ("mean", "std")]
    wanted = f"mean and std, each of 1 or {arch.input[0]} numbers"
    try:
        mean, std = (np.asarray(side, dtype=np.float64).reshape(-1) for side in sides)
    except (TypeError, ValueError) as error:
        raise SpecError("about.normalisation", given, wanted) from error
    fits = all(len(side) in (1, arch.input[0]) and np.isfinite(side).all() for side in (mean, std))
    if not fits or not (std > 0).all():
        raise SpecError("about.normalisation", given, wanted)
    return {"mean": mean.tolist(), "std": std.tolist()}


def _preparation(arch: Architecture, given: Any) -> JSON:
    if given is None:
        return None
    how = Preparation.from_json(given)
    if how.input != arch.input:
        raise SpecError("about.preparation", how.said, f"examples prepared to {arch.input}, what the network takes")
    return how.to_json()


def _write(place: Path, data: bytes) -> None:
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(place)


def _config(place: Path) -> dict[str, JSON]:
    try:
        config = json.loads(place.read_text())
    except FileNotFoundError as error:
        raise SpecError(str(place), "no such file", "the config of an exported network") from error
    except (OSError, ValueError) as error:
        raise SpecError(str(place), str(error), "the config of an exported network") from error
    told = config.get("format") if isinstance(config, dict) else None
    if told != FORMAT or "architecture" not in config:
        raise SpecError(str(place), told, f"format {FORMAT!r}, with an architecture")
    if config.get("version") != VERSION:
        raise SpecError(f"{place}: version", config.get("version"), str(VERSION))
    return config


def _weights(place: Path) -> tuple[State, Mapping[str, str]]:
    """Return the tensors of a safetensors file and its metadata."""
    try:
        with safe_open(place, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError) as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise SpecError(str(place), problem, "the weights of an exported network") from error
