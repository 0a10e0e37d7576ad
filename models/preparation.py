"""What is done to raw examples before a network meets them: layout, scale, size, normalisation. NumPy alone.

    how = Preparation.of(x, "x.npz: x_train")            # what the array itself says
    rows = how.scaled(x)                                 # [count, channels, ...], float32
    how = how.normalised_by(rows, "data")                # the mean and deviation of these
    how.apply(x)                                         # all of it, as an export's `prepared` does it

It is part of what a network is: a run states it, and its exports keep it in config.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from ..errors import DataError, SpecError

Array: TypeAlias = np.ndarray[Any, Any]
Layout: TypeAlias = Literal["channels_first", "channels_last", "no_channels", "features"]
LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last", "no_channels", "features")

FEW = (1, 2, 3, 4)
"""How many channels an image may have for its layout to be recognised: grey, with alpha, colour, colour with alpha."""
LONG = 16
"""Steps from which a signal of a few channels is told from a grey image."""
BYTE = 255.0
"""What bytes are divided by, so that they are 0..1."""


class Statistics(BaseModel):
    """What is taken from examples, and what they are divided by after it: one number, or one a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mean: tuple[float, ...]
    """Taken from the examples."""
    std: tuple[float, ...]
    """Divided out of what is left; above 0."""

    @model_validator(mode="before")
    @classmethod
    def _of_pair(cls, given: Any) -> Any:
        """Take (mean, std) for it, each a number or a list of them."""
        if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
            given = dict(zip(("mean", "std"), given, strict=True))
        if isinstance(given, Mapping):
            return {name: _listed(value) if name in ("mean", "std") else value for name, value in given.items()}
        return given

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        numbers = (*self.mean, *self.std)
        if not self.mean or not self.std or not np.isfinite(numbers).all() or min(self.std) <= 0:
            raise ValueError("a mean and a std above 0, each one number or one a channel")
        return self


Normalisation: TypeAlias = Literal["data", "none"] | Statistics


