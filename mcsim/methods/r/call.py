"""A model as a call of R's nlme or lme4."""

from collections.abc import Sequence

import pandas as pd

from mcsim.design.columns import ModelColumns, RandomColumns
from mcsim.errors import DataError
from mcsim.formula import RandomTerm, read_terms, written_name
from mcsim.formula.expression import Call, Contrast, Expression, Name, Option, changed, write
from mcsim.formula.grammar import CONTRASTS
from mcsim.scenario.families import FamilyModel

NLME_CLASSES = {"diagonal": "pdDiag", "identity": "pdIdent", "compound": "pdCompSymm"}
R_LACKS = ("center",)  # of the functions of a formula
R_WORDS = (  # which R reads as names only in backticks
    "if", "else", "for", "while", "in", "break", "function", "repeat", "next", "TRUE", "FALSE",
    "NULL", "Inf", "NaN", "NA", "NA_integer_", "NA_real_", "NA_complex_", "NA_character_",
)  # fmt: skip


def r_call(columns: ModelColumns, estimator: str, family: FamilyModel | None = None) -> str:
    """The call that fits the model to a data frame `data`: normal responses by REML.

    Raises
    ------
    DataError
        The program cannot fit this model.
    """
    if not columns.levels:
        raise DataError("the formula has no random effect; add a term such as (1 | animal)")
    formula = columns.formula
    for name in (name for name in R_LACKS if f"{name}(" in formula.written):
        raise DataError(f"R has no {name}() in a formula; leave it out")
    if formula.has_number_inside:
        raise DataError(
            f"{formula.text!r} has 0 or 1 in parentheses, which R reads as another model; write the"
            " terms out, as in diet + x:diet for (1 + x):diet"
        )
    for name in formula.names:
        if "`" in name_in_r(name) and (estimator == "nlme" or ":" in name):
            raise DataError(f"{estimator} cannot read the name {name!r}; rename it")
    _check_labels(columns)
    if family is not None:
        return _call_of_family(columns, estimator, family)
    return {"nlme": _nlme_call, "lme4": _lme4_call}[estimator](columns)


def name_in_r(name: str) -> str:
    """A column's name as R's formulas have it."""
    return f"`{name}`" if name in R_WORDS or name.startswith("_") else written_name(name)


def in_r(text: str) -> str:
    """A right-hand side as R writes it, whose C() takes factors alone."""
    return write(changed(read_terms(text), _in_r), name_in_r)


def _in_r(one: Expression) -> Expression:
    match one:
        case Call("C", (Name(_) as name,)):
            return Call("factor", (name,))
        case Call("C" | "factor", (Name(_) as name, Contrast(word, reference))):
            factor = Call("factor", (name,))
            if reference is None:
                return Call("C", (factor, Contrast(f'"contr.{CONTRASTS[word]}"', None)))
            return Call("relevel", (factor, Option("ref", f'"{reference}"')))
    return one


def _check_labels(columns: ModelColumns) -> None:
    """Refuse levels of factors that R does not keep as they are."""
    for name in columns.formula.columns:
        values = columns.frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            for label in map(str, values.cat.categories):
                if not label.isprintable():
                    raise DataError(f"R cannot take the level {label!r} of {name!r}; rename it")


def _nlme_call(columns: ModelColumns) -> str:
    fixed = f"{name_in_r(columns.formula.response)} ~ {in_r(columns.formula.fixed)}"
    return f"lme({fixed}, data = data, random = {_nlme_random(columns)})"


def _nlme_random(columns: ModelColumns) -> str:
    """One formula where all levels have the same, general effects; otherwise a list by level."""
    parts = [_nlme_level(level, _terms_of(level, columns)) for level in columns.levels]
    names = [name_in_r(level.level) for level in columns.levels]
    if len(set(parts)) == 1 and parts[0].startswith("~"):
        return f"{parts[0]} | {'/'.join(names)}"
    return f"list({', '.join(f'{name} = {part}' for name, part in zip(names, parts, strict=True))})"


def _terms_of(level: RandomColumns, columns: ModelColumns) -> list[RandomTerm]:
    return [term for term in columns.formula.random if term.level == level.level]


def _nlme_level(level: RandomColumns, terms: Sequence[RandomTerm]) -> str:
    parts = []
    for term in terms:
        kind, text = _structure(term, level, terms), f"~ {in_r(term.columns)}"
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
        groups = [":".join(term.group) for term in terms]
        if len(set(groups)) > 1:
            both = " and ".join(dict.fromkeys(groups))
            raise DataError(f"{both} are the same units; write one of them, for lme4")
        for term in terms:
            if term.structure == "diagonal" and len(level.names) == 1:
                raise DataError(
                    f"lme4 cannot read ({term.columns} || ...) with one effect; write"
                    f" ({term.columns} | {'/'.join(term.group)})"
                )
    return f"lmer({_whole_formula(columns)}, data = data)"


def _call_of_family(columns: ModelColumns, estimator: str, family: FamilyModel) -> str:
    """A call of glmer or glmmTMB: terms with two bars as lme4 has them."""
    if estimator == "glmmTMB" and family.quadrature > 1:
        raise DataError("glmmTMB has no quadrature; leave it out, or use estimator 'glmer'")
    _lme4_call(columns)  # refuses what the formulas of both cannot say
    response, formula = columns.formula.response, _whole_formula(columns)
    if family.family == "binomial":
        n = family.trials if isinstance(family.trials, str) else f"{family.trials:g}"
        n, own = name_in_r(n) if isinstance(family.trials, str) else n, name_in_r(response)
        formula = f"cbind({own}, {n} - {own}){formula.removeprefix(own)}"
    points = f", nAGQ = {family.quadrature}" if family.quadrature > 1 else ""
    if (estimator, family.family) == ("glmer", "nbinom"):
        return f"glmer.nb({formula}, data = data{points})"
    name = {"nbinom": "nbinom2"}.get(family.family, family.family)
    return f'{estimator}({formula}, data = data, family = {name}(link = "{family.link}"){points})'


def _whole_formula(columns: ModelColumns) -> str:
    """The formula with its random terms, one per level."""
    formula = columns.formula
    bars = {"general": "|", "diagonal": "||"}
    random = [
        f"({in_r(term.columns)} {bars[term.structure]} {':'.join(map(name_in_r, term.group))})"
        for term in formula.random
    ]
    return f"{name_in_r(formula.response)} ~ {' + '.join([in_r(formula.fixed), *random])}"
