"""What critic and repair said, read from their text: findings, patches. Tolerant of form; where nothing can be read it
says why. Pure text; must not know models.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...models.thoughts import spoken
from ...records import JSON
from ...team_edits import Patch, Refusal, parse_patch
from ...team_findings import KINDS, FindingKind
from .gradient_given import MOST_FINDINGS, Finding

_TRAILING = re.compile(r",(\s*[}\]])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|[\s-]+")


class ReadCritique(NamedTuple):
    """A critique's own words and findings; `unknown` counts those that name no layer there is."""

    text: str
    findings: tuple[Finding, ...] = ()
    unknown: int = 0
    error: str = ""


class ReadPatch(NamedTuple):
    """A patch as JSON, or None and why there is none."""

    patch: dict[str, JSON] | None
    error: str = ""


def read_critique(text: str, layers: Mapping[str, Sequence[str]], scope: str = "") -> ReadCritique:
    """Return what a critic said.

    Args:
        text: Its answer.
        layers: The agents of each layer, by name.
        scope: The layer it was asked about; what names no layer at all is about that one.
    """
    found, error = _last(text, "findings", lambda row: isinstance(row.get("text"), str))
    if found is None:
        return ReadCritique(spoken(text).text, error=error)
    rows = found.get("findings")
    rows = rows if isinstance(rows, list) else [rows]
    known = [_finding(row, layers, scope) for row in rows if row]
    if None in known:
        return ReadCritique(spoken(text).text, error='a finding is no object with a "text" that says something')
    findings = [finding for finding in known if finding is not None][:MOST_FINDINGS]
    said = found.get("critique")
    whole = said.strip() if isinstance(said, str) else ""
    unknown = sum(not finding.layer for finding in findings)
    return ReadCritique(whole or "\n".join(finding.text for finding in findings), tuple(findings), unknown)


def read_patch(text: str, ops: Collection[str] = ()) -> ReadPatch:
    """Return the patch that a repair proposed; whether it fits a team is not looked at.

    Args:
        text: The answer.
        ops: What its edits may be; none named: any.
    """
    found, error = _last(text, "edits", lambda row: isinstance(row.get("op"), str))
    if found is None:
        return ReadPatch(None, error)
    rows = found["edits"]
    edits = [_edit(row) for row in (rows if isinstance(rows, list) else [rows])]
    rationale = found.get("rationale")
    patch = parse_patch({"edits": edits, "rationale": rationale if isinstance(rationale, str) else ""})
    if isinstance(patch, Refusal):
        return ReadPatch(None, str(patch))
    strange = [edit.op for edit in patch.edits if ops and edit.op not in ops]
    if strange:
        return ReadPatch(None, f"{strange[0]} is no edit that may be made here, expected {' or '.join(ops)}")
    return ReadPatch(_plain(patch))


def _plain(patch: Patch) -> dict[str, JSON]:
    """Return a patch as it was written: what was left out stays out."""
    return patch.model_dump(mode="json", exclude_unset=True)


def _finding(row: Any, layers: Mapping[str, Sequence[str]], scope: str) -> Finding | None:
    """Return the finding of a row, with names as the team spells them; None where it says nothing."""
    row = {"text": row} if isinstance(row, str) else row
    if not isinstance(row, Mapping) or not isinstance(row.get("text"), str) or not row["text"].strip():
        return None
    homes = {agent: layer for layer, agents in layers.items() for agent in agents}
    agent = _named(row.get("agent"), homes, "agent")
    layer = _named(row.get("layer"), layers, "layer") or homes.get(agent or "", "")
    if not layer and not _says(row.get("layer")):
        layer = scope
    kind = _named(row.get("kind"), dict.fromkeys(KINDS), "kind")
    kinds: dict[str, FindingKind] = {kind: kind for kind in KINDS}
    return Finding(layer=layer, agent=agent, kind=kinds.get(kind or "", "prompt"), text=row["text"].strip())


def _named(said: Any, known: Mapping[str, Any], what: str) -> str | None:
    """Return the known name that was meant: as it stands, in another case, or behind the word for what it is."""
    if not isinstance(said, str):
        return None
    plain = said.strip().strip("`\"'").strip()
    bare = re.sub(rf"^{what}\s+", "", plain, flags=re.IGNORECASE)
    for name in known:
        if name in (plain, bare):
            return name
    folded = [name for name in known if name.casefold() in (plain.casefold(), bare.casefold())]
    return folded[0] if len(folded) == 1 else None


def _says(said: Any) -> bool:
    return isinstance(said, str) and said.strip().casefold() not in {"", "null", "none"}


def _edit(row: Any) -> Any:
    """Return an edit with its `op` as it is spelled here: `SetRole` and `set-role` are `set_role`."""
    if not isinstance(row, Mapping) or not isinstance(row.get("op"), str):
        return row
    return {**row, "op": _CAMEL.sub("_", row["op"].strip()).lower()}


def _last(text: str, key: str, is_row: Callable[[Mapping[str, Any]], bool]) -> tuple[dict[str, Any] | None, str]:
    """Return the last object in `text` that has `key`, and "", or None and why there is none.

    Where nothing is called `key`, rows that stand there without it are taken for its list: a row is told by `is_row`.
    A broken object is never read in part.
    """
    reply = spoken(text)
    plain = reply.text
    if not plain:
        return None, "the answer ended within its thoughts" if reply.cut else "the answer was empty"
    values = [*_values(plain)]
    whole = [value for value in values if isinstance(value, dict) and key in value]
    if not whole and f'"{key}"' in plain:
        values = [*_values(_TRAILING.sub(r"\1", plain))]
        whole = [value for value in values if isinstance(value, dict) and key in value]
    if whole:
        return _sound(whole[-1])
    if f'"{key}"' in plain:
        return None, f'the JSON of "{key}" is broken or cut off'
    rows = [value for value in values if isinstance(value, dict) and is_row(value)]
    lists = [value for value in values if isinstance(value, list) and value and all(map(_row(is_row), value))]
    if lists or rows:
        return _sound({key: lists[-1] if lists else rows})
    return None, f'no JSON object with "{key}" in it'


def _row(is_row: Callable[[Mapping[str, Any]], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and is_row(value)


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and lists of a text, those within others left out, be the others whole or broken."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_no_number)
    opening, at = re.compile(r"[{\[]"), 0
    while match := opening.search(text, at):
        try:
            value, at = decoder.raw_decode(text, match.start())
        except json.JSONDecodeError as error:
            at = max(match.start() + 1, error.pos)
        except ValueError:  # a number that is none
            at = match.start() + 1
        except RecursionError:  # no answer nests a thousand deep, and what is within would nest as deep again
            return
        else:
            yield value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _sound(value: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Refuse what has no canonical text: halves of characters."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # a UnicodeEncodeError is a ValueError
        return None, "the JSON holds characters or numbers that cannot be written"
    return value, ""


__all__ = ["ReadCritique", "ReadPatch", "read_critique", "read_patch"]
