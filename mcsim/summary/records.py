"""Rows of a summary as records, and which of them a table or a figure shows."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from mcsim.errors import DataError, nearest_name
from mcsim.measures import MEASURES
from mcsim.names import Parameter

Record = dict[str, Any]
T = TypeVar("T")


def unique(values: Iterable[T]) -> list[T]:
    """The values without repetitions, in order of appearance."""
    return list(dict.fromkeys(values))


def fit_of(method: str) -> str:
    """The name that the df methods of one fit share."""
    return method.partition("/")[0]


def without_variances(records: list[Record]) -> list[Record]:
    """All rows but those of variances, unless there is nothing else."""
    kept = [r for r in records if not Parameter.read(r["parameter"], r["component"]).is_variance]
    return kept or records


def one_per_fit(records: Sequence[Record], measures: Sequence[str]) -> list[Record]:
    """Rows without the df methods that agree with another of their fit in all these measures.

    Where all methods of a fit agree, the rest has the name of the fit.
    """
    found: dict[str, dict[tuple[Any, ...], str]] = {}
    for method in unique(record["method"] for record in records):
        own = [record for record in records if record["method"] == method]
        said = tuple((r["place"], r["parameter"], *(r[name] for name in measures)) for r in own)
        found.setdefault(fit_of(method), {}).setdefault(said, method)
    names = {
        method: fit if len(same) == 1 else method
        for fit, same in found.items()
        for method in same.values()
    }
    return [r | {"shown_as": names[r["method"]]} for r in records if r["method"] in names]


def check_measure(name: str) -> str:
    """The name of a measure, or a DataError that lists them."""
    if name not in MEASURES:
        hint = nearest_name(name, MEASURES)
        raise DataError(f"no measure {name!r}. There are: {', '.join(MEASURES)}.{hint}")
    return name
