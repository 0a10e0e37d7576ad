"""The page of a team's training says what was found and on what evidence, and no more; what models write is text."""

import json
import re
from html import unescape

import pytest
from plait.orchestrator.recipes.team_result import statement
from plait.orchestrator.report.team_evidence import KINDS_OF_VERDICT, edit_view, step_view
from plait.orchestrator.report.team_figures import accuracy_figure, curve_figure
from plait.orchestrator.report.team_page import render
from plait.team_pictures import plot
from plait.teams import AgentSpec, Aggregator, Block, LayerSpec, Limits, Schema, TeamSpec
from plait.tests.scripted_team import world
from plait.tests.team_runs import TIMING, Play, section, text_of

EVIL = "<script>alert('x')</script> & \"$x^{\" </svg></pre></details>"
CONTROLS = ("single", "best-of-n", "random", "static", "oracle", "gepa")


@pytest.fixture(scope="module")
def result():
    """A run with every control that was not confirmed, in which some calls failed."""
    return Play(spec={"controls": CONTROLS, "steps": 3}, failing=0.03).result()


@pytest.fixture(scope="module")
def page(result):
    return render(result, TIMING)


@pytest.fixture(scope="module")
def learned():
    """A run that was confirmed."""
    known = world(seed=7)
    return Play(known, known.start(), {"validation": 300, "controls": (), "test": 0}).result()


# --- the verdict ----------------------------------------------------------------------------------------------


def test_a_run_that_is_not_confirmed_says_so_first_and_names_the_start_team(result, page):
    assert result["summary"]["confirmed"]["passed"] is False
    said = text_of(page)
    assert statement(result["summary"]).startswith("Not confirmed: ")
    assert statement(result["summary"]) in said
    assert '<p class="lead doubt">' in page
    assert "The team to use is the start team ( team.yaml ); the final team is kept beside it" in said
    assert said.index("Not confirmed") < said.index("Every team beside the start team")
    assert result["summary"]["confirmed"]["why"] in said


def test_a_confirmed_run_says_so_and_names_the_final_team(learned):
    page = render(learned, TIMING)
    assert learned["summary"]["confirmed"]["passed"] is True
    assert '<p class="lead">Confirmed: the final team gains +' in page
    assert "Not confirmed" not in page
    assert "The team to use is the final team" in text_of(page)
    assert '<tr class="answer"><td>final team (plait)<span class="range">the team to use' in page
    assert '<th class="n">test</th>' not in page  # no test items, no empty columns


def test_headline_and_table_give_one_interval(result, page):
    gain = result["summary"]["confirmed"]["gain"]
    final = next(row for row in result["summary"]["rows"] if row["name"] == "plait")
    assert final["confirm_minus_start"] == gain
    assert page.count(f"[{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]") == 2


def test_a_run_in_which_no_edit_passed_says_that_start_and_final_are_one_team():
    known = world(seed=7)
    found = Play(known, known.start(), {"steps": 2, "controls": ()}, poison="harsh")
    result = found.result()
    said = text_of(render(result, {}))
    assert result["summary"]["changed"] is False
    assert "Not confirmed: no edit passed the gate, so the start team is the answer." in said
    assert "No edit was kept: both are the same team." in said
    assert "it ended with the start team" in said
    assert "What sets them apart" not in said
    assert "candidate.yaml" not in said


def test_a_stopped_run_says_so_and_compares_nothing_it_did_not_measure():
    stopped = Play(spec={"steps": 1, "controls": ()}, confirms=False)
    said = text_of(render(stopped.result(status="STOPPED", stop_reason="budget: calls"), {}))
    assert "This run was stopped (budget: calls)." in said
    assert "the final team did not meet the confirm split" in said
    assert "nothing can be said of what it learned" in said
    assert "No team met the confirm split, so there is nothing to compare." in said
    assert "Calls and seconds: not recorded." in said
    assert "Accuracy of every team" not in said


def test_a_second_pass_is_stamped(result):
    stamp = "confirm: a second pass; test: a second pass"
    changed = {**result, "summary": {**result["summary"], "stamp": stamp}}
    assert f"Second pass. {stamp}. Other teams trained from this start have met these items before" in text_of(
        render(changed, TIMING)
    )
    assert "Second pass" not in render(result, TIMING)


