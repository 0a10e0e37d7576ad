"""What a compression run is: its spec. The text under a field is its help in schema, command line and docs."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ...errors import SpecError, all_known
from ...models.distill import Training
from ...models.preparation import Layout, Normalisation, Statistics, parsed
from .cola_spec import RunOptions
from .compress_target import Target

PROFILES = ("plait", "n2n-paper")
RIVALS = ("random", "untrained", "evolution", "uniform", "pruning", "lottery", "plait", "n2n-paper")
PAPER_EPOCHS = 5
"""Epochs that the released code trains a student for."""


class CompressSpec(BaseModel):
    """Find a smaller network by policy-gradient search (N2N Learning, arXiv 1709.06030) beside simpler ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["compress"] = "compress"
    """The recipe."""
    teacher: str = "resnet8"
    """Network to compress: a name (resnet18:width=8, vgg13, lenet, cnn1d:width=25, mlp:128-64), which is trained first,
    the folder of an exported network, or module:FILE.py:NAME, a torch.nn.Module or what returns one."""
    teachers: tuple[str, ...] = ()
    """Folders of exported networks whose logits are learnt in place of the teacher's; FOLDER#0,3 is about classes 0
    and 3 alone, so that several specialists make one student."""
    assistants: tuple[str, ...] = ()
    """Folders of exported networks between teacher and student in size, whose logits are learnt beside: for targets
    below a tenth of the teacher."""
    data: str = "plait:digits"
    """Images or signals: plait:digits; an .npz file of x_train, y_train, x_test, y_test; a folder of images,
    CLASS/IMAGE or train/CLASS/IMAGE and test/CLASS/IMAGE; a folder of Hugging Face tables, Parquet or what save_to_disk
    wrote; or module:FILE.py:NAME, a Dataset, a DataLoader, (x, y) or what returns one. A fifth is kept for testing
    where there is no test part."""
    size: PositiveInt | None = None
    """Side that square images are averaged down to; default: as they are."""
    normalisation: Normalisation | None = None
    """What is done to the examples' numbers: `none`; `data`: the mean of each channel over what is fitted to is taken
    out and its deviation divided out; or MEAN/STD (0.5/0.25, or a number a channel: 0.4,0.5,0.4/0.2,0.2,0.2). Default:
    none for a module, what an exported network was trained with, data for a network that is trained here."""
    layout: Layout | None = None
    """Where the channels of an example are, where its shape leaves that open: channels_first, channels_last, or
    no_channels for grey images [height, width], features for rows of numbers that stay rows."""
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """What raw numbers are divided by; default: bytes by 255, other numbers by 1."""
    classes: int | None = Field(default=None, ge=2)
    """Outputs of the networks; default: as many as there are labels."""
    accept_lower: bool = False
    """Go on although the teacher names more examples right that are prepared in another way."""
    train: PositiveInt | None = None
    """Use the first so many training examples."""
    validation: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training examples that rewards are measured on; no student is fitted to it."""
    target: str = "params=0.2x"
    """What a student may cost: params, macs, bytes or ms, as a number or a share (0.2x) of the teacher's."""
    profile: Literal["plait", "n2n-paper"] = "plait"
    """Search settings: ours, or as published."""
    rivals: tuple[str, ...] = ("random", "untrained", "uniform", "pruning")
    """What runs beside it at the same student-epochs: random, untrained (the same search that does not learn),
    evolution, uniform, pruning, lottery, or the other profile."""
    take: str | None = None
    """Method whose student is handed back; default: the best on validation examples, whichever method's it is."""
    budget: PositiveInt = 200
    """Student-epochs of each search; an epoch of an architecture trained before costs nothing."""
    seeds: PositiveInt = 1
    """Independent searches of each kind; intervals are over them."""
    teacher_epochs: PositiveInt = 30
    """Epochs of a teacher that is trained here."""
    final_epochs: PositiveInt = 30
    """Epochs of each search's chosen student before it meets the test examples, once."""
    training: Training = Training()
    """How students are trained; its schedule gives the rungs of successive halving."""
    policy: str | None = None
    """Folder of saved policies to start from: another run's `policy/`."""
    seed: int = 0
    """Every random draw follows from it."""
    ask: PositiveInt = 8
    """Students that one search proposes at once."""
    lag: NonNegativeInt = 16
    """Students of one search that may be in training at once, at most; no less than `ask`."""
    run: RunOptions = RunOptions()
    """How the run is carried out; changes no result."""

    @field_validator("target")
    @classmethod
    def _known_target(cls, text: str) -> str:
        Target.parse(text)
        return text

    @field_validator("normalisation", mode="before")
    @classmethod
    def _normalisation(cls, given: Any) -> Any:
        """Take MEAN/STD as text and (mean, std) for what they stand for."""
        if given is None or isinstance(given, Statistics):
            return given
        try:
            return parsed(given) if isinstance(given, str) else Statistics.model_validate(given)
        except (SpecError, ValueError) as error:
            raise ValueError("none, data, or MEAN/STD: each one number or one a channel, deviations above 0") from error

    @field_validator("rivals")
    @classmethod
    def _known_rivals(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_known(names, RIVALS, "rivals")

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.lag < self.ask:
            raise ValueError("lag no less than ask")
        if self.profile in self.rivals:
            raise ValueError("rivals other than the profile itself")
        if self.take is not None and self.take not in [name for name in self.methods if name != "lottery"]:
            raise ValueError(f"take: a method that runs and hands back a student ({', '.join(self.methods)})")
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """The profile, then its rivals."""
        return (self.profile, *self.rivals)
