"""Where observed estimates lie among the simulated ones, one by one and taken together.

A parameter's tail probability is 2 min(rank, n + 2 - rank) / (n + 1), its rank being that among the
n simulated estimates and the observed one. Taken together: the smallest of them, against the
smallest of every simulated replicate, whose estimates are ranked in the same way; so it allows for
the number of parameters and for their correlation (Westfall & Young 1993, single-step minP).
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.errors import DataError, nearest_name
from mcsim.names import TERMS, Parameter
from mcsim.results.folder import STATUSES, read_conditions
from mcsim.summary.estimates import read_results
from mcsim.summary.records import Globs, chosen, fit_of, the_one, unique
from mcsim.summary.text import aligned, shown_as

Floats = NDArray[np.float64]

IMPLAUSIBLE = 0.01  # adjusted tail probability below which a value cannot come from the scenario
UNUSUAL = 0.05
FAR = 6.0  # SDs from the mean, beyond all simulated estimates: the same with few replicates
MONTE_CARLO_LEVEL = 0.95
LARGEST = 1e150  # of an estimate
KEYS = ("method", "estimates")  # of a file that is not what mcsim fit prints
LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class Observed:
    """Estimates to be located; method : None where the file does not say"""

    method: str | None
    estimates: Mapping[str, float]


@dataclass(frozen=True)
class Location:
    """Where one estimate lies.

    n : simulated estimates; percentile : share of them below, ties half; distance : from their mean
    in their SDs; is_beyond : outside all of them; tail : two-sided, with its Monte Carlo interval;
    adjusted : for the number of parameters
    """

    parameter: str
    observed: float
    n: int
    mean: float
    q05: float
    q95: float
    percentile: float
    distance: float
    is_beyond: bool
    tail: float
    tail_interval: tuple[float, float]
    adjusted: float
    verdict: str


@dataclass(frozen=True)
class Located:
    """All estimates; joint : probability that the smallest tail is as small, with its interval."""

    method: str
    condition: str
    n_replicates: int
    parameters: tuple[Location, ...]
    joint: float
    joint_interval: tuple[float, float]


def read_observed(path: Path) -> Observed:
    """Read TOML (`method`, a table `estimates`) or what `mcsim fit --format json` prints.

    Raises
    ------
    DataError
        The file cannot be read, or holds no estimates.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except RecursionError:
        raise DataError(f"{path}: tables and lists lie too deep within each other") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    raw = raw if isinstance(raw, dict) else {}
    is_fit = isinstance(raw.get("parameters"), list)
    given = _of_fit(raw["parameters"]) if is_fit else raw.get("estimates")
    if not isinstance(given, dict) or not given:
        raise DataError(
            f"{path}: no estimates. Write a table [estimates] with lines such as sigma = 0.1, or"
            " give the JSON that mcsim fit prints"
        )
    for name, value in given.items():
        if not _is_number(value):
            found = repr(value)[:LONGEST]
            raise DataError(f"{path}: estimates: {name!r} is {found}; it must be a finite number")
        _refuse_beyond(Parameter.read(name), value, f"{path}: ")
    for key in raw if not is_fit else ():
        if key not in KEYS:
            near = nearest_name(key, KEYS)
            raise DataError(f"{path}: unknown key {key!r}.{near} Keys are: {', '.join(KEYS)}")
    method = raw.get("method")
    if not (method is None or isinstance(method, str)):
        raise DataError(f"{path}: method is {repr(method)[:LONGEST]}; it must be text in quotes")
    return Observed(method, {name: float(value) for name, value in given.items()})


def _of_fit(parameters: list[Any]) -> dict[str, Any]:
    """Estimates by name, of the rows that `mcsim fit` prints; those that do not exist left out."""
    rows = [one for one in parameters if isinstance(one, dict) and one.get("component") != TERMS]
    return {
        str(one.get("parameter")): one.get("estimate")
        for one in rows
        if one.get("estimate", "") is not None
    }


