"""A model as a call of R's nlme or lme4."""

from collections.abc import Sequence

from mcsim.design.columns import ModelColumns, RandomColumns
from mcsim.errors import DataError
from mcsim.formula import RandomTerm

NLME_CLASSES = {"diagonal": "pdDiag", "identity": "pdIdent", "compound": "pdCompSymm"}
R_LACKS = ("center",)  # of the functions of a formula
R_WORDS = ("function", "repeat", "next", "TRUE", "FALSE", "NULL", "NA", "Inf", "NaN")


def r_call(columns: ModelColumns, estimator: str) -> str:
    """The call that fits the model to a data frame `data` by REML.

    Raises
    ------
    DataError
        The program cannot fit this model.
    """
    if not columns.levels:
        raise DataError("the formula has no random effect; add a term such as (1 | animal)")
    formula = columns.formula
    for name in (*formula.names, *(name for name in R_LACKS if f"{name}(" in formula.written)):
        if name.startswith("_") or name in (*R_WORDS, *R_LACKS):
            raise DataError(f"R cannot read {name!r} in a formula; rename it, or leave it out")
    return {"nlme": _nlme_call, "lme4": _lme4_call}[estimator](columns)


def _nlme_call(columns: ModelColumns) -> str:
    fixed = f"{columns.formula.response} ~ {columns.formula.fixed}"
    return f"lme({fixed}, data = data, random = {_nlme_random(columns)})"


def _nlme_random(columns: ModelColumns) -> str:
    """One formula where all levels have the same, general effects; otherwise a list by level."""
    parts = [_nlme_level(level, _terms_of(level, columns)) for level in columns.levels]
    names = [level.level for level in columns.levels]
    if len(set(parts)) == 1 and parts[0].startswith("~"):
        return f"{parts[0]} | {'/'.join(names)}"
    return f"list({', '.join(f'{name} = {part}' for name, part in zip(names, parts, strict=True))})"


def _terms_of(level: RandomColumns, columns: ModelColumns) -> list[RandomTerm]:
    return [term for term in columns.formula.random if term.level == level.level]


def _nlme_level(level: RandomColumns, terms: Sequence[RandomTerm]) -> str:
    parts = []
    for term in terms:
        kind, text = _structure(term, level, terms), f"~ {term.columns}"
        parts.append(f"{NLME_CLASSES[kind]}({text})" if kind in NLME_CLASSES else text)
    return parts[0] if len(parts) == 1 else f"pdBlocked(list({', '.join(parts)}))"


def _structure(term: RandomTerm, level: RandomColumns, terms: Sequence[RandomTerm]) -> str:
    """The covariance structure of a term: of its bars or, with one bar, of the method's table."""
    if term.structure == "diagonal" or len(level.names) == 1:
        return term.structure
    others = [name for name, _ in level.structures if name != "general"]
    is_split = len(level.structures) > len(terms) and {one.structure for one in terms} == {
        "general"
    }
    return others[0] if others else "diagonal" if is_split else "general"


def _lme4_call(columns: ModelColumns) -> str:
    for level in columns.levels:
        terms = _terms_of(level, columns)
        if any(_structure(term, level, terms) != term.structure for term in terms):
            raise DataError(
                f"lme4 has no structure like that of {level.level!r}; write the formula with || for"
                " independent effects, or use estimator 'reml' or 'nlme'"
            )
    return f"lmer({columns.formula.written}, data = data)"
