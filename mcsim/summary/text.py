"""Tables as text, and numbers to the digits that their Monte Carlo error leaves."""

import re
import textwrap
from collections.abc import Iterator, Sequence

from mcsim.names import short_number, show_number

Rows = Sequence[Sequence[str]]  # the header first

MAX_WIDTH = 119  # characters of a printed line; wider rows get narrower gaps
NARROWEST = 10  # characters that a column of names keeps
COMMAND = "    "  # before a command in a note, which is never broken
SLACK = 4  # characters that a name may be longer than a line before it is cut
WORD = re.compile(r"(?:\{[^}]*\}|\[[^\]]*\]|[^\s{\[]|[{\[])+\s*|\s+")  # a table or list is one word
SPACED = re.compile(r"\s*\S+\s*|\s+")
JOINT = re.compile(r"(?<=[_.(:,/-])(?=[^\W\d])|(?<=\S=)(?=\S)")  # never inside a number or table
LARGE = 1e7  # what is larger is written with a power of ten, and so is what needs more decimals
SMALL, MAX_DECIMALS = 1e-3, 9
BEGIN, END = r"\begin{tabular}", r"\end{tabular}"
LATEX = {  # what LaTeX does not print as it stands
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def aligned(rows: Rows, *, n_left: int, width: int | None = None) -> str:
    """Columns in line: the first `n_left` to the left, the others to the right.

    What is wider than `width` goes on below, with the first `n_left` columns again; names that
    leave no room for a number beside them are broken into lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width and len(widths) > n_left:
        _narrow(widths, n_left, width)
        rows = [line for row in rows for line in _broken(row, widths, n_left)]
    gap = " " if sum(widths) + 2 * (len(widths) - 1) > MAX_WIDTH else "  "
    blocks = _blocks(widths, n_left, len(gap), width) if width else [range(len(widths))]
    return "\n\n".join(_lines(rows, widths, block, gap, n_left) for block in blocks)


def _narrow(widths: list[int], n_left: int, width: int) -> None:
    """Take from the widest of the first columns what the widest of the others lacks."""
    lacking = sum(widths[:n_left]) + 2 * n_left + max(widths[n_left:]) - width
    while lacking > 0:
        widest = max(range(n_left), key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1
        lacking -= 1


def _broken(row: Sequence[str], widths: Sequence[int], n_left: int) -> Iterator[list[str]]:
    """The lines of a row whose first cells have room in their columns; numbers in the first."""
    cells = [wrapped(row[i], widths[i], slack=0).split("\n") for i in range(n_left)]
    for n in range(max(map(len, cells), default=1)):
        rest = row[n_left:] if n == 0 else [""] * (len(row) - n_left)
        yield [*(cell[n] if n < len(cell) else "" for cell in cells), *rest]


def wrapped(text: str, width: int, slack: int = SLACK) -> str:
    """Text in lines of about `width`, broken at spaces; words that are longer, at their joints.

    A value stays whole, be it a number or a table. A name keeps all its characters, and is cut
    anywhere only where a piece of it is longer than a line and `slack`.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _pieces(paragraph, width):
            if line and len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
            while len(line.rstrip()) > width + slack:
                lines.append(line[:width])
                line = line[width:]
        lines.append(line.rstrip())
    return "\n".join(lines)


def _pieces(text: str, width: int) -> Iterator[str]:
    for word in WORD.findall(text):
        for piece in JOINT.split(word) if len(word.rstrip()) > width else [word]:
            yield from SPACED.findall(piece) if len(piece.rstrip()) > width else [piece]


def _lines(rows: Rows, widths: Sequence[int], columns: Sequence[int], gap: str, n_left: int) -> str:
    form = gap.join(f"{{:{'<' if i < n_left else '>'}{widths[i]}}}" for i in columns)
    return "\n".join(form.format(*(row[i] for i in columns)).rstrip() for row in rows)


def _blocks(widths: Sequence[int], n_left: int, gap: int, width: int) -> list[list[int]]:
    """Columns of every block: those on the left, and as many others as there is room for."""
    left = list(range(n_left))
    blocks, room = [[*left]], 0
    taken = sum(widths[:n_left]) + gap * (n_left - 1)
    for i in range(n_left, len(widths)):
        room += gap + widths[i]
        if taken + room > width and len(blocks[-1]) > n_left:
            blocks.append([*left])
            room = gap + widths[i]
        blocks[-1].append(i)
    return blocks


def piped(rows: Rows, *, n_left: int) -> str:
    """The same in Markdown."""
    ruler = ["---"] * n_left + ["---:"] * (len(rows[0]) - n_left)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
        for row in (rows[0], ruler, *rows[1:])
    )


def booktabs(rows: Rows, *, n_left: int) -> str:
    """The same in LaTeX, for the package booktabs."""
    header, *body = [" & ".join(map(_in_latex, row)) + r" \\" for row in rows]
    columns = "l" * n_left + "r" * (len(rows[0]) - n_left)
    rules = [r"\toprule", header, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([f"{BEGIN}{{{columns}}}", *rules, END])


def commented(text: str) -> str:
    """Lines that LaTeX passes over."""
    return "\n".join(f"% {line}" for line in text.split("\n"))


def told(notes: Sequence[str], form: str, width: int | None) -> str:
    """Notes on a table in a format, one under the other, in lines no wider than `width`."""
    if form == "latex":
        return commented("\n".join(notes))
    return "\n".join(_folded(note, width) for note in notes)


def _folded(note: str, width: int | None) -> str:
    is_command = note.startswith(COMMAND)
    if width is None or is_command or max(map(len, note.split("\n"))) <= width:
        return note
    indent = note[: len(note) - len(note.lstrip())]
    return textwrap.fill(
        " ".join(note.split()), width, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _in_latex(cell: str) -> str:
    """A cell as LaTeX prints it, a number with a true minus."""
    if cell == "-":
        return "--"
    minus = "$-$" if re.match(r"-\d", cell) else ""
    text = "".join(LATEX.get(letter, letter) for letter in cell.removeprefix("-" * bool(minus)))
    return minus + (f"{{{text}}}" if text.startswith("[") else text)


def shown_as(value: float | None, form: str) -> str:
    """A number in a format, a dash where there is none."""
    return "-" if value is None else show_number(value, form)


def truth_as(truth: float | None) -> str:
    """A truth, a dash where there is none."""
    return "-" if truth is None else short_number(truth)


def percent(share: float | None, mcse: float | None) -> str:
    """A share and its Monte Carlo error in percent."""
    return "-" if share is None or mcse is None else f"{100 * share:z.1f} ({100 * mcse:.1f})"


def without_mcse(value: float | None, mcse: float | None) -> str:
    """A number with the digits that it has beside its Monte Carlo error."""
    return with_mcse(value, mcse).partition(" ")[0]


def with_mcse(value: float | None, mcse: float | None) -> str:
    """A number and its Monte Carlo error, to the second significant digit of the error."""
    if value is None or not mcse:
        return shown_as(value, ".4g") + (" (0)" if mcse == 0 else "")
    if abs(value) >= LARGE:
        return f"{value:.1e} ({mcse:.1e})"
    decimals = max(0, 1 - int(f"{mcse:.1e}".partition("e")[2]))
    form = f".{decimals}f" if decimals <= MAX_DECIMALS else ".1e"
    is_small = decimals <= MAX_DECIMALS or abs(value) < SMALL
    own = form if is_small else f".{MAX_DECIMALS}f"  # of a correlation next to 1, say
    return f"{value:z{own}} ({mcse:{form}})"
