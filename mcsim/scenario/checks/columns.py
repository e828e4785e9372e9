"""What is wrong with names of columns, variables and levels, given what a design can make."""

from collections.abc import Iterable, Iterator, Sequence

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula import ColumnPiece, read_column, same_column, written_name
from mcsim.formula.expression import Call, Contrast, Name, Number, variables, walk, write
from mcsim.formula.grammar import CONTRASTS
from mcsim.scenario.design import DesignNames
from mcsim.scenario.keys import Finding, KeyPath

DESIGN = "The design has"  # before what there is
HINT = "The design makes these, and their products with ':'"
SEVERAL = ("C", "factor", "poly")  # functions that make several columns
MAX_DEGREE = 1000
MAX_LISTED = 9  # columns in a message


def columns_problems(
    path: KeyPath, columns: Iterable[str], names: DesignNames
) -> Iterator[Finding]:
    """Columns of a table that the design cannot make, or that stand there twice."""
    earlier: dict[str, str] = {}
    for column in columns:
        twin = earlier.setdefault(same_column(column), column)
        if twin != column:
            yield (*path, column), f"{column!r} is the column {twin!r} once more; leave one out"
        for message in _column_problems(column, names):
            yield (*path, column), message


def _column_problems(column: str, names: DesignNames) -> Iterator[str]:
    """Why the design cannot make a column named as the formula library names it."""
    if column == "Intercept":
        return
    factors = [(written_name(name), levels) for name, levels in names.factor_levels.items()]
    printed = [f"{name}[T.{level}]" for name, levels in factors for level in levels[1:]]
    full = {f"{name}[{level}]" for name, levels in factors for level in levels}
    covariates = [*map(written_name, names.covariates)]
    known = ["Intercept", *covariates, *printed]
    try:
        pieces = read_column(column)
    except FormulaError as error:
        yield str(error) if "(" in column else unknown("column", column, known, HINT)
        return
    for piece in pieces:
        if isinstance(piece.base, Call):
            yield from variable_problems(dict.fromkeys(variables(piece.base)), names)
            yield from _label_problems(piece, piece.base, names)
        elif str(piece) not in {*printed, *full, *covariates}:
            yield unknown("column", str(piece), known, HINT)


def _label_problems(piece: ColumnPiece, call: Call, names: DesignNames) -> Iterator[str]:
    """Why a call makes no column with this label, as far as that can be told without data."""
    labels = _labels(call, names)
    if piece.label is None or labels is None or piece.label in labels:
        return
    found = f"found '[{piece.label}]' after {write(call)!r}, which"
    columns = [f"{write(call)}[{label}]" for label in labels]
    if labels:
        near = nearest_name(str(piece), columns)
        yield f"{found} makes the columns {', '.join(columns[:MAX_LISTED])}.{near}"
    else:
        several = "brackets go with several, as in poly(x, 2)[1] and C(diet)[T.fed]"
        yield f"{found} makes one column; write {write(call)!r}: {several}"


def _labels(call: Call, names: DesignNames) -> Sequence[str] | None:
    """Labels that the formula library prints after a call, () for one column; None: unknown."""
    match call:
        case Call("poly", (_, Number(int(degree)), *_)):
            return [str(number) for number in range(1, min(degree, MAX_DEGREE) + 1)]
        case Call("poly", (_,)):
            return ["1"]
        case Call("C" | "factor" | "I", (Name(name), *coding)) if name in names.factors:
            return _coded_labels(names.factor_levels[name], coding)
    makes_several = any(isinstance(one, Call) and one.function in SEVERAL for one in walk(call))
    has_factor = any(name in names.factors for name in variables(call))
    return None if makes_several or has_factor else ()


def _coded_labels(levels: Sequence[str], coding: Sequence[object]) -> Sequence[str] | None:
    """Labels of a factor's columns, with an intercept and without; None: unknown."""
    match coding:
        case [] | [Contrast()] if not coding or CONTRASTS[coding[0].word] == "treatment":
            reference = coding[0].reference if coding else None
            others = [level for level in levels if level != (reference or levels[0])]
            return [*(f"T.{level}" for level in others), *levels]
        case [Contrast(word)] if CONTRASTS[word] == "sum":
            return [*(f"S.{level}" for level in levels[:-1]), *levels]
    return None


def variable_problems(variables: Iterable[str], names: DesignNames) -> Iterator[str]:
    """Names that are neither factor nor covariate."""
    known = [*names.factors, *names.covariates]
    for name in variables:
        if name not in known:
            yield unknown("variable", name, known)


def lacking(
    path: KeyPath, kind: str, name: str | None, known: Iterable[str], *words: str
) -> Iterator[Finding]:
    """Say of a name that is given and not known what `unknown` says."""
    if name is not None and name not in known:
        yield path, unknown(kind, name, known, *words)


def lacking_level(
    path: KeyPath, level: str | None, where: str, names: DesignNames
) -> Iterator[Finding]:
    """Say of a level that is given that the design does not have it."""
    return lacking(path, "level", level, names.level_names, DESIGN, f" in {where}")


def unknown(
    kind: str, name: object, allowed: Iterable[str], heading: str = DESIGN, where: str = ""
) -> str:
    """Say that a name is not known, what is allowed, and what was probably meant."""
    known = list(allowed)
    near = nearest_name(str(name), known)
    return f"unknown {kind} {name!r}{where}. {heading}: {', '.join(known) or 'none'}.{near}"
