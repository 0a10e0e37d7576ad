"""The scripted world does what it says: measured accuracies are the computed ones, and so are all its rates."""

import asyncio
import json
import math
from collections import Counter

import numpy as np
import pytest
from plait.agents.teams.forward import TeamGraphs
from plait.agents.teams.gradient_given import CritiqueGiven, Finding, RepairGiven, Sample
from plait.agents.teams.gradients import critique_node, rendered, repair_node, steps_of
from plait.agents.teams.losses import score_node
from plait.agents.teams.trace import trace_of
from plait.graphs import Graph, NodeState
from plait.models.chat import CallFailed
from plait.models.endpoint import EndpointChat
from plait.search.textual_trials import Critique
from plait.team_edits import Refusal, apply
from plait.teams import TeamSpec
from plait.tests.fault_server import FaultServer
from plait.tests.scripted_team import POISON, threshold, world
from plait.tests.scripted_team_chat import FLAKY, Faults, TeamChat, served
from plait.tests.scripted_team_critic import Aim, Habits, poisoned, read_patch, repair
from plait.tests.scripted_team_play import Player, play
from plait.tests.scripted_team_reading import team_of
from scipy.stats import binom

KNOWN = world(seed=7)
TWO = world(seed=7, families=True)
ITEMS = 2000


def measured(known, team, count=ITEMS):
    return sum(play(known, team, known.quest(at)).right for at in range(count)) / count


def within(known, team, count=ITEMS):
    """Whether the measured accuracy on the first items is within 3 standard errors of what is expected of them."""
    expected = known.expected(team, known.items(count))
    return abs(measured(known, team, count) - expected) <= 3 * math.sqrt(expected * (1 - expected) / count)


TEAMS = {
    "start": (KNOWN, KNOWN.start()),
    "two useful": (KNOWN, KNOWN.start(KNOWN.useful[:2])),
    "all useful": (KNOWN, KNOWN.start(KNOWN.useful)),
    "poison": (KNOWN, KNOWN.start(KNOWN.poisons("harsh")[:2])),
    "draws": (KNOWN, KNOWN.draws(KNOWN.useful[:1])),
    "trio": (KNOWN, KNOWN.trio(KNOWN.useful[:1])),
    "checked": (KNOWN, KNOWN.checked(KNOWN.useful[:1])),
    "two layers": (KNOWN, KNOWN.two_layers(KNOWN.useful[:3])),
    "llm": (TWO, TWO.two_blocks("llm")),
    "static": (TWO, TWO.two_blocks("static")),
    "random": (TWO, TWO.two_blocks("random")),
    "rule": (TWO, TWO.two_blocks("rule")),
}


@pytest.mark.parametrize("name", TEAMS)
def test_a_team_scores_what_is_expected_of_it(name):
    assert within(*TEAMS[name])


def test_phrases_are_worth_what_the_world_says():
    for count in range(6):
        assert KNOWN.expected(KNOWN.start(KNOWN.useful[:count])) == pytest.approx(0.40 + 0.10 * count, abs=1e-3)
    assert sum(points < 0 for points in KNOWN.worth[:200]) == 97
    assert sum(points > 0 for points in KNOWN.worth) == 5


def test_structure_and_selection_are_worth_what_is_computed():
    start, useful = KNOWN.expected(KNOWN.start()), KNOWN.useful
    assert KNOWN.expected(KNOWN.checked()) == pytest.approx(start + 0.08, abs=1e-3)
    assert KNOWN.expected(KNOWN.two_layers()) == pytest.approx(start + 0.08, abs=1e-3)
    assert KNOWN.best() == pytest.approx(0.98, abs=1e-3)
    assert KNOWN.best() == KNOWN.expected(KNOWN.checked(useful))
    assert world(7, structure=False).best() == pytest.approx(0.90, abs=1e-3)
    scores = {selector: TWO.expected(TWO.two_blocks(selector)) for selector in ("llm", "rule", "static", "random")}
    assert scores["llm"] == scores["rule"] == pytest.approx(0.55, abs=1e-3)
    assert scores["static"] == pytest.approx(scores["random"], abs=1e-3) == pytest.approx(0.40, abs=1e-3)


def test_a_majority_is_the_exact_binomial_of_each_question():
    p, luck = 0.8, (np.arange(4000) + 0.5) / 4000
    right = np.clip(threshold(p) - luck, 0, 1)
    by_hand = binom.sf(1, 3, right).mean()
    assert KNOWN.expected(KNOWN.draws(KNOWN.useful[:4])) == pytest.approx(by_hand, abs=1e-12)
    assert KNOWN.expected(KNOWN.trio(KNOWN.useful[:4])) == pytest.approx(by_hand, abs=1e-12)
    assert by_hand > p + 0.02


