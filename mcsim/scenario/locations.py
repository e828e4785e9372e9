"""Line and column of every key path in TOML and YAML text that has already been parsed."""

import bisect
import itertools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from mcsim.scenario.keys import KeyPath

ENDLESS = 10**12  # entries of a table that holds itself

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\[\s\S])*?"{3,5}|\'\'\'[\s\S]*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
)
_BLANK = re.compile(r"[ \t]*")
_SKIPPED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_ATOM = re.compile(r"[^,\]}#\n]+")  # number, boolean or date


@dataclass(frozen=True)
class Positions:
    """Line and column, from 1, by key path."""

    places: Mapping[KeyPath, tuple[int, int]]

    def of(self, path: KeyPath) -> tuple[int, int]:
        """Where the path stands, or the nearest table around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return 1, 1


def toml_positions(text: str) -> Positions:
    """Positions in valid TOML."""
    return Positions(_TomlScanner(text).scan())


class _TomlScanner:
    """Follows the text's structure; relies on tomllib having accepted it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.places: dict[KeyPath, tuple[int, int]] = {}
        self.n_tables: dict[KeyPath, int] = {}  # tables seen so far in each array of tables

    def scan(self) -> dict[KeyPath, tuple[int, int]]:
        base: KeyPath = ()
        i = 0
        while (i := self._skip(i)) < len(self.text):
            if self.text.startswith("[[", i):
                start = i
                parts, i = self._key(i + 2)
                array = self._register((), parts, in_header=True)
                self.n_tables[array] = self.n_tables.get(array, -1) + 1
                base = (*array, self.n_tables[array])
                self.places[base] = self._place(start)
                i += 2
            elif self.text[i] == "[":
                parts, i = self._key(i + 1)
                base = self._register((), parts, in_header=True)
                i += 1
            else:
                i = self._pair(base, i)
        return self.places

    def _place(self, i: int) -> tuple[int, int]:
        line = bisect.bisect_right(self.line_starts, i)
        return line, i - self.line_starts[line - 1] + 1

    def _skip(self, i: int) -> int:
        match = _SKIPPED.match(self.text, i)
        assert match
        return match.end()

    def _skip_blanks(self, i: int) -> int:
        match = _BLANK.match(self.text, i)
        assert match
        return match.end()

    def _key(self, i: int) -> tuple[list[tuple[str, int]], int]:
        """Pieces of a dotted key with their offsets, and what follows."""
        parts = []
        while True:
            i = self._skip_blanks(i)
            match = _STRING.match(self.text, i) or _BARE.match(self.text, i)
            assert match
            piece = match.group()
            parts.append((tomllib.loads(f"k={piece}")["k"] if piece[0] in "\"'" else piece, i))
            i = self._skip_blanks(match.end())
            if self.text[i] != ".":
                return parts, i
            i += 1

    def _register(
        self, base: KeyPath, parts: list[tuple[str, int]], *, in_header: bool = False
    ) -> KeyPath:
        path = base
        for number, (name, offset) in enumerate(parts, start=1):
            path = (*path, name)
            self.places.setdefault(path, self._place(offset))
            if in_header and number < len(parts) and path in self.n_tables:
                path = (*path, self.n_tables[path])
        return path

    def _pair(self, base: KeyPath, i: int) -> int:
        parts, i = self._key(i)
        path = self._register(base, parts)
        return self._value(path, self._skip_blanks(i + 1))

    def _value(self, path: KeyPath, i: int) -> int:
        match self.text[i]:
            case '"' | "'":
                found = _STRING.match(self.text, i)
            case "[":
                return self._array(path, i)
            case "{":
                return self._inline_table(path, i)
            case _:
                found = _ATOM.match(self.text, i)
        assert found
        return found.end()

    def _array(self, path: KeyPath, i: int) -> int:
        number, i = 0, self._skip(i + 1)
        while self.text[i] != "]":
            self.places[*path, number] = self._place(i)
            i = self._after_comma(self._value((*path, number), i))
            number += 1
        return i + 1

    def _inline_table(self, path: KeyPath, i: int) -> int:
        i = self._skip(i + 1)
        while self.text[i] != "}":
            i = self._after_comma(self._pair(path, i))
        return i + 1

    def _after_comma(self, i: int) -> int:
        i = self._skip(i)
        return self._skip(i + 1) if self.text[i] == "," else i


def yaml_positions(root: yaml.Node | None) -> tuple[Positions, list[tuple[tuple[int, int], str]]]:
    """Positions in parsed YAML; and a place and a sentence for each key that stands twice."""
    places: dict[KeyPath, tuple[int, int]] = {}
    repeated: list[tuple[tuple[int, int], str]] = []

    def walk(node: yaml.Node | None, path: KeyPath) -> None:
        if isinstance(node, yaml.MappingNode):
            first: set[str] = set()
            for key, value in node.value:
                place = _place_of(key)
                if str(key.value) in first:
                    message = f"the key {key.value!r} stands twice in one table"
                    repeated.append((place, message))
                first.add(str(key.value))
                places[*path, str(key.value)] = place
                walk(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                places[*path, number] = _place_of(item)
                walk(item, (*path, number))

    walk(root, ())
    return Positions(places), repeated


def n_repeated(root: yaml.Node | None) -> int:
    """How many entries the aliases of parsed YAML add to those that are written.

    Told without following every alias: ten tables of ten aliases each make ten billion entries.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = ENDLESS  # as long as it is met within itself
            entries = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = itertools.chain.from_iterable(
                entry if isinstance(entry, tuple) else (entry,) for entry in entries
            )
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    return 0 if root is None else size(root) - len(sizes)


def _place_of(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
