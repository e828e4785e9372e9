"""Which designs to try: the cheapest that reaches all goals, and why no cheaper one does.

What grows with every count is the larger of two designs' that are comparable. So a design that
fails speaks for all below it, and it takes the maximal ones among the cheaper designs to fail, an
antichain, to know that all of them do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mcsim.planning.designs import Designs, Floats, Ints
from mcsim.planning.measured import Value
from mcsim.planning.screen import score
from mcsim.planning.sequence import radius, share_of_error
from mcsim.scenario.plan import Goal

ERROR = 0.05  # of an answer: that any of all intervals, at any look, misses its value
FIRST_LOOK = 256  # replicates; then twice as many
ALONE = 10.0  # times what does not matter, to which the value of a design is told that is the best
STEP = 0.02  # of the score, by which the next design is to be better than what failed falls short
REACHES, FAILS, OPEN = "reaches", "does not", "cannot be told"
NOT_MONOTONE = ("coverage",)


class Interval(NamedTuple):
    """A value from `n` replicates, and between what it is at every look with all but ERROR."""

    estimate: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True)
class Look:
    """What is known of a design: a value per goal, and the verdict on all."""

    design: int
    values: dict[Goal, Interval]
    verdict: str

    @property
    def n(self) -> int:
        """Replicates."""
        return max(one.n for one in self.values.values())


@dataclass
class Judge:
    """Looks at designs until it can tell, for one method.

    values : of a design from its first replicates, for every truth; the worst counts
    within : differences that do not matter, of a goal with such a value; alpha : error that all
    looks share
    """

    goals: Sequence[Goal]
    values: Callable[[int, int], dict[Goal, list[Value]]]
    within: Callable[[Goal, float], float]
    most: int
    alpha: float
    report: Callable[[Look], None]
    looks: dict[int, Look] = field(default_factory=dict)

    def look(self, design: int) -> Look:
        """The verdict on a design, told once."""
        if design not in self.looks:
            alpha = share_of_error(self.alpha / len(self.goals), len(self.looks) + 1)
            n = min(FIRST_LOOK, self.most)
            found = self.at(design, n, alpha)
            while found.verdict == OPEN and n < self.most and not self._is_near(found):
                n = min(2 * n, self.most)
                found = self.at(design, n, alpha)
            self.looks[design] = found
            self.report(found)
        return self.looks[design]

    def at(self, design: int, n: int, alpha: float) -> Look:
        """The design from its first `n` replicates."""
        values = {goal: _worst(goal, all_, alpha) for goal, all_ in self.values(design, n).items()}
        verdicts = {_verdict(goal, one) for goal, one in values.items()}
        told = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else REACHES
        return Look(design, values, told)

    def _is_near(self, look: Look) -> bool:
        """Whether what is still open does not matter."""
        return all(
            one.upper - one.lower < 2.0 * self.within(goal, one.estimate)
            for goal, one in look.values.items()
            if _verdict(goal, one) == OPEN
        )

    def falls(self, designs: Designs) -> list[tuple[int, int]]:
        """Pairs of designs the larger of which has a worse value, by their intervals."""
        return [
            (small, large)
            for large, of_large in self.looks.items()
            for small in self.looks.keys() & set(np.flatnonzero(designs.below(large)).tolist())
            if any(
                _verdict(goal._replace(bound=one.lower if goal.is_share else one.upper),
                         of_large.values[goal]) == FAILS
                for goal, one in self.looks[small].values.items()
                if goal.measure not in NOT_MONOTONE
            )
        ]  # fmt: skip

    def margin(self, look: Look) -> float:
        """How far a design is above its bounds, by its score."""
        return min(
            float(score(goal, one.estimate) - score(goal, goal.bound or math.nan))
            for goal, one in look.values.items()
        )


class Frontier:
    """The designs that may still be the answer, and the best so far.

    left : (n_designs,)
    """

    def __init__(self, designs: Designs, judge: Judge) -> None:
        self.designs, self.judge = designs, judge
        self.left = np.full(len(designs.cost), True)
        self.best: int | None = None
        self._is_monotone = not any(goal.measure in NOT_MONOTONE for goal in judge.goals)

    def look(self, design: int) -> Look:
        """Look at a design, and leave out what that tells of others."""
        look = self.judge.look(design)
        self.left[design] = False
        if look.verdict == REACHES:
            self.best = design
            self.left &= self.designs.cost < self.designs.cost[design]
        elif self._is_monotone:
            self.left &= ~self.designs.below(design)
        return look

    def top(self, *, halfway: bool = False) -> Ints:
        """Those left that are below no other, which speak for all that are.

        Parameters
        ----------
        halfway : of those that cost no more than the middle between the cheapest and the dearest
        """
        left = np.flatnonzero(self.left)
        if halfway:
            cost = self.designs.cost[left]
            left = left[cost <= np.sqrt(cost.min() * cost.max())]
        return self.designs.maximal(left) if self._is_monotone else left


class Answer(NamedTuple):
    """A design, None where none reaches the goals; whether every other one was told from it."""

    design: int | None
    is_certified: bool


def cheapest(designs: Designs, margins: Floats, judge: Judge, *, is_known: bool) -> Answer:
    """The cheapest design that reaches all goals.

    Parameters
    ----------
    margins : expected of the designs; is_known : whether they are more than an order
    """
    order, frontier, offset = np.argsort(designs.cost, kind="stable"), Frontier(designs, judge), 0.0
    if not is_known:
        look = frontier.look(int(np.argmax(margins)))
        offset = judge.margin(look) - float(margins[look.design])
    while frontier.best is None and frontier.left.any():
        hopeful = order[frontier.left[order] & (margins[order] + offset >= 0.0)]
        rest = np.flatnonzero(frontier.left)
        design = int(hopeful[0]) if len(hopeful) else int(rest[np.argmax(margins[rest])])
        look = frontier.look(design)
        if look.verdict != REACHES:
            offset = min(offset, judge.margin(look) - float(margins[design]) - STEP)
    reached = frontier.best is not None
    while frontier.left.any():
        tried = frontier.top(halfway=reached and not is_known)
        reached = frontier.look(int(tried[np.argmax(margins[tried])])).verdict == REACHES
    found = frontier.best
    limit = math.inf if found is None else designs.cost[found]
    open_ones = [one for one in judge.looks.values() if one.verdict == OPEN]
    is_told = all(designs.cost[one.design] >= limit for one in open_ones)
    return Answer(found, is_told and not judge.falls(designs))


def best(designs: Designs, margins: Floats, judge: Judge) -> Answer:
    """The design with the best value: designs that another is better than are not looked at again.

    Of those that cannot be told apart, or do not differ by what matters, that with the best value.
    """
    (goal,) = judge.goals
    sign = 1.0 if goal.is_share else -1.0
    alive = Frontier(designs, judge).top()
    alive = alive[np.argsort(-margins[alive], kind="stable")]
    alphas = {
        design: share_of_error(judge.alpha, number)
        for number, design in enumerate(alive.tolist(), start=1)
    }
    n = min(FIRST_LOOK, judge.most)
    while True:
        for design in alive.tolist():
            judge.looks[design] = judge.at(design, n, alphas[design])
            judge.report(judge.looks[design])
        found = [judge.looks[design].values[goal] for design in alive.tolist()]
        worst = np.array([min(sign * one.lower, sign * one.upper) for one in found])
        best_case = np.array([max(sign * one.lower, sign * one.upper) for one in found])
        leader = max(range(len(found)), key=lambda place: rank(goal, found[place]))
        is_known = np.array([not math.isnan(one.estimate) for one in found])
        is_alive = is_known & (best_case >= worst.max())
        if not is_alive.any():  # no replicate of any has a value
            return Answer(None, is_certified=False)
        is_alone = is_alive.sum() == 1
        near = judge.within(goal, found[leader].estimate) * (ALONE if is_alone else 1.0)
        if (best_case - worst < near)[is_alive].all() or n >= judge.most:
            return Answer(int(alive[leader]), bool(is_alone))
        alive, n = alive[is_alive], min(2 * n, judge.most)


def rank(goal: Goal, one: Interval) -> float:
    """A value as a number that is larger for better ones, and least where there is none."""
    sign = 1.0 if goal.is_share else -1.0
    return -math.inf if math.isnan(one.estimate) else sign * one.estimate


def _worst(goal: Goal, values: Sequence[Value], alpha: float) -> Interval:
    """Of the worst of several truths, which share the error."""
    intervals = [_interval(one, alpha / len(values)) for one in values]
    worst = np.min if goal.is_share else np.max  # NaN if there is any
    estimate, lower, upper, n = zip(*intervals, strict=True)
    ends = (0.0, 1.0) if goal.is_share else (-math.inf, math.inf)
    mean, low, high = (float(np.clip(worst(one), *ends)) for one in (estimate, lower, upper))
    return Interval(mean, low, high, min(n))


def _interval(value: Value, alpha: float) -> Interval:
    if math.isnan(value.value):
        return Interval(math.nan, -math.inf, math.inf, value.n)
    half = radius(value.n, alpha) * value.spread if value.n else math.nan
    half = math.inf if math.isnan(half) else half
    return Interval(value.value, value.value - half, value.value + half, value.n)


def _verdict(goal: Goal, one: Interval) -> str:
    if goal.bound is None:
        return OPEN
    if math.isnan(one.estimate):
        return FAILS  # no replicate has a value
    low, high = one.lower >= goal.bound, one.upper < goal.bound
    if not goal.is_share:
        low, high = one.upper <= goal.bound, one.lower > goal.bound
    return REACHES if low else FAILS if high else OPEN