def _refuse_beyond(parameter: Parameter, value: float, file: str = "") -> None:
    """Raise a DataError for what no estimate of a parameter can be."""
    low, high = parameter.limits
    if not low <= value <= high:
        rule = "not be negative" if math.isinf(high) else f"be from {low:g} to {high:g}"
        raise DataError(f"{file}estimates: {parameter.name!r} is {value}; it must {rule}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def locate(
    study: Path, observed: Observed, *, method: Globs | None = None, condition: Globs | None = None
) -> Located:
    """Locate observed estimates among those of one method in one condition.

    Raises
    ------
    DataError
        There is no such study, method or condition, or no parameter of the observed ones.
    """
    table = read_conditions(study)
    rows = table.select(["condition", "method", "parameter", "component"]).to_pylist()
    label = the_one("condition", condition, [row["condition"] for row in rows])
    name = _method(method or observed.method, [row["method"] for row in rows])
    wanted = {
        row["parameter"]: number
        for number, row in enumerate(rows)
        if (row["condition"], row["method"]) == (label, name)
    }
    names = _shared(observed.estimates, list(wanted), name)
    for one in observed.estimates:  # of which phi, and the name of a covariate, may be the same
        own = Parameter.read(one, rows[wanted[one]]["component"])
        _refuse_beyond(own, observed.estimates[one])
    replicates, values = _simulated(study, table, [wanted[one] for one in names])
    return _located(Located(name, label, len(replicates), (), 1.0, (0.0, 1.0)), names, values,
                    np.array([observed.estimates[one] for one in names]))  # fmt: skip


def _method(wanted: Globs | None, names: list[str]) -> str:
    """The method; the first of those of one fit, whose estimates are the same."""
    known = unique(names)
    found = chosen("method", wanted, known) if wanted else known
    return found[0] if len(set(map(fit_of, found))) == 1 else the_one("method", wanted, known)


def _shared(given: Mapping[str, float], known: list[str], method: str) -> list[str]:
    """Observed parameters; a variance says the same as its SD."""
    for name in given:
        if name not in known:
            raise DataError(
                f"method {method!r} has no parameter {name!r}. It has: {', '.join(known)}."
                + nearest_name(name, known)
            )
    parameters = [Parameter.read(name) for name in given]
    return [one.name for one in parameters if not (one.is_variance and one.as_sd in parameters)]


def _simulated(study: Path, table: Any, rows: list[int]) -> tuple[NDArray[np.int64], Floats]:
    """Replicates and estimates (n_parameters, n), NaN where there is none."""
    found = {}
    for portion, results in read_results(study, table, STATUSES[:2]):
        for row in set(portion) & set(rows):
            replicates, numbers = results.numbered(row)
            found[row] = replicates, numbers[0]
    replicates = found[rows[0]][0]
    if len(replicates) < 2:
        raise DataError(f"{study}: there are no simulated estimates yet; mcsim run makes them")
    values = np.stack([found[row][1] for row in rows])
    for row, own in zip(rows, values, strict=True):
        if np.sum(~np.isnan(own)) < 2:
            name = table["parameter"][row].as_py()
            raise DataError(
                f"{study}: of {len(replicates):,} simulated data sets fewer than 2 have an estimate"
                f" of {name!r}; leave it out of the observed ones, or run more replicates"
            )
    return replicates, values


def _located(empty: Located, names: list[str], values: Floats, observed: Floats) -> Located:
    together = np.column_stack([values, observed])  # the observed ones last
    tails = np.stack([_tails(one) for one in together])
    smallest = np.nanmin(np.where(np.isnan(tails), 1.0, tails), axis=0)
    parameters = tuple(
        _location(name, values[k][~np.isnan(values[k])], observed[k], tails[k, -1], smallest)
        for k, name in enumerate(names)
    )
    as_small = int(np.sum(smallest[:-1] <= smallest[-1]))
    n = len(smallest) - 1
    return Located(
        empty.method, empty.condition, n, parameters, (as_small + 1) / (n + 1),
        _monte_carlo_interval(as_small, n),
    )  # fmt: skip


def _tails(values: Floats) -> Floats:
    """Two-sided tail probability of every value among all of them; NaN for none."""
    ordered = np.sort(values[~np.isnan(values)])
    at_most = np.searchsorted(ordered, values, side="right")
    at_least = len(ordered) - np.searchsorted(ordered, values, side="left")
    tails = np.minimum(1.0, 2.0 * np.minimum(at_most, at_least) / len(ordered))
    return np.where(np.isnan(values), np.nan, tails)