# --- the tables -----------------------------------------------------------------------------------------------


def test_every_team_has_a_row_with_its_figures(result, page):
    table = section(page, "Every team beside the start team").partition("</table>")[0]
    rows = re.findall(r"<tr class=\"\w*\"><td>(.*?)</tr>", table, flags=re.DOTALL)
    assert len(rows) == len(result["summary"]["rows"]) == 8
    for shown, row in zip(rows, result["summary"]["rows"], strict=True):
        for split in ("confirm", "test"):
            value = row[split]
            assert f"{100 * value['mean']:.1f} %" in shown
            assert f"[{100 * value['low']:.1f}, {100 * value['high']:.1f}]" in shown
        assert f"{row['confirm_missing']} + {row['test_missing']}" in shown
    assert sum(row["confirm_missing"] for row in result["summary"]["rows"]) > 0


def test_the_oracle_is_called_one_wherever_it_stands(page):
    row = re.search(r'<tr class="oracle"><td>(.*?)</td>', page)
    assert row[1] == "oracle selection"
    assert page.count('<tr class="oracle">') == 1
    assert "oracle: for each item the answer key picks the best choice of blocks; no team can do this" in page
    assert "A hollow mark is an oracle" in page


def test_agents_and_optimiser_are_named_in_every_caption(result, page):
    caption = "Agents: small-135m; optimiser (critiques and repairs): openai:large@https://host/v1."
    assert page.count("<table") == page.count(f"<caption><span>{caption}</span></caption>") == 5
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page, flags=re.DOTALL)
    assert all(caption in found for found in re.findall(r"<figcaption>(.*?)</figcaption>", page, flags=re.DOTALL))
    alone = {**result, "spec": {**result["spec"], "optimiser": None}}
    assert "optimiser (critiques and repairs): small-135m." in render(alone, TIMING)
    models = {"": {"name": "small-135m"}, "optimiser": {}, "judge": {}, "other": {}}
    mixed = {**result, "spec": {**result["spec"], "judge": "big"}, "resolved": {**result["resolved"], "models": models}}
    assert "Agents: small-135m (some: other); optimiser (critiques and repairs): openai:large@https://host/v1; judge " \
        "of texts: big." in render(mixed, TIMING)  # fmt: skip


def test_the_learning_curve_is_captioned_as_no_result_and_holds_every_search(result, page):
    assert "This is no result." in section(page, "Learning curve")
    searches = result["summary"]["searches"]
    axes = curve_figure(searches).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["plait", "random", "gepa"]
    for line, one in zip([line for line in axes.lines if line.get_drawstyle() == "steps-post"], searches, strict=True):
        means = [point["validation"]["mean"] for point in one["curve"]]
        assert list(line.get_ydata()) == [*means, means[-1]]
    assert curve_figure([{**one, "curve": []} for one in searches]) is None


def test_the_oracles_mark_is_hollow(result):
    rows = result["summary"]["rows"]
    axes = accuracy_figure(rows, [row["name"] for row in rows]).axes[0]
    marks = [one.lines[0] for one in axes.containers]
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [row["oracle"] for row in rows] * 2
    assert accuracy_figure([], []) is None


def test_choices_refusals_failures_and_splits_are_counted(result, page):
    summary = result["summary"]
    chosen = text_of(section(page, "Which blocks were chosen"))
    assert summary["changed"]
    for layer in dict.fromkeys((*summary["selection"], *summary["selection_final"])):
        teams = [summary[name].get(layer, {}) for name in ("selection", "selection_final")]
        for block in dict.fromkeys(block for team in teams for block in team):
            cells = [cell for team in teams for cell in _cells(team, block)]
            assert f"{layer} {block} {' '.join(cells)} " in f"{chosen} "
    assert "layer block start team final team (plait) items share accuracy items share accuracy" in chosen
    became = text_of(section(page, "What became of the edits"))
    assert any(one["refusals"] for one in summary["searches"])
    for code in {code for one in summary["searches"] for code in one["refusals"]}:
        counts = " ".join(str(one["refusals"].get(code, 0)) for one in summary["searches"])
        assert f"attempts refused: {code} {counts}" in became
    lost = [one["failures"]["forward"] for one in summary["searches"]]
    assert all(lost)
    assert f"passes that gave no score {' '.join(map(str, lost))}" in became
    splits = text_of(section(page, "Which items were for what"))
    for name, size in result["resolved"]["splits"].items():
        assert f"{name} {size} " in splits
    assert summary["notes"]
    assert all(note in splits for note in summary["notes"])


