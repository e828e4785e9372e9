"""True and realized values of what a method writes in other columns than the truth.

Where a method lacks columns of the truth, or has an offset, the mean T b (less that offset) is X a
if its columns X make it. Effects of columns T with covariance S are effects A of columns Z where
T = Z A, as an intercept is the sum of a factor's columns: their covariance is A S A'.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns, RandomColumns, without_aliased
from mcsim.design.units import Design
from mcsim.formula import read_column
from mcsim.formula.column_names import is_of_all_rows
from mcsim.formula.expression import variables
from mcsim.methods.inference.components import RandomNames
from mcsim.names import FIXED, Parameter
from mcsim.scenario.conditions import Condition
from mcsim.scenario.families import is_on_scale
from mcsim.scenario.records import MethodSpec
from mcsim.scenario.residuals import residual_model
from mcsim.scenario.true_values import Truth, as_method_has_it, targets_of
from mcsim.scenario.truth import RandomSpec, TruthSpec
from mcsim.simulate.marginal import true_comparison

Floats = NDArray[np.float64]
Implied = dict[Parameter, float | None]

Realized = Mapping[Parameter, Floats]

ROUNDING = 1e-9  # of the largest entry of a column


class Change(NamedTuple):
    """How a method writes the effects of a level: those of the columns `stated`, times A.

    A : None where its columns do not make those, or where they change with the rows (not has_one)
    """

    names: RandomNames
    stated: tuple[str, ...]
    A: Floats | None
    has_one: bool = True


def true_value_of(
    columns: ModelColumns,
    design: Design,
    condition: Condition,
    spec: MethodSpec,
    truth: Truth,
) -> Callable[[Parameter], float | None]:
    """What is true of a method's parameters: what it declares, what is implied, what is stated.

    On another scale than that of the truth's link, what is 0 on any, and means.
    """
    targets, implied = targets_of(spec.truth), implied_truth(columns, design, condition)
    model = residual_model(spec.residual)
    truth = as_method_has_it(truth, condition.truth, model, design.factors)
    has_truth = is_on_scale(spec, condition.truth)
    named = {*columns.names, *condition.truth.fixed, *truth.estimands}

    def true_value(one: Parameter) -> float | None:
        if compared := truth.comparisons.get(targets.get(one, one).name):
            return true_comparison(compared, design, condition.truth)
        if not has_truth and one not in targets:
            return null_on_any_scale(one, condition.truth)
        if one in targets:
            return truth.of(targets[one])
        is_unknown = one.kind == "fixed" and one.name not in named  # a plugin's own
        return None if is_unknown else with_implied(truth, implied, one)

    return true_value


def implied_truth(columns: ModelColumns, design: Design, condition: Condition) -> Implied:
    """Truth of fixed effects, and of levels, some of whose columns in the truth a method lacks.

    None where there is none: of names with a factor that the truth lacks, where the method's
    columns do not make those of the truth; of all, where columns change with the rows that a
    replicate has.
    """
    truth = condition.truth
    has_one = not condition.has_own_rows
    found = _of_fixed(columns, design, truth.fixed, has_one=has_one)
    for level, change in changes_of(columns, design, condition).items():
        found |= _of_level(change, truth.random[level])
    return found


def changes_of(columns: ModelColumns, design: Design, condition: Condition) -> dict[str, Change]:
    """By level, how a method writes its effects; levels that it writes as the truth left out."""
    truth, has_one = condition.truth, not condition.has_own_rows
    changes = {
        one.level: _change(one, design, truth.random[one.level], has_one=has_one)
        for one in columns.levels
        if one.level in truth.random
    }
    return {level: one for level, one in changes.items() if one is not None}


def realized_as_written(realized: Realized, changes: Mapping[str, Change]) -> Realized:
    """Realized values of effects as a method writes them; not a number where that is not known."""
    found = dict(realized)
    for level, change in changes.items() if realized else ():
        if change.A is None and change.has_one:
            continue
        own = [one for one in found if one.level == level]
        n = len(found[own[0]])
        for one in own:
            del found[one]
        covariance = np.full((n, len(change.names.columns), len(change.names.columns)), np.nan)
        if change.A is not None:
            covariance = change.A @ _covariance(realized, level, change.stated) @ change.A.T
        sds = np.sqrt(np.maximum(np.einsum("nii->ni", covariance), 0.0))
        found |= dict(zip(change.names.sds(), sds.T, strict=True))
        for i, j in change.names.correlated_pairs():
            with np.errstate(divide="ignore", invalid="ignore"):
                value = covariance[:, i, j] / (sds[:, i] * sds[:, j])
            found[change.names.correlation(i, j)] = value
    return found


def _covariance(realized: Realized, level: str, stated: tuple[str, ...]) -> Floats:
    """Covariance (n, q, q) of effects by their SDs and correlations."""
    sds = np.stack([realized[Parameter.of_level("sd", level, one)] for one in stated], axis=1)
    found = sds[:, :, None] * sds[:, None, :]
    for i, first in enumerate(stated):
        for j, second in enumerate(stated[:i]):
            correlation = realized[Parameter.of_level("correlation", level, first, second)]
            found[:, i, j] *= correlation
            found[:, j, i] *= correlation
    return found


def null_on_any_scale(parameter: Parameter, truth: TruthSpec) -> float | None:
    """0 for an effect of what the mean does not depend on, whatever the link; else None.

    Neither fixed effects nor the variance of the random ones may depend on it.
    """
    if parameter.kind != "fixed" or parameter.name == "Intercept":
        return None
    effects = {name for name, value in truth.fixed.items() if value}
    effects |= {name for one in truth.random.values() for name in one.columns}
    used = {name for one in effects for name in _variables(one)}
    return None if _variables(parameter.name) <= used else 0.0


def _variables(column: str) -> set[str]:
    """Names of the data columns that a column is made of."""
    if column == "Intercept":
        return set()
    return {name for piece in read_column(column) for name in variables(piece.base)}


def with_implied(truth: Truth, implied: Implied, parameter: Parameter) -> float | None:
    """The true value of a parameter, with what is implied in place of what is stated."""
    if parameter in implied:
        return implied[parameter]
    parts: Iterable[Parameter] = truth.estimands.get(parameter.name) or ()
    if parameter.is_derived:
        parts = [one for one in implied if one.kind == "sd"]
    values = {one: implied[one] for one in parts if one in implied}
    if values and not parameter.is_derived and len(values) < len([*parts]):
        return None  # a sum of effects in two codings
    known = {one: value for one, value in values.items() if value is not None}
    if len(known) < len(values):
        return None
    if not parameter.is_derived:
        return replace(truth, fixed={**truth.fixed, **known}).of(parameter)
    levels = {one.level for one in known}
    stated = {one: value for one, value in truth.sds.items() if one.level not in levels}
    return replace(truth, sds=stated | known).of(parameter)


def _of_fixed(
    columns: ModelColumns, design: Design, stated: Mapping[str, float], *, has_one: bool
) -> Implied:
    columns, _ = columns.once("aliased", without_aliased)
    own = [Parameter.read(name, FIXED) for name in columns.names]
    values = {Parameter.read(name, FIXED): value for name, value in stated.items()}
    is_lacking = any(value and one not in own for one, value in values.items())
    if not own or not (is_lacking or columns.offset is not None):
        return {}
    if not (has_one or _is_same_in_all_rows((*columns.names, *stated))):
        return dict.fromkeys(own)
    mean = np.zeros(len(columns.X)) if columns.offset is None else -columns.offset
    for name, value in stated.items():
        mean = mean + value * design.columns((name,))[0]
    a = _in_columns(columns.X, mean[:, None])
    if a is None:
        known = [name for name in columns.names if name not in stated and _is_made_of(name, stated)]
        return dict.fromkeys(one for one in own if one not in values and one.name not in known)
    return dict(zip(own, _rounded(a[:, 0], columns.X).tolist(), strict=True))


def _is_made_of(column: str, stated: Iterable[str]) -> bool:
    """Whether all factors of a product stand in columns of the truth: 0 is then what it says."""
    known = [piece for name in stated if name != "Intercept" for piece in read_column(name)]
    return column == "Intercept" or all(piece in known for piece in read_column(column))


def _change(
    level: RandomColumns, design: Design, spec: RandomSpec, *, has_one: bool
) -> Change | None:
    sds = spec.standard_deviations
    stated = tuple(name for name in spec.columns if sds[name] > 0.0)
    names = RandomNames(level.level, level.names, level.structures)
    if {Parameter.of_level("sd", level.level, name) for name in stated} <= set(names.sds()):
        return None
    if not (has_one or _is_same_in_all_rows((*level.names, *stated))):
        return Change(names, stated, None, has_one=False)
    return Change(names, stated, _in_columns(level.Z, design.columns(stated).T))


def _of_level(change: Change, spec: RandomSpec) -> Implied:
    names, stated, A, has_one = change
    if not has_one:
        return dict.fromkeys(names.parameters())
    if A is None:
        named = [Parameter.of_level("sd", names.level, name) for name in spec.columns]
        lost = [one for one in names.sds() if one not in named]
        return dict.fromkeys([*lost, *(one.as_variance for one in lost)])
    sd = np.array([spec.standard_deviations[name] for name in stated])
    correlation = np.array([[spec.correlation_of(a, b) for b in stated] for a in stated])
    return _values(names, A @ (sd[:, None] * correlation * sd) @ A.T)


def _is_same_in_all_rows(names: Iterable[str]) -> bool:
    """Whether columns are the same in some rows, whatever the others are."""
    return not any(map(is_of_all_rows, names))


def _in_columns(Z: Floats, T: Floats) -> Floats | None:
    """A such that T = Z A; None where there is none, or more than one."""
    A, _, rank, _ = np.linalg.lstsq(Z, T)
    is_made = np.abs(Z @ A - T).max() <= ROUNDING * np.abs(T).max()
    return np.asarray(A, dtype=np.float64) if rank == Z.shape[1] and is_made else None


def _rounded(a: Floats, X: Floats) -> Floats:
    """The coefficients, 0 where what they add to the mean is rounding."""
    added = np.abs(a) * np.abs(X).max(axis=0)
    return np.where(added < ROUNDING * added.max(), 0.0, a)


def _values(names: RandomNames, Psi: Floats) -> Implied:
    variances = np.where(np.abs(Psi.diagonal()) < ROUNDING * np.abs(Psi).max(), 0.0, Psi.diagonal())
    found: Implied = {}
    for one, variance in zip(names.sds(), variances.tolist(), strict=True):
        found |= {one: variance**0.5, one.as_variance: variance}
    for i, j in names.correlated_pairs():
        scale = float(np.sqrt(variances[i] * variances[j]))
        shared = float(Psi[i, j]) if abs(Psi[i, j]) > ROUNDING * scale else 0.0
        found[names.correlation(i, j)] = shared / scale if scale > 0.0 else None
    return found