def test_a_phrase_draws_the_calls_anew_and_leaves_the_questions_luck():
    one, other = KNOWN.start(), KNOWN.start(KNOWN.poisons("neutral")[:1])
    answers = [[play(KNOWN, team, KNOWN.quest(at)).right for at in range(ITEMS)] for team in (one, other)]
    both = sum(a and b for a, b in zip(*answers, strict=True)) / ITEMS
    assert 0.40 * 0.40 + 0.05 < both < 0.40 - 0.05  # neither independent nor the same


def test_a_mark_is_read_by_its_own_world_alone():
    text = KNOWN.question(KNOWN.quest(12))
    assert KNOWN.read(f"<question>\n{text}\n</question>") == KNOWN.quest(12)
    assert world(seed=8).read(text) is None
    assert str(KNOWN.quest(12).gold) not in text
    assert len({item.id for item in KNOWN.items(500)}) == 500


def test_a_repair_names_the_right_phrase_as_often_as_q_says():
    known = world(seed=7, q=0.3, structural=0.0)
    lacks = known.useful[2]
    aim = Aim("solve", "solver", "prompt", f"3 wrong answers: the prompt lacks {known.tag_of[lacks]}.")
    patches = [json.loads(repair(known, known.start(), aim, str(at))) for at in range(1500)]
    named = sum(known.phrases[lacks] in patch["edits"][0]["text"] for patch in patches) / 1500
    share = 0.3 + 0.7 / 200
    assert abs(named - share) <= 3 * math.sqrt(share * (1 - share) / 1500)
    teams = [apply(known.start(), patch) for patch in patches]
    assert all(isinstance(team, TeamSpec) for team in teams)


def test_a_repair_goes_wrong_as_often_as_its_habits_say():
    habits, codes = Habits(prose=0.1, bad_json=0.1, cycle=0.1, unknown=0.1), Counter()
    for at in range(1500):
        text = repair(KNOWN, KNOWN.start(), Aim("solve", None, "prompt", "it lacks care"), f"answer {at}", habits)
        patch = read_patch(text)["patch"]
        found = apply(KNOWN.start(), patch) if patch else None
        codes["no-patch" if patch is None else found.code if isinstance(found, Refusal) else "fine"] += 1
    for code, share in {"no-patch": 0.2, "cycle": 0.1, "unknown-agent": 0.1, "fine": 0.6}.items():
        assert abs(codes[code] / 1500 - share) <= 3 * math.sqrt(share * (1 - share) / 1500), code


@pytest.mark.parametrize(("harm", "points"), POISON.items())
def test_poison_does_its_harm_and_no_other(harm, points):
    patches = [poisoned(KNOWN, KNOWN.start(), Aim(), "key", harm, at) for at in range(200)]
    teams = {apply(KNOWN.start(), json.loads(patch)).hash: json.loads(patch) for patch in patches}
    assert len(teams) == 200
    for patch in list(teams.values())[:5]:
        assert KNOWN.expected(apply(KNOWN.start(), patch)) == pytest.approx(0.40 + points, abs=1e-3)


# the same world behind prompts


async def walk(team, item, model, seed=0):
    graph = Graph(item.id, TeamGraphs(team, {"": "chat"}, seed=seed, loss=score_node).nodes(item))
    while not graph.done:
        for node in graph.take_ready():
            output = await node.task.run(graph.given(node), model if node.model else None, node.seed)
            graph.finish(node, NodeState(output=output))
    return graph


@pytest.mark.parametrize("name", [name for name in TEAMS if name not in ("draws", "random")])
def test_prompts_come_to_the_answers_that_are_played(name):
    known, team = TEAMS[name]
    model = TeamChat(known)
    for at, item in enumerate(known.items(25)):
        graph, played = asyncio.run(walk(team, item, model)), play(known, team, known.quest(at))
        assert graph.output("score").score == played.right, item.question
        values = [int(row.value) for row in trace_of(graph, team) if row.agent != "select"]
        assert values == [one.answer for one in played.said]


def test_draws_through_prompts_differ_and_are_as_often_right_as_expected():
    team, items = KNOWN.draws(KNOWN.useful[:3]), KNOWN.items(200)
    graphs = [asyncio.run(walk(team, item, TeamChat(KNOWN))) for item in items]
    right = sum(graph.output("score").score for graph in graphs) / len(items)
    expected = KNOWN.expected(team, items)
    assert abs(right - expected) <= 3 * math.sqrt(expected * (1 - expected) / len(items))
    assert any(len(graph.output("solve/out").votes) > 1 for graph in graphs)


