"""A user's function as a method: a data frame in, estimates out."""

import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.optimum.search import Status
from mcsim.errors import StoppedError
from mcsim.methods.inference.fixed_effects import ParameterBlock, t_test
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import (
    Analysis,
    FitOutcomes,
    Floats,
    MethodSettings,
    StreamOf,
)
from mcsim.names import ESTIMATES, Parameter
from mcsim.scenario.plugin_file import describe, function_of
from mcsim.scenario.true_values import Truth

_RULES: dict[str, tuple[str, Callable[[float], bool]]] = {  # what a number must be, or None
    "estimate": ("a finite number", math.isfinite),
    "std_error": ("a finite number of at least 0", lambda number: 0.0 <= number < math.inf),
    "df": ("a number above 0", lambda number: number > 0.0),
    "ci_lower": ("a number", lambda number: not math.isnan(number)),
    "ci_upper": ("a number", lambda number: not math.isnan(number)),
    "p_value": ("a number from 0 to 1", lambda number: 0.0 <= number <= 1.0),
}


class PluginMethod:
    """A function of a plugin, called once for every data set."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        self._function = function_of(settings.plugin, settings.estimator)
        assert settings.plugin is not None
        self._plugin = settings.plugin
        self._columns, self._settings = columns, settings
        self.n_values = len(columns.X)
        self.n_parameters = len(self._function.parameters)

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return [Parameter.read(name) for name in self._function.parameters]

    def theory(self, _truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """None."""
        return {}

    def take(self, responses: Floats) -> Floats:
        """The responses, which are fitted later, when there are random numbers."""
        return responses.copy()

    def analyse(self, taken: Sequence[Floats], stream_of: StreamOf) -> Analysis:
        """Call the function for every response; what it raises is the message of a failed fit."""
        responses = np.concatenate(taken)
        n = len(responses)
        values = np.full((len(self._function.parameters), len(ESTIMATES), n), np.nan)
        status, messages = np.full(n, int(Status.OK)), list[str | None]([None] * n)
        for row, y in enumerate(responses):
            try:
                values[:, :, row] = self._estimates(y, stream_of(row))
            except StoppedError:  # what a signal becomes
                raise
            except BaseException as error:  # whatever the user's function raises, sys.exit() too
                status[row] = Status.FAILED
                messages[row] = describe(error, self._plugin)
        blocks = [
            ParameterBlock(one, *own) for one, own in zip(self.parameters(), values, strict=True)
        ]
        none = np.full(n, np.nan)
        return Analysis({"own": blocks}, FitOutcomes(status, none, none, none, messages))

    def _estimates(self, y: Floats, generator: np.random.Generator) -> Floats:
        """What the function returns for one data set: (n_parameters, n_measures)."""
        formula = self._columns.formula
        given = {
            "data": self._columns.frame.copy().assign(**{formula.response: y}),
            "formula": formula.text,
            "generator": generator,
        }
        with contextlib.redirect_stdout(sys.stderr):  # what mcsim prints stays alone
            found = self._function.call(**{name: given[name] for name in self._function.arguments})
        if not isinstance(found, Mapping):
            raise TypeError(f"must return a dict of estimates, not {type(found).__name__}")
        for name in found:
            if name not in self._function.parameters:
                raise ValueError(f"{name!r} is none of what @estimator names")
        confidence = self._settings.confidence
        rows = [_row(name, found.get(name), confidence) for name in self._function.parameters]
        if all(np.isnan(row[0]) for row in rows):
            raise ValueError("there is no estimate")
        return np.array(rows)


def _row(name: str, found: Any, confidence: float) -> list[float]:
    """Numbers of one parameter; std_error alone gives the interval and the p-value."""
    given = found if isinstance(found, Mapping) else {"estimate": found}
    for key in given:
        if key not in ESTIMATES:
            raise ValueError(f"{key!r} of {name!r}; allowed are {', '.join(ESTIMATES)}")
    numbers = {key: np.nan if value is None else float(value) for key, value in given.items()}
    for key, number in numbers.items():
        rule, is_sound = _RULES[key]
        if given[key] is not None and not is_sound(number):
            raise ValueError(f"{key} of {name!r} is {number:g}; it must be {rule}")
    if numbers.get("ci_lower", -np.inf) > numbers.get("ci_upper", np.inf):
        raise ValueError(f"ci_lower of {name!r} lies above its ci_upper")
    row = {key: numbers.get(key, np.nan) for key in ESTIMATES}
    if "std_error" in numbers and not {"ci_lower", "ci_upper", "p_value"} & numbers.keys():
        df = np.array(numbers.get("df", np.inf))
        lower, upper, p_value = t_test(
            np.array(row["estimate"]), np.array(row["std_error"]), df, confidence
        )
        row |= {"ci_lower": float(lower), "ci_upper": float(upper), "p_value": float(p_value)}
    return [row[key] for key in ESTIMATES]
