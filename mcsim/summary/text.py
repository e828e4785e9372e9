"""Tables as text, and numbers to the digits that their Monte Carlo error leaves."""

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]  # the header first

MAX_WIDTH = 119  # characters of a printed line; wider rows get narrower gaps
LARGE = 1e7  # what is larger is written with a power of ten, and so is what needs more decimals
MAX_DECIMALS = 9


def aligned(rows: Rows, *, n_left: int) -> str:
    """Columns in line: the first `n_left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = " " if sum(widths) + 2 * (len(widths) - 1) > MAX_WIDTH else "  "
    sides = "<" * n_left + ">" * (len(widths) - n_left)
    form = gap.join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    return "\n".join(form.format(*row).rstrip() for row in rows)


def piped(rows: Rows, *, n_left: int) -> str:
    """The same in Markdown."""
    ruler = ["---"] * n_left + ["---:"] * (len(rows[0]) - n_left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ruler, *rows[1:]))


def shown_as(value: float | None, form: str) -> str:
    """A number in a format, a dash where there is none."""
    return "-" if value is None else format(value, form)


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
    return f"{value:z{form}} ({mcse:{form}})"
