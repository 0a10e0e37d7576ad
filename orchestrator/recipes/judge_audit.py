"""An audit of a judge on public sets of labelled pairs: finds the sets in a folder, puts the results side by side.

A set is known by its content, whatever its file is called. A copy that was shortened or edited is known by its file's
name instead, and is not called whole.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from ...errors import DataError, SpecError
from ...intervals import Interval
from ...records import JSON, digest, generator
from ..spec import validated
from .judge_data import Pair, load_pairs
from .judge_result import JudgeResult
from .judge_spec import JudgeSpec
from .judge_statement import chance_standing, judge

if TYPE_CHECKING:
    from .judge import Judge

KNOWN = {
    "autoj": ("d3977810d823aa92", "testdata_pairwise"),
    "llmeval2": ("278c662cf7812cbf", "LLMEval2_benchmark"),
    "faireval": ("b768dd6be1a8af0f", "faireval"),
    "llmbar natural": ("80967e0a4f4ebd1c", "LLMBar_Natural"),
    "llmbar neighbor": ("de78f792ecc96fba", "LLMBar_Adversarial_Neighbor"),
    "llmbar gptinst": ("45c7045f74a2a52a", "LLMBar_Adversarial_GPTInst"),
    "llmbar gptout": ("838bd5a515cf1f2a", "LLMBar_Adversarial_GPTOut"),
    "llmbar manual": ("54771e98cf6655ad", "LLMBar_Adversarial_Manual"),
}
"""Public sets: a digest of their queries and labels, and their file as it is published, without the ending."""


@dataclass(frozen=True)
class AuditSet:
    """A public set in a folder.

    Attributes:
        name: Of the set.
        path: Its file.
        pairs: Its items, each with a human label.
        whole: Whether it has all items of the published set.
    """

    name: str
    path: Path
    pairs: tuple[Pair, ...]
    whole: bool

    def sample(self, limit: int | None, seed: int) -> list[Pair]:
        """Return at most `limit` pairs, drawn by seed, in the order of the file."""
        if limit is None or limit >= len(self.pairs):
            return list(self.pairs)
        chosen = generator(seed, "audit-sample", self.name).sample(range(len(self.pairs)), limit)
        return [self.pairs[place] for place in sorted(chosen)]


def audit_sets(folder: str | Path) -> list[AuditSet]:
    """Return the public sets in a folder and its subfolders, each once, in the order of `KNOWN`.

    Raises:
        DataError: there is none; or the file of a set cannot be read as pairs.
    """
    found: dict[str, AuditSet] = {}
    for path in sorted(Path(folder).rglob("*.jsonl")):
        made = _recognised(path)
        # Of two copies the whole one counts.
        if made is not None and (made.name not in found or (made.whole and not found[made.name].whole)):
            found[made.name] = made
    if not found:
        raise DataError(str(folder), "no public set", f"JSON lines of {', '.join(KNOWN)}, in any subfolder")
    return [found[name] for name in KNOWN if name in found]


def _recognised(path: Path) -> AuditSet | None:
    """Return the set that a file is; None where it is none."""
    named = next((name for name, (_, file) in KNOWN.items() if file == path.stem), None)
    try:
        pairs = tuple(load_pairs(path))
    except DataError:
        if named is None:  # files of other kinds may lie beside the sets
            return None
        raise
    content = fingerprint(pairs)
    for name, (known, _) in KNOWN.items():
        if content == known:
            return AuditSet(name, path, pairs, whole=True)
    labelled = tuple(pair for pair in pairs if pair.human is not None)
    return AuditSet(named, path, labelled, whole=False) if named and labelled else None


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Return 16 digits that stand for the queries and labels of a set, in their order."""
    return digest([[pair.query, pair.human] for pair in pairs])[:16]


def findings(summary: Mapping[str, JSON]) -> list[str]:
    """Return what is amiss with the judge on one set, the worst first; a judge below longer answers is named first."""
    if not summary["judges"]:
        return ["no labelled item to report on"]
    ours, controls = judge(summary, "network"), [(key, judge(summary, key)) for key in ("longer", "majority")]
    if not ours["judged"]:
        return ["no verdict"]
    found, standing = [], chance_standing(summary)
    for key, control in controls:
        gap: Interval = control["network_minus"]["accuracy"]
        if gap["mean"] is not None and gap["mean"] < 0:
            found.append(f"BELOW {key}" + ("" if gap["high"] is not None and gap["high"] < 0 else " (not surely)"))
        elif gap["low"] is None or gap["low"] <= 0:
            found.append(f"does not beat {key}")
    return found if standing == "above chance" else [*found, standing]


