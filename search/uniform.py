"""The teacher scaled evenly in width and depth: what every search over networks must beat, behind the same protocol."""

from collections.abc import Sequence

from ..architectures import Architecture
from ..errors import SpecError
from .epochs import SCHEDULE, Epochs
from .fixed import FixedSearch
from .halving import Rung
from .network_space import NetworkSpace

WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.125)
DEPTHS = (1.0, 0.5, 0.0)


def even_students(space: NetworkSpace, depths: Sequence[float] = DEPTHS) -> tuple[Architecture, ...]:
    """Return for each depth the widest evenly scaled network within the limit, each once."""
    found = [space.repaired(space.uniform(1.0, depth)) for depth in depths]
    return tuple({arch.key: arch for arch in found if arch is not None}.values())


def uniform_students(
    space: NetworkSpace,
    budget: int,
    schedule: Sequence[int] = SCHEDULE,
    widths: Sequence[float] = WIDTHS,
    depths: Sequence[float] = DEPTHS,
    rung: int | None = None,
) -> FixedSearch:
    """Return the search that asks the teacher scaled evenly, at one rung, as far as the budget pays.

    For each depth first the widest network within the limit, then each of `widths` that is within it; networks come
    in the order of `depths`, each once, at `rung` (None for the last).
    """
    last, epochs = len(schedule) - 1 if rung is None else rung, Epochs(budget, schedule)
    if not 0 <= last < len(schedule):
        raise SpecError("rung", last, f"0 to {len(schedule) - 1}")
    found: dict[str, Rung] = {}
    for depth in depths:
        whole = space.repaired(space.uniform(1.0, depth))
        scaled = [space.uniform(width, depth) for width in widths]
        for arch in [whole, *(arch for arch in scaled if space.feasible(arch))]:
            if arch is not None and arch.key not in found and epochs.affords(arch, last):
                epochs.spend(arch, last)
                found[arch.key] = Rung(arch, last)
    return FixedSearch(tuple(found.values()))
