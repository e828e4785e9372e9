"""Samples of a single row, and its measures as plain numbers: None where undefined."""

import math
from dataclasses import replace

import numpy as np

from mcsim.measures import MEASURES, Sample


def sample_of_one(truth, is_scale, alpha, *columns):
    """A row with this truth, or None, and its arrays in the order of `Sample`: (n,) each."""
    theta = np.array([math.nan if truth is None else truth])
    rows = (np.asarray(one, dtype=float)[None, :] for one in columns)
    return Sample(theta, np.array([is_scale]), is_scale & (theta == 0.0), alpha, *rows)


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