@dataclass(frozen=True)
class Preparation:
    """How raw examples become what a network takes.

    Attributes:
        shape: Of one raw example.
        layout: Where its channels are; `no_channels` where it has no axis for them: they become one channel;
            `features` where it is a row of numbers that stays one.
        bytes: Whether raw examples are bytes (uint8).
        scale: What raw numbers are divided by.
        size: Side that images are averaged down to; None: as they are.
        mean: Taken then, one number or one a channel.
        std: Divided out then.
        normalised: Where mean and std come from: the examples fitted to (`data`), nowhere (`none`), or `given`.
    """

    shape: tuple[int, ...]
    layout: Layout
    bytes: bool = False
    scale: float = 1.0
    size: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    normalised: Literal["data", "none", "given"] = "none"

    @classmethod
    def of(
        cls, x: Array, where: str, *, layout: Layout | None = None, scale: float | None = None, size: int | None = None
    ) -> Self:
        """Return how an array [count, ...] is read; not normalised yet.

        Args:
            x: Raw examples: bytes or floating-point numbers.
            where: What errors call it.
            layout: Where it is not clear from the shape.
            scale: What numbers are divided by; by default bytes by 255 and other numbers by 1.
            size: Side of the images that networks take; it divides theirs.

        Raises:
            DataError: it is no array of examples, or its layout is not clear and not given.
        """
        if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
            raise DataError(where, str(x.dtype), "bytes or floating-point numbers")
        if x.ndim not in (2, 3, 4) or 0 in x.shape:
            expected = "[count, length], [count, height, width] or [count, height, width, channels]"
            raise DataError(where, x.shape, expected)
        shape, raw = tuple(int(side) for side in x.shape[1:]), x.dtype == np.uint8
        if scale is None:
            scale = BYTE if raw else 1.0
        made = cls(shape, layout_of(shape, where, layout), raw, scale, size)
        made._check_size(where)
        return made

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of one prepared example: channels first."""
        return self._input(self.size)

    def _input(self, size: int | None) -> tuple[int, ...]:
        first = {
            "no_channels": (1, *self.shape),
            "channels_first": self.shape,
            "channels_last": (self.shape[-1], *self.shape[:-1]),
            "features": self.shape,
        }[self.layout]
        return first if size is None else (first[0], size, size)

    def scaled(self, x: Array, where: str = "examples") -> Array:
        """Return raw examples [count, channels, ...], float32, scaled and averaged down, but not normalised.

        Raises:
            DataError: they are of another shape or type than these examples are, or not finite.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise DataError(where, tuple(x.shape[1:]), f"examples of shape {self.shape}, as in x_train")
        if (x.dtype == np.uint8) != self.bytes or not (self.bytes or np.issubdtype(x.dtype, np.floating)):
            raise DataError(where, str(x.dtype), "bytes" if self.bytes else "floating-point numbers")
        rows = x.astype(np.float32) / np.float32(self.scale)
        if not np.isfinite(rows).all():
            at = int(np.argwhere(~np.isfinite(rows))[0][0])
            raise DataError(f"{where}[{at}]", "NaN or infinity", "finite numbers")
        if self.layout == "no_channels":
            rows = rows[:, None]
        elif self.layout == "channels_last":
            rows = np.moveaxis(rows, -1, 1)
        return rows if self.size is None else _averaged(rows, self.size)

    def normalised_by(self, fit: Array, normalisation: Normalisation) -> Self:
        """Return the same with the statistics of `fit`, examples as `scaled` returns them; or with none, or given ones.

        Raises:
            SpecError: those given are for another number of channels.
        """
        if normalisation == "none":
            return replace(self, mean=(0.0,), std=(1.0,), normalised="none")
        if normalisation == "data":
            mean, std = statistics(fit)
            return replace(self, mean=mean, std=std, normalised="data")
        channels = self.input[0]
        for name, side in (("mean", normalisation.mean), ("std", normalisation.std)):
            if len(side) not in (1, channels):
                raise SpecError(f"normalisation.{name}", list(side), f"1 number or {channels}, one a channel")
        return replace(self, mean=normalisation.mean, std=normalisation.std, normalised="given")

    def normalise(self, rows: Array) -> Array:
        """Return examples that `scaled` returned as a network takes them."""
        mean, std = (_a_channel(side, rows.ndim) for side in (self.mean, self.std))
        return ((rows - mean) / std).astype(np.float32)

    def undone(self, rows: Array) -> Array:
        """Return examples that `normalise` returned as they were before, to float32's precision."""
        mean, std = (_a_channel(side, rows.ndim) for side in (self.mean, self.std))
        return (rows * std + mean).astype(np.float32)

    def apply(self, x: Array, where: str = "examples") -> Array:
        """Return raw examples as a network takes them: [count, channels, ...], float32.

        Raises:
            DataError: they are of another shape or type than these examples are.
        """
        return self.normalise(self.scaled(x, where))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON, `input` and the sentence beside."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**plain, "input": list(self.input), "text": self.said}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote.

        Raises:
            SpecError: a field is missing, or of another kind.
        """
        try:
            fields = {name: values[name] for name in cls.__dataclass_fields__}
            fields |= {name: tuple(fields[name]) for name in ("shape", "mean", "std")}
            made = cls(**fields)
            assert made.layout in LAYOUTS
            assert made.to_json()["input"] == list(values["input"])
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise SpecError("preparation", values, "what an export of a network keeps") from error
        return made

    @property
    def said(self) -> str:
        """All of it in a sentence."""
        kind = "bytes" if self.bytes else "numbers"
        said = [f"{kind} [{', '.join(map(str, self.shape))}], {_LAYOUT_SAID[self.layout]}"]
        if self.scale != 1:
            said.append(f"divided by {self.scale:g}")
        if self.size is not None:
            said.append(f"averaged down to {self.size} x {self.size}")
        numbers = "; ".join(", ".join(f"{x:.4g}" for x in side) for side in (self.mean, self.std))
        said.append(
            {
                "none": "not normalised",
                "data": f"normalised by mean and deviation of what is fitted to ({numbers})",
                "given": f"normalised by mean and deviation as given ({numbers})",
            }[self.normalised]
        )
        return ", ".join(said)

    def _check_size(self, where: str) -> None:
        sides = self._input(None)[1:]
        if self.size is not None and (len(sides) != 2 or self.size < 1 or any(side % self.size for side in sides)):
            raise DataError(f"{where}: size", self.size, f"a divisor of the sides of images; these are {sides}")


_LAYOUT_SAID = {
    "no_channels": "no axis of channels", "channels_first": "channels first", "channels_last": "channels last",
    "features": "features",
}  # fmt: skip


def layout_of(shape: tuple[int, ...], where: str, given: Layout | None = None) -> Layout:
    """Return where the channels of an example are.

    Args:
        shape: Of one example.
        where: What the error calls the array.
        given: Holds where it is given, but for rows of numbers, which have no channels.

    Raises:
        DataError: more than one reading is likely.

    >>> layout_of((3, 32, 32), "x"), layout_of((32, 32, 3), "x"), layout_of((28, 28), "x"), layout_of((2, 40), "x")
    ('channels_first', 'channels_last', 'no_channels', 'channels_first')
    """
    axes = len(shape)
    if axes == 1:
        return "features" if given == "features" else "no_channels"
    if given == "features" or (given == "no_channels" and axes == 3):
        raise DataError(f"{where}: layout", given, f"channels_first or channels_last of examples of shape {shape}")
    if given is not None:
        return given
    first, last = (side in FEW for side in (shape[0], shape[-1]))
    if axes == 3 and first != last:
        return "channels_first" if first else "channels_last"
    if axes == 2 and shape[0] == shape[1]:
        return "no_channels"  # square: an image
    if axes == 2 and first != last and max(shape) >= LONG:
        return "channels_first" if first else "channels_last"
    names = "channels_first or channels_last" if axes == 3 else "no_channels (grey images), channels_first or ..._last"
    raise DataError(where, f"examples of shape {shape}", f"channels at one clear place; name it: layout={names}")


def statistics(fit: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation a channel of examples [count, channels, ...]; a deviation of 0 counts as 1."""
    axes = (0, *range(2, fit.ndim))
    mean, deviation = fit.mean(axes, np.float64), fit.std(axes, np.float64)
    deviation = np.where(deviation > 0, deviation, 1)
    both = [tuple(float(x) for x in side.astype(np.float32)) for side in (mean, deviation)]
    return both[0], both[1]