def shown(team, count=8):
    samples = []
    for item in KNOWN.items(count):
        graph = asyncio.run(walk(team, item, TeamChat(KNOWN)))
        score = graph.output("score")
        samples.append(
            Sample(
                item=item.id,
                question=item.question,
                score=score.score,
                feedback=score.feedback,
                trace=steps_of(graph, team),
            )
        )
    return tuple(samples)


@pytest.mark.parametrize("name", ["start", "trio", "checked", "two layers"])
def test_a_critic_finds_in_prompts_what_it_finds_in_trials(name):
    _, team = TEAMS[name]
    player, items = Player(KNOWN, KNOWN.items(8)), KNOWN.items(8)
    for scope in ("", team.layers[-1].name):
        trial = player.evaluate(Critique(team, scope, tuple((item.id, 0) for item in items)))
        given = CritiqueGiven(team=team, scope=scope, shown=shown(team))
        node = critique_node("critique", "chat", given)
        found = asyncio.run(node.task.run(node.feed({}), TeamChat(KNOWN), 0))
        assert found.error == ""
        read = {(one.layer, one.agent, one.kind, one.text) for one in found.findings}
        assert read == {tuple(one.values()) for one in trial.values["findings"]}
        assert read


@pytest.mark.parametrize("name", ["start", "trio", "checked", "two layers", "llm"])
def test_the_team_is_read_out_of_a_repairs_prompt(name):
    _, team = TEAMS[name]
    prompt = rendered(RepairGiven(team=team, finding=Finding(kind="structure")))
    read = team_of(prompt)
    assert read.agents() == team.agents()
    for mine, its in zip(read.layers, team.layers, strict=True):
        same = {"task": mine.task, "selector": mine.selector, "blocks": mine.blocks}
        assert its.model_copy(update=same) == its


def test_a_repair_through_prompts_is_right_as_often_as_q_says_and_its_patches_apply():
    known = world(seed=7, q=0.5, structural=0.1)
    lacks, team, named, shapes = known.useful[1], known.start(), 0, 0
    finding = Finding(layer="solve", agent="solver", text=f"The prompt lacks {known.tag_of[lacks]}.")
    node = repair_node("repair", "chat", RepairGiven(team=team, finding=finding))
    for at in range(300):
        proposal = asyncio.run(node.task.run(node.feed({}), TeamChat(known), at))
        assert isinstance(apply(team, proposal.patch), TeamSpec), proposal
        named += known.phrases[lacks] in proposal.text
        shapes += "add_agent" in proposal.text
    assert abs(named / 300 - 0.45) <= 3 * math.sqrt(0.45 * 0.55 / 300)
    assert abs(shapes / 300 - 0.10) <= 3 * math.sqrt(0.10 * 0.90 / 300)


def test_faults_come_at_their_rates_and_come_again_in_the_same_places():
    faults = [FLAKY.of(str(at), 0) for at in range(20000)]
    assert faults == [FLAKY.of(str(at), 0) for at in range(20000)]
    for fault, share in (("error", 0.05), ("limited", 0.03), ("hang", 0.01), ("empty", 0.02)):
        assert abs(faults.count(fault) / 20000 - share) <= 3 * math.sqrt(share * (1 - share) / 20000), fault
    again = [FLAKY.of(str(at), 1) for at, fault in enumerate(faults) if fault]
    assert sum(fault is None for fault in again) > 0.8 * len(again)  # most pass when they are made again
    stuck = Faults(stuck=0.1)
    assert all(stuck.of(str(at), 0) == stuck.of(str(at), 9) for at in range(1000))


def test_over_http_it_answers_as_in_process_and_fails_as_it_is_told():
    team, items, inside = KNOWN.checked(), KNOWN.items(6), TeamChat(KNOWN)

    async def ask(model):
        try:
            return [(await walk(team, item, model)).output("solve/out").text for item in items]
        finally:
            await model.close()

    with FaultServer(served(KNOWN)) as server:
        assert asyncio.run(ask(EndpointChat("scripted", server.url))) == asyncio.run(ask(inside))
        assert server.calls == 12
    for faults, reason in ((Faults(error=1), "ServerError"), (Faults(limited=1), "RateLimited")):
        with FaultServer(served(KNOWN, faults)) as server, pytest.raises(CallFailed) as failed:
            asyncio.run(ask(EndpointChat("scripted", server.url)))
        assert failed.value.reason == reason
        assert (failed.value.retry_after == faults.wait) == (reason == "RateLimited")
