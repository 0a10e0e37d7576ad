"""The archive of a search over teams: who dominates whom, who is drawn, what a merge is."""

from plait.records import generator
from plait.search.textual_archive import SHARED, Archive, Member
from plait.search.textual_records import Pass
from plait.teams import AgentSpec, Block, LayerSpec, Schema, TeamSpec

NUMBER = Schema(kind="number")


def team(**layers: str) -> TeamSpec:
    """Return a team with one agent a layer that is told the given words."""
    made = []
    for name, words in layers.items():
        agent = AgentSpec(name=f"{name}-agent", instructions=words, output=NUMBER)
        made.append(LayerSpec(name=name, task=name, blocks=(Block(name="one", agents=(agent,)),)))
    return TeamSpec(layers=tuple(made), answer=NUMBER)


def member(words: str, scores: str, tokens: float = 100, path: float = 1, first: int = 0) -> Member:
    """Return a member with a score a letter, of items numbered from `first` on."""
    items = {f"v{first + at}": float(score) for at, score in enumerate(scores)}
    return Member(team(solve=words), items, tokens, path)


def test_a_member_is_the_mean_of_its_draws():
    passes = {"a": [Pass(1.0, 100, 1, 0, {}), Pass(0.0, 300, 3, 0, {})], "b": [Pass(1.0, 200, 2, 0, {})]}
    made = Member.of(team(solve="x"), passes)
    assert (made.scores, made.tokens, made.path, made.mean) == ({"a": 0.5, "b": 1.0}, 200, 2, 0.75)


def test_dominance_wants_no_loss_anywhere():
    weak, strong, other = member("w", "0" * 9), member("s", "1" + "0" * 8), member("o", "01" + "0" * 7)
    assert strong.dominates(weak)
    assert not weak.dominates(strong)
    assert not strong.dominates(other)
    assert not other.dominates(strong)
    assert not strong.dominates(strong)
    assert not member("dear", "1" * 9, tokens=101).dominates(weak)
    assert not member("slow", "1" * 9, path=2).dominates(weak)
    assert member("cheap", "0" * 9, tokens=99).dominates(weak)


def test_teams_are_compared_on_shared_items_only():
    many, few = member("m", "1" * 30), member("f", "0" * SHARED, first=30 - SHARED)
    assert many.dominates(few)
    apart = member("a", "0" * SHARED, first=31 - SHARED)  # one shared item too few
    assert not many.dominates(apart)


def test_the_archive_keeps_what_nobody_dominates():
    archive = Archive()
    for one in (member("w", "0" * 9), member("s", "1" + "0" * 8), member("o", "01" + "0" * 7), member("x", "0" * 9)):
        archive.offer(one)
    assert [one.team for one in archive.members] == [team(solve="s"), team(solve="o")]
    archive.offer(member("s", "0" * 9, tokens=500))  # its own later scores, and now it is dominated
    assert [one.team for one in archive.members] == [team(solve="o")]


def test_the_front_draws_by_items_won():
    archive = Archive()
    archive.offer(member("often", "1" * 8 + "0"))
    archive.offer(member("once", "0" * 8 + "1"))
    drawn = [archive.front(generator(at, "front"), team(solve="none")) for at in range(300)]
    share = drawn.count(team(solve="often")) / 300
    assert 0.8 < share < 0.97  # 8 of 9
    assert Archive().front(generator(0, "front"), team(solve="none")) == team(solve="none")


def test_a_covered_member_is_not_drawn():
    """`second` and `third` are best on the same item, `second` on others too: `third` is covered."""
    archive = Archive([member("first", "110000"), member("second", "001110"), member("third", "001000")])
    drawn = [archive.front(generator(at, "front"), team(solve="none")) for at in range(600)]
    # all are best on the last item, which nobody answers: first on 3 of 6, second on 4
    assert team(solve="third") not in drawn
    assert 0.5 < drawn.count(team(solve="second")) / 600 < 0.64  # 4 of 7


def test_of_two_members_alike_one_is_drawn():
    archive = Archive([member("a", "1100"), member("b", "1100"), member("c", "0010", tokens=1)])
    drawn = {archive.front(generator(at, "front"), team(solve="none")) for at in range(100)}
    assert drawn == {team(solve="b"), team(solve="c")}  # the first of equals goes


def test_another_member_is_picked_where_there_is_one():
    archive = Archive()
    archive.offer(member("a", "1" + "0" * 8))
    assert archive.pick(generator(0, "pick"), team(solve="a")) == team(solve="a")
    archive.offer(member("b", "01" + "0" * 7))
    assert archive.pick(generator(0, "pick"), team(solve="a")) == team(solve="b")


def test_a_merge_takes_layers_of_both():
    first, second = team(plan="a", solve="b", say="c"), team(plan="A", solve="B", say="c")
    archive = Archive([Member(first, {"v": 1.0}, 1, 1), Member(second, {"v": 1.0}, 1, 1)])
    mixed = {team(plan="A", solve="b", say="c").hash, team(plan="a", solve="B", say="c").hash}
    made = {archive.merge(generator(at, "merge")).hash for at in range(20)}
    assert made == mixed


def test_teams_that_differ_in_one_layer_are_not_merged():
    first, second = team(plan="a", solve="b"), team(plan="a", solve="B")
    archive = Archive([Member(first, {"v": 1.0}, 1, 1), Member(second, {"v": 1.0}, 1, 1)])
    assert archive.merge(generator(0, "merge")) is None
    assert Archive().merge(generator(0, "merge")) is None