def parsed(text: str) -> Normalisation:
    """Return the normalisation that a text names: `none`, `data`, or MEAN/STD, such as `0.5/0.25` or `0.4,0.5/1,2`.

    Raises:
        SpecError: it names none.

    >>> parsed("0.5/0.25")
    Statistics(mean=(0.5,), std=(0.25,))
    """
    if text == "none":
        return "none"
    if text == "data":
        return "data"
    try:
        mean, std = (tuple(float(number) for number in side.split(",")) for side in text.split("/"))
        return Statistics(mean=mean, std=std)
    except ValueError as error:
        raise SpecError(
            "normalisation", text, "none, data, or MEAN/STD such as 0.5/0.25 or 0.4,0.5,0.4/1,1,1"
        ) from error


def _listed(value: Any) -> Any:
    """Return numbers as a list, whatever holds them; what is none is left for the model to refuse."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    return np.asarray(value).reshape(-1).tolist() if hasattr(value, "__array__") else value


def _a_channel(side: Sequence[float], axes: int) -> Array:
    """Return statistics shaped to be taken from [count, channels, ...]."""
    return np.asarray(side, np.float32).reshape(1, -1, *[1] * (axes - 2))


def _averaged(x: Array, size: int) -> Array:
    """Return images averaged over equal windows down to size x size."""
    count, channels, height, width = x.shape
    return x.reshape(count, channels, size, height // size, size, width // size).mean((3, 5))
