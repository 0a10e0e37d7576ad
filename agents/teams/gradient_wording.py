"""The words that critic and repair are sent: templates in files, written from what is given and from nothing else.

Every text of others is quoted line by line and cut to its bound. Knows messages and teams; must not know models or
graphs.
"""

import json
from functools import cached_property, partial
from typing import Any

from jinja2 import TemplateError
from pydantic import BaseModel

from ...errors import SpecError
from ...models.chat import Message
from ...teams import PLACEHOLDERS, TeamSpec
from .fitting import Shown, fitted, newest, tokens
from .gradient_given import Bounds, CritiqueGiven, Finding, RepairGiven, Sample, Step
from .gradient_schemas import OPS, edits_schema, schema_text
from .wording import Wording

FILES = ("critic", "overview", "samples", "critique", "repairer", "repair", "edits", "reask")
"""Templates of the backward pass; a file is called `team_NAME.txt`."""


class GradientWording(Wording):
    """The templates of the backward pass, by default those that come with Plait; a file that `folder` lacks is ours.

    Its hash is its own: another wording of critiques leaves the forward pass as it was.
    """

    def critique(self, given: CritiqueGiven, bounds: Bounds, *, held: bool = False) -> list[Message]:
        """Return the call that asks what went wrong.

        Args:
            given: What is shown.
            bounds: How much of it.
            held: The answer is held to its schema, so no form of it is shown: weak models copy what a form holds.

        Raises:
            SpecError: the bound on the whole prompt leaves no room.
        """
        return self._call("critic", partial(self._critique, given, bounds, held), bounds)

    def repair(self, given: RepairGiven, bounds: Bounds, ops: tuple[str, ...] = (), *, schema: bool) -> list[Message]:
        """Return the call that asks for a patch.

        Args:
            given: What is shown.
            bounds: How much of it.
            ops: Edits whose forms are shown; () for all that `given` allows.
            schema: Show forms of edits and the JSON schema, for models that are not held to it (weak ones copy what a
                form holds in place of a text); the schema is left out where it would take half of the prompt.

        Raises:
            SpecError: the bound on the whole prompt leaves no room.
        """
        return self._call("repairer", partial(self._repair, given, bounds, ops or given.edits, schema), bounds)

    def reask(self, error: str) -> str:
        """Return what is said to a model whose answer could not be used."""
        return self.render("reask", error=error)

    def render(self, name: str, **values: Any) -> str:
        """Return the text of `team_NAME.txt`; none is kept, since hardly any comes twice.

        Raises:
            SpecError: it is no Jinja template of the names it is given.
        """
        try:
            return self._templates.get_template(f"team_{name}.txt").render(values).strip()
        except TemplateError as error:
            raise SpecError(f"prompts: team_{name}.txt", str(error), "a Jinja template of known names") from error

    def _call(self, system: str, render: Any, bounds: Bounds) -> list[Message]:
        told = self.render(system)
        prompt = fitted(lambda shown: f"{told}\n{render(shown)}", bounds.total, f"prompt of the {system}")
        return [{"role": "system", "content": told}, {"role": "user", "content": prompt[len(told) + 1 :]}]

    def _critique(self, given: CritiqueGiven, bounds: Bounds, held: bool, shown: Shown) -> str:
        return self.render(
            "critique", overview=self._overview(given.team, shown), samples=_samples(given, bounds),
            statistics=given.statistics, scope=given.scope, output=bounds.output, held=held, shown=shown,
            layers=[layer.name for layer in given.team.layers],
        )  # fmt: skip

    def _repair(self, given: RepairGiven, bounds: Bounds, ops: tuple[str, ...], schema: bool, shown: Shown) -> str:
        name, part = _part(given.team, given.finding)
        alpha, beta = given.weights.get("alpha", 1.0), given.weights.get("beta", 0.5)
        edits = self.render(
            "edits", ops=ops or OPS, held=not schema, limits=given.team.limits,
            placeholders=", ".join(f"{{{name}}}" for name in PLACEHOLDERS),
        )  # fmt: skip
        form = schema_text(edits_schema(ops)) if schema else ""
        layers = 1 if given.finding.layer else len(given.team.layers)
        return self.render(
            "repair", overview=self._overview(given.team, shown), given=given, part=part, part_name=name, edits=edits,
            alpha=_weight(alpha), other_alpha=_weight(1 - alpha), beta=_weight(beta), other_beta=_weight(1 - beta),
            memory=newest(given.memory, bounds.entries, bounds.memory), critique=layers * bounds.critique,
            schema=form if 2 * tokens(form) <= bounds.total else "", shown=shown, samples=_samples(given, bounds),
            output=bounds.output, held=not schema,
        )  # fmt: skip

    def _overview(self, team: TeamSpec, shown: Shown) -> str:
        return self.render("overview", team=team, shown=shown)

    @cached_property
    def _texts(self) -> dict[str, str]:
        return {f"team_{name}.txt": self.text(f"team_{name}.txt") for name in FILES}


def _part(team: TeamSpec, finding: Finding) -> tuple[str, str]:
    """Return what a finding is about, by name and as JSON: its agent, else its layer, else all layers."""
    for _, _, agent in team.places():
        if agent.name == finding.agent:
            return f"Agent {agent.name}", _json(agent)
    layer = team.layer(finding.layer)
    if layer is not None:
        return f"Layer {layer.name}", _json(layer)
    return "The layers", "\n".join(map(_json, team.layers))


def _json(value: BaseModel) -> str:
    return json.dumps(value.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def _samples(given: CritiqueGiven | RepairGiven, bounds: Bounds) -> list[Sample]:
    return [sample.model_copy(update={"trace": _within(sample, bounds.steps)}) for sample in given.shown]


def _within(sample: Sample, most: int) -> list[Step | str]:
    """Return the calls of an item that are shown; a text in place of those that are not."""
    steps: list[Step | str] = [*sample.trace]
    if len(steps) <= most:
        return steps
    head = most - most // 2
    return [*steps[:head], f"[... {len(steps) - most} calls left out ...]", *steps[len(steps) - most // 2 :]]


def _weight(value: float) -> str:
    """Return a weight as people write it.

    >>> _weight(1 - 0.7)
    '0.3'
    """
    return f"{value:.3g}"


__all__ = ["FILES", "GradientWording"]
