"""Whole-number positions along a covariate: what was drawn stands beside what is found."""

import numpy as np
import pytest

from mcsim.design.positions import positions


def steps(values, unit):
    """From row to row within units, sorted."""
    values, unit = np.asarray(values, dtype=np.float64), np.asarray(unit)
    found = positions(values, unit)
    order = np.lexsort((found, unit))
    assert np.all(np.diff(values[order])[np.diff(unit[order]) == 0] >= 0)
    return np.diff(found[order])[np.diff(unit[order]) == 0].tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2, 5], [1, 1, 3]),
        ([7, 1, 3, 5], [1, 1, 1]),  # a step is the smallest difference, 2
        ([0.1, 0.2, 0.4, 0.7, 1.1], [1, 2, 3, 4]),
        ([0.0, 0.034, 0.069, 0.138, 1.0], [1, 1, 2, 25]),  # 30 points, rounded
        ([3.0, 3.0, 4.0, 6.0], [1, 1, 1]),  # equal values have no distance
        ([3.0, 3.0 + 1e-15, 4.0, 6.0], [1, 1, 1]),
        ([0.0, 0.31, 0.44, 1.9], [1, 1, 1]),
        ([0.0, 0.0007, 0.4412, 0.9135], [1, 1, 1]),  # 0.0001 is a digit, no step
        ([5.0], []),
    ],
)
def test_steps_of_one_unit(values, expected):
    assert steps(values, [0] * len(values)) == expected


def test_equal_values_keep_the_order_of_the_rows():
    assert np.all(np.diff(positions(np.zeros(5), np.zeros(5, dtype=int))) == 1)


def test_a_step_is_common_to_all_units():
    assert steps([0, 2, 4, 0, 1, 4], [0, 0, 0, 1, 1, 1]) == [2, 2, 1, 3]


def lost(grids, share, generator):
    """Values and units of grids, of which some are lost, and the steps between the others."""
    values, unit, numbers = [], [], []
    for u, grid in enumerate(grids):
        kept = np.flatnonzero(generator.random(len(grid)) >= share)
        values.append(np.asarray(grid)[kept])
        unit.append(np.full(len(kept), u))
        numbers.append(np.diff(kept))
    order = generator.permutation(len(np.concatenate(unit)))  # rows stand anywhere
    expected = np.concatenate(numbers).tolist()
    return np.concatenate(values)[order], np.concatenate(unit)[order], expected


UNEVEN = [0.0, 1.0, 2.5, 4.0, 8.0, 9.7, 20.0]


@pytest.mark.parametrize(
    ("grid", "share"),
    [
        (np.linspace(0.0, 1.0, 30), 0.7),
        (np.linspace(0.0, 1.0, 30).round(3), 0.7),
        (np.linspace(0.0, 1.0, 30).round(2), 0.4),  # uneven now, and common to all units
        (np.linspace(0.0, 1.0, 8), 0.4),
        (UNEVEN, 0.4),
        ([0.0, 15.0, 40.0], 0.4),
    ],
)
def test_what_is_lost_leaves_its_gap(grid, share):
    generator = np.random.default_rng(3)
    for _ in range(20):
        values, unit, expected = lost([grid] * 20, share, generator)
        assert steps(values, unit) == expected


def test_units_with_a_spacing_of_their_own():
    generator = np.random.default_rng(4)
    sizes = [7, 8, 9, 10] * 5
    grids = [np.linspace(0.0, 1.0, n) for n in sizes]
    assert steps(*lost(grids, 0.0, generator)[:2]) == [1] * sum(n - 1 for n in sizes)
    values, unit, expected = lost(grids, 0.2, generator)
    assert steps(values, unit) == expected


def test_values_that_follow_no_pattern_are_one_step_apart():
    generator = np.random.default_rng(5)
    for n_decimals in (15, 4):
        values, unit = generator.random(400).round(n_decimals), np.arange(400) % 50
        assert steps(values, unit) == [1] * 350
