"""The policies as networks: seeded, trained in every weight, saved and loaded, credited rollout by rollout."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plait.errors import SpecError
from plait.records import generator
from plait.search.policy_learning import Learner, advantages
from plait.search.policy_nets import RemovalPolicy, ShrinkagePolicy, Steps, UnitPolicy, load_weights

FACTORS = (0.25, 0.5, 1.0)
REWARDS = st.lists(st.floats(-1, 1), min_size=2, max_size=16)


def rows(count: int, width: int) -> list[list[float]]:
    rng = random.Random(5)
    return [[rng.uniform(0, 2) for _ in range(width)] for _ in range(count)]


EARLIER = [[], [(0, 1)], [], [(2, 1)], [(2, 1), (3, 2)]]
LEGAL = [[True] * 4, [False, True, True, True], [True, False, False, True], [False, False, False, True], [True] * 4]
MAKERS = {
    "removal": (RemovalPolicy, Steps(rows(5, 7))),
    "shrinkage": (lambda seed: ShrinkagePolicy(seed, FACTORS), Steps(rows(5, 7), earlier=EARLIER)),
    "units": (lambda seed: UnitPolicy(seed, 6, 4, prior=[-1.0, 0.0, 0.0, 0.0]), Steps(rows(5, 6), LEGAL)),
}


def draws(count: int, seed: int = 0) -> list[random.Random]:
    return [generator(seed, "test", at) for at in range(count)]


@pytest.mark.parametrize("name", MAKERS)
class TestEveryPolicy:
    def test_same_seed_same_weights_and_samples_and_no_global_generator(self, name):
        make, steps = MAKERS[name]
        torch.manual_seed(1)
        before = torch.get_rng_state()
        one, two, other = make(3), make(3), make(4)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert one.sample(steps, draws(6)) == two.sample(steps, draws(6))
        assert torch.equal(before, torch.get_rng_state())

    def test_every_parameter_is_trained(self, name):
        """The released code's shrinkage cells sit in a plain list: 341 of 12,221 weights were trained."""
        make, steps = MAKERS[name]
        policy = make(0)
        before = {key: value.detach().clone() for key, value in policy.named_parameters()}
        assert set(before) == set(policy.state_dict())
        Learner(policy, 0.01).update(steps, policy.sample(steps, draws(8)), [1.0, -0.5, 0.2, 0.4, -1, 0.7, 0.1, -0.3])
        for key, value in policy.named_parameters():
            assert value.grad is not None, key
            assert bool(value.grad.abs().sum() > 0), key
            assert not torch.equal(value, before[key]), key

    def test_credit_goes_to_the_rollout_that_earned_it(self, name):
        make, steps = MAKERS[name]
        policy = make(0)
        found = {tuple(rollout) for rollout in policy.sample(steps, draws(40))}
        good, bad = sorted(found)[0], sorted(found)[-1]
        assert good != bad

        def chance(actions) -> float:
            table = policy.log_probs(steps, [actions])[0]
            return float(table.gather(1, torch.tensor(actions)[:, None]).detach().sum())

        before = chance(good), chance(bad)
        learner = Learner(policy, 0.003)
        for _ in range(5):
            learner.update(steps, [list(good), list(bad)], [1.0, -1.0])
        assert chance(good) > before[0]
        assert chance(bad) < before[1]

    def test_samples_come_as_often_as_their_probabilities_say(self, name):
        make, steps = MAKERS[name]
        policy = make(2)
        first = Counter(rollout[0] for rollout in policy.sample(steps, draws(4000)))
        expected = policy.log_probs(steps, [[0] * 5])[0, 0].exp().tolist()
        assert [first[at] / 4000 for at in range(len(expected))] == pytest.approx(expected, abs=0.03)

    def test_saved_and_loaded_it_is_the_same(self, name):
        make, steps = MAKERS[name]
        saved = make(1).to_bytes()
        policy = make(2)
        assert policy.sample(steps, draws(9)) != make(1).sample(steps, draws(9))
        load_weights(policy, saved)
        assert policy.sample(steps, draws(9)) == make(1).sample(steps, draws(9))
        assert policy.to_bytes() == saved

    def test_a_bad_file_is_one_line(self, name):
        make, _ = MAKERS[name]
        saved = make(1).to_bytes()
        other = RemovalPolicy(0, hidden=7).to_bytes()
        for bad in (b"", b"nonsense", saved[:-4], other):
            with pytest.raises(SpecError, match="saved policy"):
                load_weights(make(0), bad)
        poisoned = make(1)
        next(iter(poisoned.parameters())).data.fill_(float("nan"))
        with pytest.raises(SpecError, match="not finite"):
            load_weights(make(0), poisoned.to_bytes())


