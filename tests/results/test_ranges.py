"""Ranges of replicates: sets of numbers are the oracle."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.errors import McsimError
from mcsim.results.ranges import (
    LARGEST_BLOCK,
    WIDE_GRID,
    cut,
    format_ranges,
    merge,
    outermost,
    parse_ranges,
    subtract,
)

RANGES = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 20)).map(lambda one: (one[0], sum(one))),
    max_size=6,
)


def numbers(ranges):
    return {one for first, last in ranges for one in range(first, last + 1)}


@given(wanted=RANGES, done=RANGES)
def test_missing_and_done_together_are_what_was_wanted(wanted, done):
    missing = subtract(wanted, done)
    assert numbers(missing) == numbers(wanted) - numbers(done)
    assert merge(missing) == missing


@given(ranges=RANGES.filter(bool))
def test_ranges_survive_being_written_and_read(ranges):
    assert parse_ranges(format_ranges(ranges), 10**7) == merge(ranges)
    assert numbers(merge(ranges)) == numbers(ranges)


@given(done=RANGES, at_most=st.none() | st.integers(1, 9))
def test_chunks_hold_every_missing_replicate_once(done, at_most):
    chunks = list(cut(subtract([(1, 80)], done), *([at_most] if at_most else [])))
    replicates = [one for first, last in chunks for one in range(first, last + 1)]
    assert sorted(replicates) == sorted(numbers([(1, 80)]) - numbers(done))
    assert all(last - first < (at_most or 32) for first, last in chunks)


@given(wanted=st.tuples(RANGES, RANGES), at_most=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_two_chunks_are_apart_or_one_holds_the_other(wanted, at_most):
    cuts = (cut(merge(ranges), size) for ranges, size in zip(wanted, at_most, strict=True))
    for one, other in itertools.product(*cuts):
        shared = numbers([one]) & numbers([other])
        assert shared in (set(), numbers([one]), numbers([other]))


@given(ranges=RANGES, at_most=st.integers(1, 40))
def test_the_outermost_of_ranges_are_apart_and_hold_all_blocks(ranges, at_most):
    kept = outermost(ranges)
    assert set(kept) <= set(ranges)
    assert sum(last - first + 1 for first, last in kept) == len(numbers(kept))
    blocks = [*cut([(1, 80)]), *cut(ranges, at_most)]
    assert numbers(outermost(blocks)) == numbers(blocks)


@given(done=RANGES, end=st.integers(1, 600))
def test_the_last_chunk_of_a_plan_is_cut_off_where_the_plan_ends(done, end):
    wanted = subtract([(1, end)], done)
    chunks = list(cut(wanted, grid=WIDE_GRID, end=end))
    assert numbers(chunks) == numbers(wanted)
    assert len(chunks) <= len(list(cut(wanted, grid=WIDE_GRID)))
    for one, other in itertools.product(chunks, cut([(1, end)], grid=WIDE_GRID, end=end)):
        shared = numbers([one]) & numbers([other])
        assert shared in (set(), numbers([one]), numbers([other]))
    if not done:
        assert len(chunks) == -(-end // 256)


@pytest.mark.parametrize("n", [1, 999, 1_000, 123_456])
def test_a_study_has_few_chunks_more_than_it_must(n):
    chunks = list(cut([(1, n)]))
    assert len(chunks) <= 8 + 7 + n // LARGEST_BLOCK + 11  # the last chunk is cut at powers of two


def test_the_grid_has_small_chunks_first():
    sizes = [last - first + 1 for first, last in cut([(1, 20_000)])]
    expected = [32] * 8 + [256] * 7 + [1024] * 2 + [2048] * 7 + [1024, 512, 32]
    assert sizes == expected
    assert list(cut([(20, 40)])) == [(20, 20), (21, 24), (25, 32), (33, 40)]
    assert list(cut([(1, 20)], at_most=7)) == [(1, 4), (5, 8), (9, 12), (13, 16), (17, 20)]


@pytest.mark.parametrize(
    ("text", "ranges"),
    [("137", ((137, 137),)), (" 1201 - 1400 ,1500", ((1201, 1400), (1500, 1500)))],
)
def test_ranges_are_read_as_users_write_them(text, ranges):
    assert parse_ranges(text, 10**7) == ranges


@pytest.mark.parametrize("text", ["", "0", "5-3", "1-", "a", "1;2", "1,,2", "-3"])
def test_what_is_no_range_is_named(text):
    with pytest.raises(McsimError, match="is no range of replicates; write 137, 1201-1400"):
        parse_ranges(text, 10**7)
