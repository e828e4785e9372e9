"""Ranges of replicates: read, written, joined, subtracted, and cut into chunks.

Chunks are blocks: a power of two of replicates, after a multiple of it. So two blocks are apart,
or one lies within the other, whatever ranges they were cut from: runs that know nothing of each
other never leave two files that overlap in part. The last block of a plan is cut off where the plan
ends; only one of a larger plan could overlap it, and of two such files the later does not count.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from mcsim.errors import McsimError

Range = tuple[int, int]  # first and last replicate

# up to this replicate, blocks of at most this size
Grid = tuple[Range, ...]
GRID: Grid = ((256, 32), (2_048, 256), (4_096, 1_024))
WIDE_GRID: Grid = GRID[1:]  # of many conditions, whose files would be many
NO_GRID: Grid = ()  # few large blocks: where all replicates of a call are wanted at once
LARGEST_BLOCK = 2_048


def cut(
    ranges: Sequence[Range],
    at_most: int = LARGEST_BLOCK,
    grid: Grid = GRID,
    end: int | None = None,
) -> Iterator[Range]:
    """Cut ranges into the largest blocks of the grid, and of `at_most` replicates.

    Parameters
    ----------
    end : last replicate of the plan, where a block may be cut off
    """
    for first, last in ranges:
        while first <= last:
            size = _block_size(first, at_most, grid)
            left = last - first + 1
            while size > left and last != end:
                size //= 2
            yield first, first + min(size, left) - 1
            first += size


def _block_size(first: int, at_most: int, grid: Grid) -> int:
    of_grid = next((size for end, size in grid if first <= end), LARGEST_BLOCK)
    size = 1 << (min(of_grid, at_most).bit_length() - 1)
    while (first - 1) % size:
        size //= 2
    return size


def parse_ranges(text: str, most: int) -> tuple[Range, ...]:
    """Read `137` or `1201-1400` or several with commas, up to replicate `most`.

    Raises
    ------
    McsimError
        The text is another.
    """
    ranges = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,20})\s*(?:-\s*(\d{1,20})\s*)?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= most:
            raise McsimError(
                f"{text!r} is no range of replicates; write 137, 1201-1400 or 1-50,101-150,"
                f" counting from 1 to {most:,}"
            )
        ranges.append((first, last))
    return merge(ranges)


def format_ranges(ranges: Sequence[Range]) -> str:
    """`1-50,137`: what `parse_ranges` reads."""
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def merge(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Sorted, without overlaps, neighbours joined."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def subtract(wanted: Iterable[Range], done: Iterable[Range]) -> tuple[Range, ...]:
    """What of `wanted` is not in `done`."""
    missing, done = [], merge(done)
    for first, last in merge(wanted):
        for start, end in done:
            if start <= last and end >= first:
                if first < start:
                    missing.append((first, start - 1))
                first = end + 1
        if first <= last:
            missing.append((first, last))
    return tuple(missing)


def outermost(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, without those that lie within another, or begin there."""
    kept: list[Range] = []
    for first, last in sorted(set(ranges), key=lambda one: (one[0], -one[1])):
        if not kept or first > kept[-1][1]:
            kept.append((first, last))
    return kept