def test_illegal_choices_are_never_sampled_and_cost_no_gradient():
    policy, steps = UnitPolicy(0, 6, 4), Steps(rows(5, 6), LEGAL)
    for rollout in policy.sample(steps, draws(300)):
        assert all(LEGAL[at][choice] for at, choice in enumerate(rollout))
        assert rollout[3] == 3
    Learner(policy, 0.01).update(steps, policy.sample(steps, draws(4)), [1.0, -1.0, 0.5, -0.5], entropy=0.1)
    assert all(bool(torch.isfinite(weights).all()) for weights in policy.parameters())


def test_the_prior_is_what_an_untrained_policy_samples():
    policy = UnitPolicy(0, 6, 4, prior=[-3.0, 0.0, 0.0, 0.0])
    table = policy.log_probs(Steps(rows(5, 6)), [[0] * 5])[0].exp()
    assert bool((table[:, 0] < 0.05).all())


def test_shrinkage_sees_its_earlier_actions_and_no_later_ones():
    policy, steps = ShrinkagePolicy(0, FACTORS), Steps(rows(5, 7), earlier=EARLIER)
    base = policy.log_probs(steps, [[2, 2, 2, 2, 2]])[0]
    for at in range(5):
        changed = [2] * 5
        changed[at] = 0
        other = policy.log_probs(steps, [changed])[0]
        assert torch.equal(base[: at + 1], other[: at + 1])
        if at < 4:
            assert not torch.equal(base[at + 1], other[at + 1])


def test_sampling_and_scoring_shrinkage_agree():
    """A rollout sampled step by step is scored by the same chances: both ways see the same inputs."""
    policy, steps = ShrinkagePolicy(3, FACTORS), Steps(rows(5, 7), earlier=EARLIER)
    rollouts = policy.sample(steps, draws(3000))
    prefix = Counter(tuple(rollout[:3]) for rollout in rollouts)
    (most, count), *_ = prefix.most_common(1)
    table = policy.log_probs(steps, [[*most, 0, 0]])[0]
    chance = float(sum(table[at, action] for at, action in enumerate(most)).detach().exp())
    assert count / 3000 == pytest.approx(chance, abs=0.03)


@given(REWARDS)
def test_advantages_of_a_batch_sum_to_zero(rewards):
    for baseline in ("rloo", "group"):
        assert sum(advantages(rewards, baseline)) == pytest.approx(0, abs=1e-6)


def test_advantages_differ_between_rollouts_as_their_rewards_do():
    for baseline in ("past", "rloo", "group"):
        credit = advantages([0.1, 0.9, 0.5], baseline, [0.4])
        assert credit[1] > credit[2] > credit[0]


def test_leave_one_out_is_the_mean_of_the_others():
    assert advantages([1.0, 2.0, 6.0], "rloo") == pytest.approx([-3.0, -1.5, 4.5])


def test_the_published_baseline_is_the_mean_of_earlier_rewards():
    assert advantages([0.5, 1.0], "past") == [0.5, 1.0]
    assert advantages([0.5, 1.0], "past", [0.2, 0.4]) == pytest.approx([0.2, 0.7])


def test_equal_rewards_teach_nothing():
    assert advantages([0.3] * 8, "group") == [0.0] * 8
    assert advantages([0.3], "rloo") == [0.0]


def test_clipped_reuse_does_not_run_away():
    """Adam's momentum carries a decision some way past the clip; without the clip it goes on to certainty."""
    steps = Steps(rows(1, 6))

    def reached(clip: float) -> float:
        policy = UnitPolicy(0, 6, 4)
        Learner(policy, 0.01, passes=100, clip=clip).update(steps, [[0], [1]], [1.0, -1.0])
        return float(policy.log_probs(steps, [[0]])[0, 0, 0].detach().exp())

    assert reached(0.2) < 0.75
    assert reached(1e9) > 0.95
