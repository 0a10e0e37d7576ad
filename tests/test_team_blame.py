"""Blame by another team's success in a whole training run: it is known, bought by the suffix alone, and never twice.

Source: specs/ann, section 9.4. What a donor's output is in a graph is checked in test_team_forward.py, what a search
makes of it in test_textual.py.
"""

from plait.tests.scripted_team import world
from plait.tests.team_training import serving, trainer

KNOWN = world(5, q=0.9, structure=False)
SMALL = {"train": 6, "validation": 60, "confirm": 20, "steps": 5}


def test_blame_without_sampling_pays_no_call_twice_and_a_second_run_none(tmp_path):
    with serving(KNOWN) as server:
        options = {**SMALL, "run": {"ledger": str(tmp_path / "ledger.db")}}
        made = trainer(KNOWN, server.url, KNOWN.two_layers(), **options)
        first = made.run(tmp_path / "first")
        (search,) = first.summary["searches"]
        blame = [step["blame"] for step in search["steps"] if step["blame"]]
        # agents at temperature 0 are never drawn again: what is known comes of teams that were right before
        assert blame[0]["draft"] is None
        assert any(one["draft"] is not None for one in blame), blame
        assert all(one["check"] is None for one in blame)
        assert server.script.calls == len(server.script.asked), "a donor's calls are found, not paid again"
        assert server.script.calls <= made.plan()["calls_at_most"]

        paid = server.script.calls
        again = trainer(KNOWN, server.url, KNOWN.two_layers(), **options).run(tmp_path / "again")
        assert server.script.calls == paid
        assert again.summary["searches"] == first.summary["searches"]
