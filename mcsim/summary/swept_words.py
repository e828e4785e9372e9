"""Words for swept columns and their values: units in what, how many in all, short numbers."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcsim.names import shown_label

COUNT = re.compile(r"design\.(?:levels\.(.+)|observations)\.count")
ONE_KEY = re.compile(r"\{([\w.]+) = ([^={}]+)\}")
LONG = 6  # characters of a number that is shortened if it has more
FEWEST_DIGITS, MOST_DIGITS = 3, 8  # that it is left


def count_in_words(column: str, identity: Mapping[str, Any]) -> str:
    """`units of animal per diet`, of a column of counts; else empty.

    identity : dotted keys of the design, as manifests have them
    """
    of = COUNT.fullmatch(column)
    if of is None or "design.levels.names" not in identity:
        return ""
    what = f"units of {of[1]}" if of[1] else "observations"
    per = " and ".join(_counted_in(of[1], identity))
    return f"{what} per {per}" if per else what


def _counted_in(level: str | None, identity: Mapping[str, Any]) -> Iterator[str]:
    """The unit above in which units of a level, or observations, are counted; factors likewise."""
    levels = list(identity["design.levels.names"])
    above = levels[: levels.index(level)] if level else levels
    if not any(identity.get(f"design.levels.{one}.crossed") for one in levels):
        yield from above[-1:]
    elif not level:
        yield "innermost unit"
    for name in identity.get("design.factors", ()):
        if identity.get(f"design.factors.{name}.of", levels[0]) == (level or "observation"):
            yield name


def units_in_words(column: str, words: str) -> int | None:
    """Units of the level whose count a column has, or observations, of a design in words."""
    of = COUNT.fullmatch(column)
    if of is None:
        return None
    what = rf"units? of {re.escape(of[1])}" if of[1] else "observations"
    match = re.search(rf"(?:^|; )([\d,]+) {what}(?:[,;]|$)", words)
    return int(match[1].replace(",", "")) if match else None


def short_words(values: Collection[str], column: str) -> dict[str, str]:
    """0.333 for 0.3333333333333333, `gamma 1` for a table; values that differ have other words.

    Those that differ in late digits alone are numbered: `0.3 #1`, `0.3 #2`.
    """
    if column == "study":
        return {value: Path(value).name for value in values}
    for digits in range(FEWEST_DIGITS, MOST_DIGITS + 1):
        short = {value: _short(value, digits) for value in values}
        if len(set(short.values())) == len(short):
            return short
    n_alike, seen = Counter(short.values()), Counter[str]()
    seen.update({words: -n for words, n in n_alike.items() if n == 1})
    for value, words in short.items():
        seen[words] += 1
        short[value] = f"{words} #{seen[words]}" if seen[words] > 0 else words
    return short


def _short(value: str, digits: int) -> str:
    try:
        n_whole = len(str(int(abs(float(value)))))
    except (ValueError, OverflowError):  # no number, or none that ends
        return shown_label(ONE_KEY.sub(r"\1 \2", value))
    if len(value) <= LONG:
        return value
    return f"{float(value):.{max(digits, n_whole if n_whole <= LONG else 0)}g}"
