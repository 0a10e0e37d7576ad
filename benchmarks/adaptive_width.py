"""Votes needed when a panel of judges stops once it is decided, and what its votes are worth, on released verdicts.

Prints two tables; every accuracy gives half a point for an undecided item, every interval is a bootstrap over
items. Needs ../shared/data/judge/llmbar/verdicts.csv (or a table of the same columns as the first argument). Last
line: JSON; `ratio` is calls of all votes over calls of the cheapest lead whose accuracy is not below theirs, a
choice made in hindsight; `held_out_ratio` chooses the lead on one half of the items and counts on the other. Calls
and accuracies of a rule are exact means over all orders of the judges; only the splits are drawn.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from plait.agents.judges.comparison import Stopping, calibrated, panel_worth, slice_trials, stopping, without_loss
from plait.agents.judges.released import ReleasedPanel, read_verdicts, released_panel
from plait.agents.judges.stopping import Fixed, Lead, Lossless, Rule
from plait.agents.judges.verdicts import Label, decode
from plait.records import generator

VERDICTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "judge" / "llmbar" / "verdicts.csv"
SPLITS = 1000
LEADS = (2, 4, 6, 8, 10)


def panels(file: Path) -> dict[str, ReleasedPanel]:
    """Return the panels of the two tables by name."""
    rows = read_verdicts(file)
    made = {"8 judges, preferences": released_panel(rows, lambda name: name.startswith("Processed_"))}
    for model in ("GPT-4", "LLaMA2", "PaLM2", "ChatGPT"):
        made[f"{model}, LLMBar"] = released_panel(
            rows, lambda name: name.startswith("LLMBar_"), lambda judge, model=model: judge.startswith(f"{model}/")
        )
    made["all judges, LLMBar"] = released_panel(rows, lambda name: name.startswith("LLMBar_"))
    return made


def stopping_table(name: str, panel: ReleasedPanel, fixed: int) -> dict[str, Stopping]:
    """Print a line a rule: calls, accuracy, difference to all votes with its paired interval."""
    items = [panel.pairs(index) for index in range(len(panel.items))]
    labels: list[Label] = [verdict for code in panel.labels if isinstance(verdict := decode(code), str)]
    rules: dict[str, Rule | None] = {"all votes": None}
    rules |= {f"lead {lead}": Lead(lead) for lead in LEADS} | {f"fixed {fixed}": Fixed(fixed), "lossless": Lossless()}
    found = {rule: stopping(items, labels, made) for rule, made in rules.items()}
    print(f"{name}: {len(labels)} items, {panel.flat.shape[1]} votes")
    for rule, result in found.items():
        gap = result.minus(found["all votes"])
        interval = f"{gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
        print(f"  {rule:<10} calls {result.calls:6.2f}  accuracy {result.accuracy:.4f}  minus all votes {interval}")
    return found


def worth_table(named: dict[str, ReleasedPanel]) -> None:
    """Print a line a panel, then what a slice of labels buys on the items outside it."""
    for name, panel in named.items():
        row = panel_worth(panel.flat, panel.labels)
        warning = f"  [{row.worth.warning}]" if row.worth.warning else ""
        print(
            f"{name:<22} votes {row.worth.votes:>3}  rho {row.worth.rho:.2f}  n_eff {row.worth.n_eff:.1f}  "
            f"single {row.single:.3f}  majority {row.majority['mean']:.3f}  "
            f"Dawid-Skene {row.dawid_skene['mean']:.3f} (ECE {row.dawid_skene_error:.2f}){warning}"
        )
    for name in ("all judges, LLMBar", "8 judges, preferences"):
        panel = named[name]
        for size in (20, 50, 100):
            trials = slice_trials(panel.flat, panel.labels, panel.owners, size, SPLITS, seed=0)
            error = trials.weighted.std(ddof=1) / SPLITS**0.5
            print(
                f"{name:<22} {size:>3} labels, {SPLITS} splits, other items: majority {trials.majority.mean():.3f}  "
                f"log-odds {trials.weighted.mean():.4f} +- {error:.4f}  best on slice {trials.best.mean():.3f}"
            )
            for discount in (False, True):
                print(f"{'':<22} {calibration_line(panel, size, discount)}")


def calibration_line(panel: ReleasedPanel, size: int, discount: bool) -> str:
    """Return accuracy and calibration error off the slice, before and after the temperature; means of 20 slices."""
    slices = [calibrated(panel.flat, panel.labels, panel.owners, size, s, discount=discount) for s in range(20)]
    accuracy, raw, soft = np.mean([(c.accuracy, c.error_raw, c.error_tempered) for c in slices], axis=0)
    word = "discounted in clusters" if discount else "log-odds weights"
    return f"posterior, {word}: accuracy {accuracy:.3f}  ECE {raw:.3f}, with temperature {soft:.3f}"


def held_out(found: dict[str, Stopping]) -> tuple[float, float]:
    """Return the ratio of calls and the change in accuracy when the lead is chosen on one half of the items.

    Means over random halves, measured on the other half each time.
    """
    everything, leads = found["all votes"], [found[f"lead {lead}"] for lead in LEADS]
    calls, changes = [], []
    for split in range(SPLITS):
        order = list(range(len(everything.credits)))
        generator(0, "lead-choice", split).shuffle(order)
        inside, outside = order[: len(order) // 2], order[len(order) // 2 :]
        chosen = without_loss(everything, leads, inside)
        calls.append(chosen.asked[outside].mean())
        changes.append((chosen.credits - everything.credits)[outside].mean())
    return round(everything.calls / float(np.mean(calls)), 3), round(float(np.mean(changes)), 5)


def ratios(found: dict[str, Stopping]) -> dict[str, float]:
    """Return calls of all votes over those of the cheapest rules that lose no accuracy."""
    everything = found["all votes"]
    assert np.allclose(found["lossless"].credits, everything.credits, atol=1e-9)
    best = without_loss(everything, [found[f"lead {lead}"] for lead in LEADS])
    ratio, change = held_out(found)
    return {
        "ratio": round(everything.calls / best.calls, 3),
        "held_out_ratio": ratio,
        "held_out_accuracy_change": change,
        "lossless_ratio": round(everything.calls / found["lossless"].calls, 3),
    }


def main() -> None:
    """Print both tables and one JSON line."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else VERDICTS
    if not file.is_file():
        print(json.dumps({"name": "adaptive_width", "skipped": f"no released verdicts at {file}"}))
        return
    named = panels(file)
    preferences = stopping_table("8 judges, preferences", named["8 judges, preferences"], 4)
    prompts = stopping_table("GPT-4, LLMBar", named["GPT-4, LLMBar"], 8)
    worth_table(named)
    result = {"name": "adaptive_width", **ratios(preferences), "cores": os.cpu_count(), "one_model": ratios(prompts)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
