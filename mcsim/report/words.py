"""Sentences as data: text in which names of the study are set apart, whoever prints them.

Nothing here is HTML; the templates escape what they print.
"""

from collections.abc import Iterable
from string import Formatter


class Name(str):
    """A name of the study's, such as a parameter's: in a typeface of its own where there is one."""

    __slots__ = ()


Sentence = tuple[str, ...]  # pieces of text, and `Name`s


def say(template: str, **parts: str | Sentence) -> Sentence:
    """The sentence that a template such as "{name} is underestimated{where}." becomes."""
    pieces: list[str] = []
    for text, field, _, _ in Formatter().parse(template):
        pieces.append(text)
        if field is not None:
            part = parts[field]
            pieces += [part] if isinstance(part, str) else part
    return tuple(filter(None, pieces))


def joined(pieces: Iterable[Sentence], last: str = " and ", between: str = ", ") -> Sentence:
    """`a, b and c`."""
    words: list[str] = []
    *first, end = pieces
    for piece in first:
        words += [between] * bool(words) + [*piece]
    return (*words, *[last] * bool(first), *end)


def commas(names: Iterable[str]) -> Sentence:
    """`a, b, c`, of names."""
    return joined(((Name(name),) for name in names), ", ")


def listed(names: Iterable[str]) -> Sentence:
    """`a, b and c`, of names."""
    return joined((Name(name),) for name in names)
