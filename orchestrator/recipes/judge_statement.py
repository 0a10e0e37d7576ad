"""What the figures of a judge run mean, in sentences made of the numbers alone. Must not know rows."""

from collections.abc import Mapping
from typing import Any

from ...agents.judges.panel import FEWEST_VOTES
from ...intervals import FEWEST, Interval, excludes_zero, too_few
from ...records import JSON


def statement(summary: dict[str, JSON]) -> str:
    """Return in plain sentences whether the network agrees with people, beats its controls, and can be trusted."""
    if not summary["items"]:
        return "No item was judged."
    parts = [_coverage(summary)]
    if summary["judges"]:
        parts += [*_agreement(summary), *_controls(summary), _worth(summary), _orders(summary), _confidence(summary)]
        parts.append(_trust(summary))
    else:
        parts += [_unlabelled(summary), _orders(summary)]
    return " ".join(part for part in parts if part)


def _coverage(summary: dict[str, JSON]) -> str:
    total, silent = summary["items"], summary["verdicts"]["abstain"]
    if not silent:
        return f"The network gave a verdict on all {total} items." if total > 1 else "The network judged the one item."
    reasons = summary["abstentions"]["network"]
    told = ", ".join(f"{name} {count}" for name, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])))
    return f"The network gave a verdict on {total - silent} of {total} items and abstained on {silent} ({told})."


def _agreement(summary: dict[str, JSON]) -> list[str]:
    ours = judge(summary, "network")
    if not ours["judged"]:
        return ["It gave no verdict on any labelled item, so nothing is known of how often it is right."]
    share, kappa = ours["accuracy"], ours["kappa"]
    told = [
        f"It agrees with the human label on {_percent(share['mean'])} of {ours['judged']} labelled items"
        f"{_between(share)}; chance-corrected, kappa is {kappa['mean']:.2f}{_between(kappa, percent=False)}."
    ]
    standing = chance_standing(summary)
    if standing == "near chance":
        # A wide interval around a fair kappa is a lack of items, not a proof that the judge is blind.
        word = "near chance" if kappa["high"] < 0.2 else "near chance, or cannot be told from it on so few items"
        told.append(
            f"That is {word}: the interval of kappa holds 0, and even draws would agree on "
            f"{_percent(summary['chance']['accuracy'])}."
        )
    elif standing == "below chance":
        told.append("That is below chance: it tends to prefer the answer that people reject.")
    return told


def chance_standing(summary: Mapping[str, JSON]) -> str:
    """Return `above chance`, `near chance` or `below chance`, by the interval of kappa; `unknown` without one."""
    kappa = judge(summary, "network")["kappa"]
    if kappa["low"] is None or too_few(kappa):
        return "unknown"
    if not excludes_zero(kappa):
        return "near chance"
    return "above chance" if kappa["low"] > 0 else "below chance"


def beats(summary: Mapping[str, JSON], key: str) -> bool:
    """Return whether the network is surely more accurate than another judge."""
    gap = judge(summary, key)["network_minus"]["accuracy"]
    return excludes_zero(gap) and gap["low"] > 0


def judge(summary: Mapping[str, JSON], key: str) -> dict[str, Any]:
    """Return a line of the table of judges."""
    return next(one for one in summary["judges"] if one["key"] == key)


def _controls(summary: dict[str, JSON]) -> list[str]:
    if not judge(summary, "network")["judged"]:
        return []
    return [
        _against(summary, "longer", "picking the longer answer"),
        _against(summary, "majority", "always giving the commonest label"),
    ]


def _against(summary: dict[str, JSON], key: str, control: str) -> str:
    gap: Interval = judge(summary, key)["network_minus"]["accuracy"]
    if gap["low"] is None or gap["high"] is None or gap["mean"] is None or too_few(gap):
        return f"Too few items to compare it with {control}."
    spread = f"{100 * gap['mean']:+.1f} points, 95 % interval {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}"
    if beats(summary, key):
        return f"It beats {control} ({spread})."
    if excludes_zero(gap) and gap["high"] < 0:
        return f"It is worse than {control} ({spread})."
    return f"It does not beat {control} ({spread})."


