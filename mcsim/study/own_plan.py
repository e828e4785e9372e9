"""Which methods analyse replicates with rows of their own from arrays, and of which."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mcsim.design.columns import Floats, ModelColumns, without_columns
from mcsim.engine.own_rows import Structures
from mcsim.errors import DataError
from mcsim.formula.column_names import is_of_all_rows
from mcsim.methods.likelihood import LikelihoodMethod
from mcsim.methods.method import fixed_contrasts
from mcsim.names import FIXED, Parameter
from mcsim.scenario.estimators import facts_of
from mcsim.simulate.responses import Simulator
from mcsim.study.at_truth import is_known_at_truth, true_value_in
from mcsim.study.own_blocks import RowsKey
from mcsim.study.own_columns import is_of_columns
from mcsim.study.prepared import PreparedCondition
from mcsim.study.ready import ReadyMethod

LARGEST_RATIO = 1e8  # of a response's variances, times rows: rounding leaves all there is to know


@dataclass(frozen=True)
class TruthOfRows:
    """How a method's fixed effects are estimated at the truth.

    key : of the truth's random effects, with those that the method has beside them
    covariances : (q, q) of each level, outermost first
    parameters, L : (k, p) contrasts; value : (k,) what is true of them, NaN where nothing is
    is_whole : whether the method has all fixed effects, and so their truth as its mean
    """

    key: RowsKey
    covariances: tuple[Floats, ...]
    parameters: tuple[Parameter, ...]
    L: Floats
    value: Floats
    is_whole: bool


@dataclass(frozen=True)
class MethodOfRows:
    """A method whose replicates are analysed without data frames.

    columns : of the condition, without fixed effects that the method leaves out
    structures : of its levels where all replicates are fitted in one go, else None
    """

    ready: ReadyMethod
    columns: ModelColumns
    key: RowsKey
    structures: Structures | None
    truth: TruthOfRows | None


@dataclass(frozen=True)
class Together:
    """What of a condition is fitted together.

    columns : of the condition's design, by name; n_units : of all its levels
    """

    methods: Mapping[str, MethodOfRows]
    columns: Mapping[str, Floats]
    n_units: int = 0

    @property
    def n_values(self) -> int:
        """Numbers that trees of a replicate may have."""
        return sum(len(key.names) ** 2 * self.n_units for key in self.keys)

    @property
    def keys(self) -> dict[RowsKey, bool]:
        """What trees are grown of, and whether the means of the responses are asked about."""
        truths = [one.truth for one in self.methods.values() if one.truth]
        wanted = dict.fromkeys([one.key for one in self.methods.values()], False)
        for one in truths:
            wanted[one.key] = wanted.get(one.key, False) or not one.is_whole
        return wanted


def fitted_together(condition: PreparedCondition) -> Together:
    """The methods of a condition whose replicates can be fitted together, and their columns."""
    return condition.once("together", _fitted_together)


def _fitted_together(condition: PreparedCondition) -> Together:
    methods, columns = {}, dict[str, Floats]()
    if not _can_stack(condition):
        return Together({}, {})
    for name, ready in condition.ready.items():
        one = _method_of_rows(condition, name, ready)
        if one is None:
            continue
        of_truth = [effects.names for effects in condition.simulator.effects] * bool(one.truth)
        own = _columns_of(one.columns) | {
            each: condition.simulator.design.columns((each,))[0]
            for names in of_truth
            for each in names
        }
        if all(np.array_equal(columns.setdefault(each, x), x) for each, x in own.items()) and (
            not condition.condition.design.redraw or _are_named(condition, own)
        ):
            methods[name] = one
    units = condition.simulator.design.unit_of_row.values()
    return Together(methods, columns, sum(int(unit.max()) + 1 for unit in units))


def _are_named(condition: PreparedCondition, columns: Mapping[str, Floats]) -> bool:
    """Whether their names say what columns are, in any design."""
    design = condition.simulator.design
    try:
        return all(np.array_equal(design.columns((one,))[0], x) for one, x in columns.items())
    except DataError:
        return False


def _can_stack(condition: PreparedCondition) -> bool:
    """Whether units nest, and their rows stand together."""
    is_outer_new = np.zeros(len(condition.simulator.mean), dtype=np.bool_)
    for unit in condition.simulator.design.unit_of_row.values():
        is_new = np.diff(unit, prepend=-1) != 0
        if np.any(np.diff(unit) < 0) or not is_new[is_outer_new].all():
            return False
        is_outer_new = is_new
    return True


def _columns_of(columns: ModelColumns) -> dict[str, Floats]:
    found = dict(zip(columns.names, columns.X.T, strict=True))
    for level in columns.levels:
        found |= dict(zip(level.names, level.Z.T, strict=True))
    return found


def _method_of_rows(
    condition: PreparedCondition, name: str, ready: ReadyMethod
) -> MethodOfRows | None:
    if ready.undetermined or ready.columns.are_crossed or not is_of_columns(ready):
        return None
    columns = without_columns(ready.columns, ready.aliased)
    units, method = condition.simulator.design.unit_of_row, ready.method
    is_one = all(
        level.level in units and np.array_equal(level.unit_of_row, units[level.level])
        for level in columns.levels
    )
    if not is_one or columns.offset is not None or any(map(is_of_all_rows, _columns_of(columns))):
        return None
    key = RowsKey(tuple((one.level, one.names) for one in columns.levels), columns.names)
    try:
        truth = _truth_of_rows(condition, name, columns, key)
    except LookupError:
        return None
    structures = method.structures if isinstance(method, LikelihoodMethod) else None
    return MethodOfRows(ready, columns, key, structures, truth)


def _truth_of_rows(
    condition: PreparedCondition, name: str, columns: ModelColumns, key: RowsKey
) -> TruthOfRows | None:
    """None where nothing is known at the truth; a LookupError where it is not the same for all."""
    truth, ready, simulator = condition.condition.truth, condition.ready[name], condition.simulator
    facts = facts_of(ready.spec.estimator)
    if not (facts.rests_on_residuals and is_known_at_truth(condition.condition)):
        return None
    at_truth, residual = condition.at_truth.get(name), truth.residual
    own = {Parameter.read(one, FIXED) for one in columns.names}
    stated = {Parameter.read(one, FIXED) for one, value in truth.fixed.items() if value}
    has_one_sd = residual is None or not (residual.sd_by or residual.power)
    names = (*truth.fixed, *(name for one in simulator.effects for name in one.names))
    if any(map(is_of_all_rows, names)) or not has_one_sd or not _is_told(simulator):
        raise LookupError(name)
    if at_truth is None:
        raise LookupError(name)
    contrasts = fixed_contrasts(columns, ready.settings)
    contrasts = [one for one in contrasts if one.parameter.kind != "term"]
    own_ready = replace(ready, columns=columns)
    true_value = true_value_in(condition.condition, simulator, own_ready)
    values = [true_value(one.parameter) for one in contrasts]
    effects = {one.level: one for one in simulator.effects}
    in_model = dict(key.levels)
    is_within = all(
        set(one.names) <= set(in_model.get(level, ())) for level, one in effects.items()
    )
    if not is_within:
        levels = tuple((level, one.names) for level, one in effects.items())
        key = RowsKey(levels, key.X)
    covariances = []
    for level, names in key.levels:
        Sigma = np.zeros((len(names), len(names)))
        if level in effects:
            at = [names.index(one) for one in effects[level].names]
            Sigma[np.ix_(at, at)] = effects[level].factor @ effects[level].factor.T
        covariances.append(Sigma)
    none = np.zeros((0, 0))
    return TruthOfRows(
        key,
        tuple(covariances) or (none,),
        tuple(one.parameter for one in contrasts),
        np.concatenate([one.L for one in contrasts]),
        np.array([np.nan if one is None else one for one in values]),
        stated <= own,
    )


def _is_told(simulator: Simulator) -> bool:
    """Whether the residuals are not lost to rounding beside the random effects."""
    size = sum(
        float(np.abs(one.factor).max() * np.abs(one.Z).max()) ** 2 for one in simulator.effects
    )
    return size * len(simulator.mean) < LARGEST_RATIO * simulator.sigma**2