def audit_rows(results: Mapping[str, Mapping[str, JSON]]) -> list[dict[str, Any]]:
    """Return a row a set: items, the network beside the longer answer and the majority class, what is amiss."""
    return [_row(name, summary) for name, summary in results.items()]


def _row(name: str, summary: Mapping[str, JSON]) -> dict[str, Any]:
    lines = {key: judge(summary, key) for key in ("network", "longer", "majority")} if summary["judges"] else {}

    def figure(key: str, metric: str) -> Interval:
        return lines[key][metric] if lines else {"mean": None, "low": None, "high": None, "n": 0}

    return {
        "set": name,
        "items": summary["reported"],
        "judged": lines["network"]["judged"] if lines else 0,
        "accuracy": figure("network", "accuracy"),
        "kappa": figure("network", "kappa"),
        "longer": figure("longer", "accuracy"),
        "longer_kappa": figure("longer", "kappa"),
        "majority": figure("majority", "accuracy"),
        "minus_longer": lines["longer"]["network_minus"]["accuracy"] if lines else figure("longer", "accuracy"),
        "n_eff": None if summary["panel"] is None else summary["panel"]["least"],
        "findings": findings(summary),
    }


def audit_table(results: Mapping[str, Mapping[str, JSON]]) -> Table:
    """Return the table of an audit: summaries by name of set, a set where the judge is below longer answers marked."""
    table = Table(box=None, pad_edge=False)
    for column in ("set", "items", "accuracy", "kappa", "longer wins", "majority", "minus longer, points", "findings"):
        table.add_column(column, justify="right" if column not in ("set", "findings") else "left")
    for row in audit_rows(results):
        marked = any(finding.startswith("BELOW longer") for finding in row["findings"])
        table.add_row(
            row["set"],
            f"{row['judged']}/{row['items']}" if row["judged"] < row["items"] else str(row["items"]),
            *(_cell(row[name]) for name in ("accuracy", "kappa", "longer", "majority")),
            _cell(row["minus_longer"], scale=100, digits=1, sign="+"),
            "; ".join(row["findings"]),
            style="bold red" if marked else None,
        )
    return table


def run_audit(
    folder: str | Path,
    values: Mapping[str, Any],
    out: Path,
    *,
    limit: int | None = None,
    address: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
    begun: "Callable[[Judge], None]" = lambda run: None,
) -> dict[str, JudgeResult]:
    """Judge the public sets in a folder, a run folder each, print the audit and return the results by set.

    Args:
        folder: Of the sets.
        values: Fields of `JudgeSpec`.
        out: Where the run folders go; a run of the same spec is continued.
        limit: Items a set at most, drawn by seed.
        address: Of an existing Ray cluster.
        as_json: Print a JSON line a set instead of a table.
        quiet: Print nothing of a set before the end.
        begun: Told of each set's run before it starts, so that it can be stopped; no set follows one that was.

    Raises:
        SpecError: a field cannot run, or is one that the sets decide.
    """
    from .judge import Judge

    if given := [name for name in ("data", "labels") if name in values]:
        raise SpecError(f"judge.{given[0]}", values[given[0]], "nothing: an audit takes pairs and labels of its sets")
    if limit is not None and limit < 1:
        raise SpecError("--limit", limit, "1 or more")
    seed = validated(JudgeSpec, values, "judge").seed
    console, results = Console(), {}
    for found in audit_sets(folder):
        pairs = found.sample(limit, seed)
        if not quiet and not as_json:
            part = "" if found.whole and len(pairs) == len(found.pairs) else f" of {len(found.pairs)}"
            console.print(f"{found.name}: {len(pairs)}{part} pairs", highlight=False)
        run = Judge(data=pairs, **values)
        begun(run)
        result = run.run(out / found.name.replace(" ", "-"), address=address)
        results[found.name] = result
        if as_json:
            typer.echo(json.dumps({"event": "audit", **audit_rows({found.name: result.summary})[0]}, allow_nan=False))
        if result.status != "SUCCEEDED":
            break  # a limit of the run, or a wish to stop: it holds for the sets to come as well
    if not as_json:
        console.print(audit_table({name: result.summary for name, result in results.items()}))
    return results


def _cell(interval: Interval, scale: float = 1, digits: int = 3, sign: str = "") -> str:
    if interval["mean"] is None:
        return "–"
    mean = f"{scale * interval['mean']:{sign}.{digits}f}"
    if interval["low"] is None or interval["high"] is None:
        return mean
    return f"{mean} \\[{scale * interval['low']:{sign}.{digits}f}, {scale * interval['high']:{sign}.{digits}f}]"