def _location(
    name: str, simulated: Floats, observed: float, tail: float, smallest: Floats
) -> Location:
    n, below = len(simulated), int(np.sum(simulated < observed))
    ties = int(np.sum(simulated == observed))
    mean, sd = float(simulated.mean()), float(simulated.std(ddof=1))
    beyond = min(below + ties, n - below)
    low, high = _monte_carlo_interval(beyond, n)
    # never below the tail, which ties on the other side make larger
    adjusted = max(tail, (np.sum(smallest[:-1] <= tail) + 1) / len(smallest))
    distance = (observed - mean) / sd if sd > 0.0 else 0.0
    is_far = beyond == 0 and abs(distance) > FAR
    verdict = (
        "impossible" if adjusted < IMPLAUSIBLE or is_far
        else "unusual" if adjusted < UNUSUAL
        else "possible"
    )  # fmt: skip
    q05, q95 = np.quantile(simulated, [0.05, 0.95])
    return Location(
        name, observed, n, mean, float(q05), float(q95), (below + 0.5 * ties) / n, distance,
        beyond == 0, tail, (min(1.0, 2.0 * low), min(1.0, 2.0 * high)), float(adjusted), verdict,
    )  # fmt: skip


def _monte_carlo_interval(count: int, n: int) -> tuple[float, float]:
    """Clopper & Pearson (1934)."""
    alpha = 1.0 - MONTE_CARLO_LEVEL
    low = special.betaincinv(count, n - count + 1, alpha / 2) if count > 0 else 0.0
    high = special.betaincinv(count + 1, n - count, 1 - alpha / 2) if count < n else 1.0
    return float(low), float(high)


def to_json(located: Located) -> str:
    """All numbers as one JSON object."""
    return json.dumps(asdict(located), indent=2, allow_nan=False)


def to_table(located: Located) -> str:
    """A table, and what it says."""
    header = ["parameter", "observed", "mean", "5%", "95%", "percentile", "tail", "adjusted", ""]
    rows = [
        [
            one.parameter,
            *(shown_as(v, ".4g") for v in (one.observed, one.mean, one.q05, one.q95)),
            f"{100 * one.percentile:.1f}", f"{one.tail:.2g}", f"{one.adjusted:.2g}", one.verdict,
        ]
        for one in located.parameters
    ]  # fmt: skip
    where = "" if located.condition == "all" else f", {located.condition}"
    return "\n".join(
        [
            f"Among {located.n_replicates:,} simulated data sets, method {located.method}{where}:",
            "",
            aligned([header, *rows], n_left=1),
            "",
            *filter(None, map(_sentence, located.parameters)),
            *_conclusion(located),
            "",
            "tail: share of simulated estimates at least as far out, both sides; adjusted: allowing"
            "\nfor the number of parameters, and for their correlation.",
        ]
    )


def _sentence(one: Location) -> str:
    if one.verdict == "possible":
        return ""
    side = "large" if one.distance > 0 else "small"
    far = f"it lies {abs(one.distance):.1f} SDs from their mean"
    if one.is_beyond:
        return f"{one.parameter}: none of {one.n:,} simulated estimates is so {side}; {far}."
    return f"{one.parameter}: {100 * one.tail:.2g}% of the estimates are as far out; {far}."


def _conclusion(located: Located) -> list[str]:
    named = {
        verdict: [one.parameter for one in located.parameters if one.verdict == verdict]
        for verdict in ("impossible", "unusual", "possible")
    }
    low, high = located.joint_interval
    joint = f"Taken together: p = {located.joint:.2g} (Monte Carlo {low:.2g} to {high:.2g})"
    if named["impossible"]:
        if located.joint >= IMPLAUSIBLE:  # judged by its distance
            joint += f", which {located.n_replicates:,} data sets can hardly make smaller"
        rest = f" {', '.join(named['possible'])} can." if named["possible"] else ""
        return [
            f"{joint}: these estimates do not come from this scenario.",
            f"{', '.join(named['impossible'])} cannot;{rest}" if rest else "",
        ]
    if located.joint < UNUSUAL:
        return [f"{joint}: unusual for this scenario, not impossible."]
    return [f"{joint}: what this scenario gives."]


FORMATS = {"table": to_table, "json": to_json}
