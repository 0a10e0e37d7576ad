"""What a judge run would ask for at most, worked out without asking. An estimate: nobody has counted tokens yet."""

from collections.abc import Sequence

from ...agents.judges.parsing import MOST_ANGLES
from ...agents.judges.tasks import NameAngles, WriteReview
from ...agents.judges.wording import Wording
from ...candidates import JudgeNetwork
from ...records import JSON
from .judge_data import Pair
from .judge_spec import JudgeSpec

WORDS_AROUND = 1200
"""Characters of a prompt beside what is judged."""


def plan_of(spec: JudgeSpec, wording: Wording, pairs: Sequence[Pair]) -> dict[str, JSON]:
    """Return items, networks, and calls and tokens at most: each review with its repair, four characters a token."""
    networks = (spec.judges, *spec.beside.values())
    material = sum(len(p.query) + len(p.response1) + len(p.response2) + WORDS_AROUND for p in pairs) // 4
    calls = tokens = 0
    for network in networks:
        asked, written = _calls_and_tokens(network, _neurons(spec, network, wording))
        calls += asked * len(pairs)
        tokens += asked * material + written * len(pairs)
    kind = "estimate: repairs counted, repeats not; a token is taken for 4 characters"
    return {"items": len(pairs), "networks": len(networks), "calls": calls, "tokens": tokens, "kind": kind}


def _calls_and_tokens(network: JudgeNetwork, neurons: int) -> tuple[int, int]:
    """Return the calls an item at most, and the tokens that judges write or read of each other."""
    letters = 2 * neurons if network.scoring == "letters" else 0
    reviews = 2 * neurons * network.depth - letters
    named = int(network.roles == "generated")
    calls = 2 * reviews + letters + named
    # A repair sends the review back; a layer above reads the reviews of both orders of its neurons below.
    written = reviews * (2 * network.max_tokens + WriteReview.repair_tokens) + letters
    seen = neurons if network.topology == "full" else min(neurons, 2 * network.window - 1)
    above = calls - named - 2 * neurons * (1 if network.depth == 1 and letters else 2)
    return calls, written + above * 2 * seen * network.max_tokens + named * NameAngles.sampling.max_tokens


def _neurons(spec: JudgeSpec, network: JudgeNetwork, wording: Wording) -> int:
    """Return the neurons of a layer at most."""
    angles = len(network.angles or wording.family(network.family)["angles"])
    if network.roles == "generated":
        angles = network.role_limit or MOST_ANGLES
    neurons = angles * len(spec.model) * network.samples
    return min(neurons, network.width or neurons)
