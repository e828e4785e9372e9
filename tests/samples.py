"""Samples of a single row, and its measures as plain numbers; parts of a study, changed."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq

from mcsim.measures import MEASURES, Sample
from mcsim.results.folder import digest

N_ARRAYS = 9  # of a sample


def sample_of_one(truth, is_scale, alpha, *columns, limits=(math.nan, math.nan)):
    """A row with this truth, or None, and its arrays in the order of `Sample`: (n,) each.

    The last of them may be left out; limits of equivalence.
    """
    theta = np.array([math.nan if truth is None else truth])
    none = np.full(len(columns[0]), math.nan)
    given = [*columns, *[none] * (N_ARRAYS - len(columns))]
    rows = (np.asarray(one, dtype=float)[None, :] for one in given)
    at_edge = is_scale & (theta == 0.0)
    return Sample(theta, np.array([is_scale]), at_edge, alpha, np.array([limits]), *rows)


def changed(sample, **changes):
    """The row with another truth or other arrays."""
    if "truth" in changes:
        changes["truth"] = math.nan if changes["truth"] is None else changes["truth"]
    return replace(sample, **{name: np.array([one]) for name, one in changes.items()})


def measured(name, sample):
    """Value and MCSE of a row."""
    numbers = MEASURES[name](sample)
    assert all(one.shape == (1,) and one.dtype == np.float64 for one in numbers)
    return type(numbers)(*(None if math.isnan(one[0]) else float(one[0]) for one in numbers))


def write_part(path, table):
    """Put a table in the place of a part's file, and in its record."""
    pq.write_table(table, path)
    mark = path.parents[1] / "commits" / f"{path.stem}.json"
    size, sha256 = digest(path.read_bytes())
    recorded = json.loads(mark.read_bytes()) | {path.parent.name: {"bytes": size, "sha256": sha256}}
    mark.write_text(json.dumps(recorded))
