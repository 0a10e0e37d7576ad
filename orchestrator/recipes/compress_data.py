"""The examples of a compression run as each network takes them, and whether a teacher was trained on such ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SpecError
from ...models.distill import logits_of
from ...models.export import labels_of, preparation_of
from ...models.images import ImageData, load_images
from ...models.network import Network
from ...models.preparation import BYTE, Array, Normalisation, Preparation, Statistics, statistics
from ...user_objects import names_object, object_of
from .compress_spec import CompressSpec

SURE = 2.5
"""Deviations of a fair coin by which one preparation must have more examples right than another to be held better."""

COMPARED = 5000
"""Examples at most that a teacher is shown as prepared otherwise."""

INLINE = "inline"
"""What a spec says of a teacher or of data that were handed over in Python."""

USUAL = {"0.5/0.5": ((0.5,), (0.5,)), "0.485,0.456,0.406/0.229,0.224,0.225": (
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}  # fmt: skip
"""Statistics that networks are often trained with: to -1..1, and ImageNet's."""


def is_export(teacher: str) -> bool:
    """Return whether a teacher's text is the folder of an exported network."""
    return (Path(teacher) / "config.json").exists()


def loaded(spec: CompressSpec, source: Any, *, module: bool) -> ImageData:
    """Return a source's examples as the teacher takes them; `source` is all that `load_images` takes.

    A module meets them as they are, an exported network as it was trained, where the spec does not say otherwise.

    Raises:
        DataError: they cannot be used.
        SpecError: a setting does not fit them.
    """
    if source == INLINE:
        expected = "the examples that it was started with: go on in Python, with the same arguments and out="
        raise SpecError("compress.data", "a run that was started in Python", expected)
    if names_object(source):
        source = object_of(source, "compress.data")
    normalisation: Normalisation = "none" if module else "data"
    size, scale, layout = spec.size, spec.scale, spec.layout
    how = None if module or not is_export(spec.teacher) else preparation_of(spec.teacher)
    if how is not None:
        normalisation = _normalisation_of(how)
    if isinstance(how, Preparation):
        usual = how.scale == (BYTE if how.bytes else 1.0)  # then the array's own type decides
        size, scale = size or how.size, scale or (None if usual else how.scale)
        layout = layout or ("features" if how.layout == "features" else None)
    return load_images(
        source, size, spec.train, spec.validation, spec.seed, spec.classes,
        normalisation=spec.normalisation or normalisation, layout=layout, scale=scale,
    )  # fmt: skip


def checked_given(data: ImageData, spec: CompressSpec) -> ImageData:
    """Return examples that were handed over ready, normalised in another way where the spec says so.

    Raises:
        SpecError: the spec says of them what can no longer be changed.
    """
    for name in ("layout", "scale", "size", "classes"):
        if getattr(spec, name) is not None:
            expected = "none beside ImageData, which is ready: say it where the data are made, in load_images"
            raise SpecError(f"compress.{name}", getattr(spec, name), expected)
    if spec.normalisation is None:
        return data
    if data.preparation is None:
        data = replace(data, preparation=Preparation(data.input, "channels_first"))
    assert data.preparation is not None
    raw = data.preparation.undone(data.fit_x)
    return data.under(data.preparation.normalised_by(raw, spec.normalisation))


def is_as_trained(teacher: str, data: ImageData) -> bool:
    """Return whether examples are normalised as the exported network in the folder `teacher` was trained."""
    theirs, mine = preparation_of(teacher), data.preparation
    return theirs is not None and mine is not None and (theirs.mean, theirs.std) == (mine.mean, mine.std)


def as_trained(folder: str, data: ImageData) -> ImageData:
    """Return the examples normalised as the exported network in `folder` was trained; as they are if it is silent."""
    how = preparation_of(folder)
    if how is None or data.preparation is None:
        return data
    return data.under(data.preparation.normalised_by(data.fit_x, _normalisation_of(how)))


def check_labels(folder: str, data: ImageData) -> None:
    """Raise SpecError where the outputs of an exported network have other names than the data's classes."""
    theirs = labels_of(folder)
    if theirs is not None and data.names is not None and theirs != data.names:
        shown = f"{', '.join(theirs)[:200]}, the outputs of {folder}, in that order"
        raise SpecError("compress.data: classes", ", ".join(data.names)[:200], shown)


def check_preparation(network: Network, data: ImageData, *, accept_lower: bool = False) -> dict[str, float]:
    """Return the share of fit and validation examples that a teacher names right, prepared so and otherwise.

    Args:
        network: The teacher, which was not trained here.
        data: As its students will meet them.
        accept_lower: Whether to go on where it would name more right otherwise.

    Raises:
        SpecError: prepared otherwise it names more right than chance explains: it was not trained on such examples.
    """
    rows = np.concatenate([data.validation_x, data.fit_x])[:COMPARED]
    labels = np.concatenate([data.validation_y, data.fit_y])[:COMPARED]
    right = {name: logits_of(network, x).argmax(1) == labels for name, x in _otherwise(data, rows).items()}
    ours = right.pop("as prepared")
    shares = {name: float(hits.mean()) for name, hits in right.items()}
    better = [] if accept_lower else [name for name in shares if _better(name, right[name], ours)]
    if better:
        best = max(better, key=lambda name: shares[name])
        how = "as handed over" if data.preparation is None else data.preparation.said
        raise SpecError(
            "teacher: normalisation",
            f"{100 * ours.mean():.1f} % of {len(labels)} examples named right as prepared here ({how})",
            f"the preparation that it was trained with: {100 * shares[best]:.1f} % with {best}; set that (in "
            "load_images, where its result is handed over), or accept_lower=true to go on",
        )
    return {name: round(share, 6) for name, share in {"as prepared": float(ours.mean()), **shares}.items()}


def _better(name: str, theirs: Array, ours: Array) -> bool:
    """Return whether a way of preparing names more right than chance explains: by the answers that differ (McNemar).

    Usual statistics and scales are guesses, of which one may be better by luck: they must halve the mistakes, too.
    """
    more, fewer = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    plain = name in ("normalisation=none", "normalisation=data")
    return more - fewer > SURE * (more + fewer) ** 0.5 and bool(plain or (~theirs).sum() <= (~ours).sum() / 2)


def _otherwise(data: ImageData, rows: Array) -> dict[str, Array]:
    """Return examples as they are prepared, and in the ways that a network may have been trained with instead."""
    how = data.preparation or Preparation(data.input, "channels_first")
    raw, fit = how.undone(rows), how.undone(data.fit_x)
    mean, std = statistics(fit)
    ways = {"none": ((0.0,), (1.0,)), "data": (mean, std), **USUAL}
    found = {"as prepared": rows}
    for name, (taken, divided) in ways.items():
        if len(taken) in (1, data.input[0]):
            there = replace(how, mean=taken, std=divided).normalise(raw)
            if not np.allclose(there, rows, atol=1e-4):
                found[f"normalisation={name}"] = there
    if how.bytes and how.scale != 1:
        found["scale=1, normalisation=none"] = raw * np.float32(how.scale)
    elif how.scale == 1 and (how.bytes or float(raw.max()) > 1.5) and float(raw.min()) >= 0:
        found["scale=255, normalisation=none"] = raw / np.float32(BYTE)
    return found


def _normalisation_of(how: Preparation | Statistics) -> Normalisation:
    if (tuple(how.mean), tuple(how.std)) == ((0.0,), (1.0,)):
        return "none"
    return Statistics(mean=tuple(how.mean), std=tuple(how.std))
