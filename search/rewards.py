"""What a compressed network is worth: accuracy and size in one number. Pure functions of raw values."""

SETTLED = 15
"""Policy iterations after which a violated constraint pays nothing but -1."""

INVALID = -1.0
"""Reward of a network that cannot be built, or compresses nothing."""


def n2n_reward(accuracy: float, teacher_accuracy: float, size: float, parent_size: float) -> float:
    """Return C (2 - C) A / A_teacher with the compression C = 1 - size / parent_size.

    Args:
        accuracy: Of the student, on validation data.
        teacher_accuracy: Of the teacher, on the same data; above 0.
        size: Parameters of the student (or whatever the search is to save).
        parent_size: The same of the network that it was cut from; above 0.

    Source: N2N Learning, arXiv 1709.06030, section 3.4.

    >>> n2n_reward(0.9, 0.9, 50, 100)
    0.75
    """
    compression = 1.0 - size / parent_size
    return compression * (2.0 - compression) * accuracy / teacher_accuracy


def epsilon(iteration: int) -> float:
    """Return how much of a violating network's reward counts in policy iteration `iteration`: 1 at 0, 0 from 15 on.

    The released code clips (1 - e/15)^4 to 0..1, which rises again after iteration 15 and is 1 at 30; here it stays
    at 0.
    """
    return max(0.0, 1.0 - iteration / SETTLED) ** 4


def constrained(reward: float, violated: bool, iteration: int) -> float:
    """Return `reward` where a limit is kept, else (eps - 1) + eps * reward: no penalty at first, a flat -1 later.

    Source: the released code of N2N, `--size_constraint`.
    """
    if not violated:
        return reward
    share = epsilon(iteration)
    return (share - 1.0) + share * reward


def seeking(accuracy: float, cost: float, target: float, weight: float = -0.07) -> float:
    """Return accuracy * (cost / target)^weight: a student above the target pays, one below it gains a little.

    Source: MnasNet (Tan et al., CVPR 2019), equation 2, whose soft constraint has weight -0.07: halving the cost is
    worth 5 % of accuracy.
    """
    return accuracy * float((cost / target) ** weight)
