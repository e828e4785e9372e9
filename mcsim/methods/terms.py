"""Tests of a term of the fixed effects that are not marginal: types II and III.

A marginal test is about the columns of a term given all others; beside an interaction it depends on
how factors are coded. Type III tests what the columns would be with sum contrasts: the average over
the levels of the other factors, each counting as much. Type II tests the term given all terms that
do not contain it: the same covariates, and more factors. Both as lmerTest's anova (Kuznetsova et
al. 2017, section 2.1, after SAS); covariates are at 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns, column, means_of_units
from mcsim.errors import DataError
from mcsim.formula import read_column, same_column
from mcsim.formula.expression import Call, Name, write

Floats = NDArray[np.float64]

ROUNDING = 1e-8  # relative to the length of a column


@dataclass(frozen=True)
class _Term:
    """Its factors, and what its columns multiply them with; empty for the intercept."""

    factors: frozenset[str]
    covariates: tuple[tuple[str, ...], ...]


def term_contrast(columns: ModelColumns, term: str, test: str) -> Floats | None:
    """Rows L of the hypothesis L beta = 0 of a term, None where the model lacks it.

    Raises
    ------
    DataError
        The model has not all terms that are part of its largest ones, or some levels never meet.
    """
    names = [same_column(name) for name in columns.terms]
    if same_column(term) not in names:
        return None
    L = TESTS[test](columns, names.index(same_column(term)))
    L[np.abs(L) <= ROUNDING * np.abs(L).max(axis=1, keepdims=True)] = 0.0
    return L


def _type_2(columns: ModelColumns, number: int) -> Floats:
    """B'M X: B are the term's columns, M takes out those of all terms that do not contain it."""
    terms = [_term(columns, other) for other in range(len(columns.terms))]
    own = terms[number]
    contains = [
        one.factors >= own.factors and one.covariates == own.covariates and other != number
        for other, one in enumerate(terms)
    ]
    of_column = np.array(columns.term_of_column)
    is_own, is_within = of_column == number, np.array(contains)[of_column]
    B, others = columns.X[:, is_own], columns.X[:, ~is_own & ~is_within]
    rest = B - others @ np.linalg.lstsq(others, B)[0] if others.shape[1] else B
    return np.asarray(rest.T @ columns.X) / len(B)


def _type_3(columns: ModelColumns, number: int) -> Floats:
    """The term's rows of A in X = S A: S has sum contrasts, whose coefficients are A beta."""
    coded = [_with_sum_contrasts(columns, other) for other in range(len(columns.terms))]
    S = np.hstack(coded)
    if columns.unit_of_row is not None:
        S = means_of_units(S, columns.unit_of_row)
    A, _, rank, _ = np.linalg.lstsq(S, columns.X)
    lengths = np.linalg.norm(columns.X, axis=0)
    is_same = np.all(np.abs(S @ A - columns.X) <= ROUNDING * lengths)
    if S.shape != columns.X.shape or rank < S.shape[1] or not is_same or not coded[number].size:
        raise DataError(
            f"a type 3 test of {columns.terms[number]!r} needs an intercept, all terms that are"
            " part of larger ones, and every combination of the levels of their factors; use"
            " test = 'type 2'"
        )
    first = sum(one.shape[1] for one in coded[:number])
    return np.asarray(A[first : first + coded[number].shape[1]])


TESTS: dict[str, Callable[[ModelColumns, int], Floats]] = {"type 2": _type_2, "type 3": _type_3}


def _term(columns: ModelColumns, number: int) -> _Term:
    factors: set[str] = set()
    covariates = []
    for name in _names(columns, number):
        pieces = [] if name == "Intercept" else read_column(name)
        is_factor = [_levels(columns.frame, piece.base) is not None for piece in pieces]
        own = zip(pieces, is_factor, strict=True)
        factors |= {write(piece.base) for piece, is_one in own if is_one}
        others = zip(pieces, is_factor, strict=True)
        covariates.append(tuple(sorted(str(piece) for piece, is_one in others if not is_one)))
    return _Term(frozenset(factors), tuple(dict.fromkeys(covariates)))


def _names(columns: ModelColumns, number: int) -> list[str]:
    named = zip(columns.names, columns.term_of_column, strict=True)
    return [name for name, of_term in named if of_term == number]


def _with_sum_contrasts(columns: ModelColumns, number: int) -> Floats:
    """The term's columns, (n_rows, n), with sum contrasts of its factors."""
    term, frame = _term(columns, number), columns.frame
    found = [np.zeros((len(frame), 0))]  # alone where no levels meet
    for covariate in term.covariates:
        values = np.ones((len(frame), 1))
        if covariate:
            values = column(frame, ":".join(covariate))[:, None]
        found.append(reduce(_products, map(_sums(frame), sorted(term.factors)), values))
    return np.hstack(found)


def _sums(frame: pd.DataFrame) -> Callable[[str], Floats]:
    """The columns of a factor: 1 at a level, -1 at the last."""

    def of_factor(name: str) -> Floats:
        (piece,) = read_column(name)
        labels = _levels(frame, piece.base)
        assert labels is not None
        codes, uniques = pd.factorize(labels, sort=True)
        dummies = np.eye(len(uniques))[codes]
        return np.asarray(dummies[:, :-1] - dummies[:, -1:])

    return of_factor


def _levels(frame: pd.DataFrame, base: Name | Call) -> "pd.Series[str] | None":
    """The levels of a factor, or of a covariate that is made one by C(...); None for others."""
    match base:
        case Call("C" | "factor", (Name(name), *_)):
            return frame[name].astype(str)
        case Name(name) if isinstance(frame[name].dtype, pd.CategoricalDtype):
            return frame[name].astype(str)
    return None


def _products(first: Floats, second: Floats) -> Floats:
    """All products of columns of the two."""
    return np.asarray((first[:, :, None] * second[:, None, :]).reshape(len(first), -1))
