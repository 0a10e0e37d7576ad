"""Named search settings: the published ones as their authors run them, and ours. Source: specs/cola, section 6."""

from collections.abc import Callable
from dataclasses import dataclass

from ..candidates import LayerPath
from ..errors import SpecError
from .base import Search
from .dive import DiveSettings, EpsilonDive
from .path_space import EditSets, Splices, length_window
from .random_search import RandomSearch
from .tree import TreeSearch, TreeSettings

UP_TO_4 = (1, 2, 3, 4)


@dataclass(frozen=True)
class Profile:
    """One way to search layer paths.

    Attributes:
        name: As it is written in specs.
        about: What it follows, in a line.
        simulations: Paths beside the identity, where the spec does not say.
        space: Returns the legal paths for a depth.
        build: Returns the search for (depth, simulations, seed).
    """

    name: str
    about: str
    simulations: int
    space: Callable[[int], Splices | EditSets]
    build: Callable[[int, int, int], Search]

    def search(self, depth: int, simulations: int, seed: int) -> Search:
        """Return a fresh search over paths of a decoder of `depth` layers; it asks the identity first."""
        return self.build(depth, simulations, seed)

    def random(self, depth: int, simulations: int, seed: int) -> Search:
        """Return random search over the same paths at the same budget; it asks the identity first."""
        return RandomSearch(self.space(depth), simulations, seed, (LayerPath.identity(depth),))


def _cola_paper_space(depth: int) -> Splices:
    # The paper says "constrained" and gives no number; twice the depth is DR.LLM's cap.
    return Splices(depth, UP_TO_4, UP_TO_4, UP_TO_4, UP_TO_4, 4, None, 1, 2 * depth)


def _polar_code_space(depth: int) -> Splices:
    return Splices(depth, UP_TO_4, UP_TO_4, (1,), (1,), 1, 2, *length_window(depth))


def _drllm_space(depth: int) -> Splices:
    return Splices(depth, (1, 2), (1,), (1, 2), (1,), 1, None, 1, 2 * depth)


def _repolar_space(depth: int) -> EditSets:
    return EditSets(depth, UP_TO_4, (0, 2, 3, 4, 5), 1, 5 * depth)


def _plait_space(depth: int) -> EditSets:
    return EditSets(depth, UP_TO_4, (0, 2), *length_window(depth))


def _dive(space: Callable[[int], Splices], settings: DiveSettings) -> Callable[[int, int, int], Search]:
    return lambda depth, simulations, seed: EpsilonDive(space(depth), simulations, seed, settings)


def _drllm(depth: int, simulations: int, seed: int) -> Search:
    def improved(reward: float, layers: int, identity: float) -> bool:
        """Stop at a better answer, or at a right path at least two layers shorter."""
        return reward > identity or (reward >= 1 and layers <= depth - 2)

    settings = DiveSettings(exploration=1.8, length_weight=3.0)
    return EpsilonDive(_drllm_space(depth), simulations, seed, settings, improved)


def _repolar(depth: int, simulations: int, seed: int) -> Search:
    return TreeSearch(_repolar_space(depth), simulations, seed, TreeSettings(cost_weight=5.0))


def _plait(depth: int, simulations: int, seed: int) -> Search:
    settings = TreeSettings(exploration=0.3, widening=2.0, tie_break=0.1)
    return TreeSearch(_plait_space(depth), simulations, seed, settings)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("plait", "ours: edit sets, transpositions, widening, length as tie-break", 100, _plait_space, _plait),
        Profile(
            "cola-paper",
            "CoLa, arXiv 2507.07996, section 3 and appendix B",
            200,
            _cola_paper_space,
            _dive(_cola_paper_space, DiveSettings(stored=False)),
        ),
        Profile(
            "polar-code",
            "the released code of CoLa and PoLar",
            100,
            _polar_code_space,
            _dive(_polar_code_space, DiveSettings()),
        ),
        Profile("drllm", "DR.LLM, arXiv 2510.12773: stops at the first improvement", 50, _drllm_space, _drllm),
        Profile("repolar", "RE-PoLar, arXiv 2609.31360: edit sets and widening", 200, _repolar_space, _repolar),
    )
}


def profile(name: str) -> Profile:
    """Return the profile called `name`.

    Raises:
        SpecError: there is none; the error lists those there are.
    """
    if name not in PROFILES:
        raise SpecError("profile", name, f"one of {', '.join(PROFILES)}")
    return PROFILES[name]