def _cells(team, block):
    """What the page shows of a block that a team chose, or never chose."""
    if block not in team:
        return ["–"] * 3
    chosen, total = team[block]["chosen"], sum(one["chosen"] for one in team.values())
    return [f"{chosen}", f"{100 * chosen / total:.1f} %", f"{100 * team[block]['accuracy']:.1f} %"]


def test_costs_tell_what_training_took_and_whether_it_pays(learned, result):
    assert "in tokens it never pays for itself" in text_of(render(learned, TIMING))
    paid = {"training_tokens": 50_000, "tokens_an_item": 60.0, "uses": 833, "after": {"best-of-n": 417, "start": 900}}
    changed = {**result, "summary": {**result["summary"], "break_even": paid}}
    said = text_of(section(render(changed, TIMING), "What it took, and when it pays"))
    assert "it has paid for itself after 417 uses in place of best-of-n, 900 uses in place of the start team" in said
    assert "As the final team is not confirmed" in said


# --- edits ----------------------------------------------------------------------------------------------------


def test_every_edit_is_there_with_its_evidence(result, page):
    shown = section(page, "Every edit, with its evidence")
    steps = [step for one in result["summary"]["searches"] for step in one["steps"]]
    edits = [edit for step in steps for edit in step["edits"]]
    assert shown.count('<details class="edit">') == len(edits) > 10
    parts = [text_of(part) for part in shown.split('<details class="edit">')[1:]]
    for part, edit in zip(parts, edits, strict=True):
        words = lambda text: " ".join(text.split())  # noqa: E731
        assert part.startswith(KINDS_OF_VERDICT[edit["verdict"]])
        assert all(words(line) in part for line in edit["edits"])
        assert words(edit["why"]) in part
        assert f"Aimed at {edit['finding']['kind']} of layer {edit['finding']['layer']}" in part
        if edit["look"] >= 0:
            counts = f"{edit['wins']} won, {edit['losses']} lost, {edit['ties']} tied of {edit['items']} validation"
            assert counts in part
            assert f"p {edit['p']:.3g} at look {edit['look'] + 1}" in part
        else:
            assert "none: it was not judged" in part
        if edit["verdict"] == "refused":
            assert f"refused: {edit['refusal']}" in part
    assert {edit["verdict"] for edit in edits} >= {"adopted", "rejected", "refused"}


def test_an_edit_that_was_refused_and_then_judged_is_not_called_refused(result):
    edit = result["summary"]["searches"][0]["steps"][0]["edits"][0]
    judged = {**edit, "verdict": "rejected", "refusal": "cycle", "attempts": 2}
    assert edit_view(judged)["verdict"] == "rejected"
    nothing = {**edit, "verdict": "failed", "patch": None, "edits": [], "look": -1, "finding": {
        "layer": "", "agent": None, "kind": "structure", "text": ""}}  # fmt: skip
    shown = edit_view(nothing)
    assert (shown["title"], shown["verdict"], shown["lead"], shown["evidence"]) == ("no edit", "no answer", "", "")
    assert shown["aim"] == "structure of the whole team: nobody looked at what went wrong"


def test_a_step_tells_what_was_seen_before_anything_was_proposed():
    step = {"step": 4, "parent": "a", "incumbent": "b", "batch": ["1", "2"], "score": 0.5, "criticised": ["", "solve"],
            "blame": {"solve": 0.25, "check": None}, "edits": [], "note": "every item was right"}  # fmt: skip
    shown = step_view(step)
    assert (shown["number"], shown["note"]) == (5, "every item was right")
    assert shown["seen"] == (
        "read 2 training items; the team to change scored 50 % on them; criticised: the whole team, solve; "
        "failures that another output of the layer turned: solve 25 %; the team to change came from the archive"
    )


