"""How a search over teams goes about it: as published, ours, and the baselines. Source: specs/ann, 2.3, 2.4, 6.1, 9.

`textgrad` and `gepa` are the algorithms of those systems on our teams, trials and validation items, not their code.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..errors import SpecError
from .gate import MEAN, THREE_LOOKS, Gate
from .textual_momentum import MomentumKind

Aim: TypeAlias = Literal["findings", "whole", "agents", "agent", "random"]


@dataclass(frozen=True)
class TextualProfile:
    """Settings of a search over teams.

    Attributes:
        name: As it is written in specs.
        about: What it follows, in a line.
        gate: What a challenger must pass on validation items.
        batch: Training items a step; None for all of them.
        failures: Share of a batch that is drawn from items last answered wrong, where there are any.
        whole: Whether the whole team is criticised, in one reading.
        local: Whether layers are criticised, a reading each.
        blame: Whether failing passes are run again with one layer drawn anew, or given what a team that was right on
            the item made of it, to see which layer is at fault; layers without blame and without unparsed outputs are
            then not criticised.
        aim: What repairs are aimed at: `findings` (distinct layers first), `whole` (one repair sees all critiques),
            `agents` (one for each agent, all applied at once), `agent` (one agent in turn; with neither `whole` nor
            `local` its repair reads the batch itself), `random` (a drawn place and kind; nothing is criticised and
            no training item is run).
        proposals: Repairs a step at most, under `findings` (one a finding, then again at what was not mended), and
            as many under `random`.
        edits: The `op`s that a patch may hold; () for all.
        reasks: Times that a refused repair is asked again, with the reason.
        momentum: What is remembered.
        memory: False switches that off.
        alpha: Weight of a layer's critique against its previous one; 0 where they are not mixed.
        beta: Weight of the global critique against the local one; 0 where they are not mixed.
        parents: Who is changed: the `incumbent`, or a team of the `archive` (the rest being the incumbent), or a
            member of the `front`, as often as it is best on an item, those left out that others cover.
        archive_share: Under `archive`: how often.
        merges: How often a step also judges a merge of two teams of the archive, layer by layer.
        minibatch: Whether a challenger must first have a higher sum on the step's training items.
        admits: What a passed gate gives: `one` challenger of a round becomes the incumbent (largest lead) and the
            others that passed are judged again on it, one after another; or `all` that were judged join the pool, of
            which the highest validation mean is the incumbent.
        ties: Whether an equal mean is kept.
        validation: Validation items used at most; None for all.
        repeats: Draws of an item that are averaged.
        redraw_incumbent: Whether a newly adopted team is judged by fresh draws from then on, not by those that it
            was adopted for.
        target: A training batch's mean that ends the search; None for none.
        patience: Steps in a row without a valid patch that end it.
        steps: Steps at most, where the caller does not say; None for as many as the budget pays for.
    """

    name: str
    about: str
    gate: Gate = THREE_LOOKS
    batch: int | None = 4
    failures: float = 0.5
    whole: bool = True
    local: bool = True
    blame: bool = True
    aim: Aim = "findings"
    proposals: int = 4
    edits: tuple[str, ...] = ()
    reasks: int = 1
    momentum: MomentumKind = "edits"
    memory: bool = True
    alpha: float = 0.0
    beta: float = 0.0
    parents: Literal["incumbent", "archive", "front"] = "archive"
    archive_share: float = 0.3
    merges: float = 0.1
    minibatch: bool = False
    admits: Literal["one", "all"] = "one"
    ties: bool = False
    validation: int | None = None
    repeats: int = 1
    redraw_incumbent: bool = False
    target: float | None = None
    patience: int = 3
    steps: int | None = None

    def reads_layers(self, layers: int) -> bool:
        """Whether layers are criticised one by one; a lone layer is the team and read once, but where both are mixed.

        Args:
            layers: Of the team.
        """
        return self.local and (layers > 1 or not self.whole or bool(self.weights))

    @property
    def weights(self) -> dict[str, float]:
        """What repair is told of how critiques are mixed; empty where they are not."""
        return {"alpha": self.alpha, "beta": self.beta} if self.alpha else {}


PLAIT = TextualProfile(
    name="plait",
    about="ours: blame by replay, edits aimed at findings, memory of edits with outcomes, three looks, an archive",
)

PAPER = TextualProfile(
    name="ann-paper",
    about="Agentic Neural Networks, arXiv 2506.09046: one repair an epoch, mixed critiques, kept if the mean is higher",
    gate=MEAN,
    batch=None,
    blame=False,
    aim="whole",
    proposals=1,
    reasks=0,
    momentum="critiques",
    alpha=0.7,
    beta=0.5,
    parents="incumbent",
    merges=0.0,
    validation=100,
    target=1.0,
    patience=20,
    steps=20,
)

TEXTGRAD = TextualProfile(
    name="textgrad",
    about="TextGrad: the instructions of every agent rewritten at once, taken back if the validation mean falls",
    gate=MEAN,
    batch=3,
    failures=0.0,
    whole=False,
    blame=False,
    aim="agents",
    edits=("set_instructions",),
    reasks=0,
    momentum="none",
    parents="incumbent",
    merges=0.0,
    ties=True,
    validation=100,
    patience=12,
    steps=12,
)

GEPA = TextualProfile(
    name="gepa",
    about="GEPA: one agent's instructions a step, better on a minibatch of 3, then validated whole; front by item",
    gate=MEAN,
    batch=3,
    failures=0.0,
    whole=False,
    local=False,
    blame=False,
    aim="agent",
    proposals=1,
    edits=("set_instructions",),
    reasks=0,
    momentum="none",
    parents="front",
    merges=0.0,
    minibatch=True,
    admits="all",
    validation=100,
    patience=20,
)

RANDOM = replace(
    PLAIT,
    name="random",
    about="control: random edits of the same kinds through the same gate, nothing criticised or remembered",
    batch=0,
    whole=False,
    local=False,
    blame=False,
    aim="random",
    momentum="none",
)

TEXTUAL_PROFILES = {profile.name: profile for profile in (PLAIT, PAPER, TEXTGRAD, GEPA, RANDOM)}


def textual_profile(name: str) -> TextualProfile:
    """Return the profile called `name`.

    Raises:
        SpecError: there is none; the error lists those there are.
    """
    if name not in TEXTUAL_PROFILES:
        raise SpecError("profile", name, f"one of {', '.join(TEXTUAL_PROFILES)}")
    return TEXTUAL_PROFILES[name]