def _worth(summary: dict[str, JSON]) -> str:
    panel = summary["panel"]
    if panel is None or panel["least"] is None:
        return ""
    merged = panel["merged"]
    what, worth, other = f"{panel['votes']} votes an item", panel, ""
    if merged["n_eff"] is not None and merged["n_eff"] == panel["least"] and merged["votes"] > 1:
        what, worth = f"{merged['votes']} neurons, the two orders of each merged,", merged
        other = f"; its {panel['votes']} single votes look like {panel['n_eff']:.1f}" if panel["n_eff"] else ""
    span = worth["n_eff_range"]
    told = f" (95 % range {span[0]:.1f} to {span[1]:.1f})" if span else ""
    text = f"Its {what} are worth {worth['n_eff']:.1f} independent votes{told}{other}"
    if panel["least"] < FEWEST_VOTES:
        return f"{text}: the neurons err together, and more of the same kind would add little."
    return f"{text}."


def _orders(summary: dict[str, JSON]) -> str:
    flips = summary["position"]["neurons"]["flip_rate"]
    if flips["mean"] is None:
        return ""
    text = f"Exchanging the two answers changes a single neuron's vote {_percent(flips['mean'])} of the time"
    lean = summary["position"]["neurons"]["lean"]
    if lean["low"] is not None and excludes_zero(lean):
        side = "first" if lean["mean"] > 0 else "second"
        return f"{text}, and it leans to the answer shown {side}."
    return f"{text}."


def _confidence(summary: dict[str, JSON]) -> str:
    found = summary["calibration"]
    if found is None:
        return ""
    gap = found["before"]["overconfidence"]
    if gap["low"] is None or not excludes_zero(gap):
        return ""
    word = "more" if gap["mean"] > 0 else "less"
    return f"Its confidence ({found['of']}) is {100 * abs(gap['mean']):.0f} points {word} than its accuracy."


def _trust(summary: dict[str, JSON]) -> str:
    """Return how far to go by its verdicts; the least favourable finding decides."""
    ours = judge(summary, "network")
    if not ours["judged"]:
        return ""
    standing = chance_standing(summary)
    if standing == "unknown":
        if too_few(ours["kappa"]):
            return f"{_items(ours['judged'])} too few to say anything of the others ({FEWEST} are the least)."
        return "Labels and verdicts are all of one class, so kappa says nothing: add items of the other classes."
    if standing != "above chance":
        return "Do not let these verdicts stand in for people's."
    if not beats(summary, "longer"):
        return "Nothing here shows that it sees more in the answers than their length; do not rely on it alone."
    if not beats(summary, "majority"):
        return "Nothing here shows that it is right more often than one constant label; do not rely on it alone."
    wrong = 1 - ours["accuracy"]["mean"]
    low, high = 1 - ours["accuracy"]["high"], 1 - ours["accuracy"]["low"]
    text = f"Expect {_percent(wrong)} of its verdicts to be wrong ({_percent(low)} to {_percent(high)})"
    needed = judge(summary, "longer")["items_to_show"]
    if needed is None:
        return f"{text}."
    return f"{text}; to show a difference of 3 points to the longer answer would take about {needed:,} labelled items."


def _unlabelled(summary: dict[str, JSON]) -> str:
    agree = summary["neurons_agree"]
    told = ""
    if agree["mean"] is not None:
        told = f"Two of its votes on one item are equal {_percent(agree['mean'])} of the time{_between(agree)}. "
    if summary["labelled"]:
        why = "Every labelled item belongs to the slice that was fitted on, and none is left to report on"
    else:
        why = "No item has a human label"
    return (
        f"{told}{why}: how often the verdicts are right, whether they beat the longer answer, and how many independent "
        "votes the panel is worth cannot be known. Votes that agree may be wrong together."
    )


def _items(count: int) -> str:
    return "One labelled item is" if count == 1 else f"{count} labelled items are"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _between(interval: Interval, percent: bool = True) -> str:
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return ""
    ends = f"{100 * low:.1f} to {100 * high:.1f}" if percent else f"{low:.2f} to {high:.2f}"
    return f" (95 % interval {ends})"