# --- pictures and text ----------------------------------------------------------------------------------------


def test_the_team_is_drawn_before_and_after_and_what_changed_is_told(result, page):
    for title in ("The team before: the start team", "The team after: the final team"):
        assert f'aria-label="{title}"' in page
    told = unescape(re.sub(r"<[^>]*>", "", section(page, "The team before and after")))
    assert result["summary"]["diff"]
    assert result["summary"]["diff"] in told


def test_agents_of_a_layer_are_drawn_in_the_order_of_the_team():
    names = [f"agent-{9 - at}" for at in range(8)]
    layers = []
    for layer in ("draft", "check", "solve"):  # small parts of a graph are where its library loses the order
        agents = tuple(AgentSpec(name=f"{layer}-{name}", output=Schema(kind="number")) for name in names)
        block = Block(name="many", agents=agents, aggregate=Aggregator(kind="majority"))
        layers.append(LayerSpec(name=layer, task="Answer.", blocks=(block,)))
    limits = Limits(max_agents=24)
    axes = plot(TeamSpec(layers=tuple(layers), answer=Schema(kind="number"), limits=limits)).axes[0]
    drawn = [name for _, name in sorted((text.get_position()[0], text.get_text()) for text in axes.texts)]
    for layer in ("draft", "check", "solve"):
        assert [name for name in drawn if name.startswith(f"{layer}-")] == [f"{layer}-{name}" for name in names]


def hostile(result):
    """The result with text in every place where a model, a user or a file may have put it."""
    answer = Schema(kind="option", options=(EVIL, "b"))
    agent = AgentSpec(name="solver", role=EVIL, instructions=EVIL.replace("{", "{{"), output=answer)
    team = TeamSpec(layers=(LayerSpec(name="solve", task=EVIL, blocks=(Block(name="one", agents=(agent,)),)),),
                    answer=answer)  # fmt: skip
    made = json.loads(json.dumps(result))
    made["spec"] |= {"data": EVIL, "model": EVIL, "optimiser": EVIL, "test_data": EVIL}
    made |= {"stop_reason": EVIL, "status": "STOPPED"}
    made["resolved"]["models"] = {"": {"name": EVIL}, EVIL: {EVIL: EVIL}}
    summary = made["summary"]
    summary |= {"stamp": EVIL, "notes": [EVIL], "diff": f"+ {EVIL}\n", "selection": {EVIL: {EVIL: {
        "chosen": 1, "accuracy": 1.0}}}, "selection_final": {EVIL: {"b": {"chosen": 1, "accuracy": 1.0}}},
        "cut_short": [EVIL]}  # fmt: skip
    summary["final"]["team"] = team.model_dump(mode="json")
    summary["confirmed"]["why"] = EVIL
    for one in summary["searches"]:
        one |= {"refusals": {EVIL: 1}, "about": EVIL, "stop": EVIL, "ended_by": EVIL}
        one["asked"]["repair"] = {"asked": 1, "useless": 1, "reasons": {EVIL: 1}}
        for step in one["steps"]:
            step |= {"note": EVIL, "criticised": [EVIL], "blame": {EVIL: 0.5}}
            for edit in step["edits"]:
                edit |= {"edits": [EVIL], "why": EVIL, "refusal": EVIL, "patch": {"rationale": EVIL, EVIL: EVIL}}
                edit["finding"] |= {"layer": EVIL, "agent": EVIL, "text": EVIL}
    return made


def test_what_models_and_files_say_is_escaped_and_nothing_is_fetched(result):
    page = render(hostile(result), TIMING)
    assert page.count("&lt;script&gt;alert(") > 100
    assert "<script" not in page
    for tag in ("svg", "pre", "details", "table", "figure"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>") > 0
    assert [link for link in re.findall(r'(?:src|href)="([^"]*)', page) if not link.startswith(("data:", "#"))] == []
    assert not re.search(r"url\((?!#)|@import|\son\w+=", page)


def test_the_page_is_one_document_for_a_phone_and_the_same_each_time(result, page):
    assert page.startswith("<!doctype html>")
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert page == render(result, TIMING)
