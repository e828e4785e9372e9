"""Sums over ranges, compiled: four at a time, so that no addition waits for the one before it."""

import numpy as np

from mcsim.engine.compiled import step

U = np.uint64


@step
def total(x, first, end):
    """Sum of x[first:end]."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = end - (end - first) % U(4)
    for i in range(first, whole, U(4)):
        s0 += x[i]
        s1 += x[i + U(1)]
        s2 += x[i + U(2)]
        s3 += x[i + U(3)]
    for i in range(whole, end):
        s0 += x[i]
    return (s0 + s1) + (s2 + s3)


@step
def inner(x, y, first, end):
    """Sum of x y over first:end."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = end - (end - first) % U(4)
    for i in range(first, whole, U(4)):
        s0 += x[i] * y[i]
        s1 += x[i + U(1)] * y[i + U(1)]
        s2 += x[i + U(2)] * y[i + U(2)]
        s3 += x[i + U(3)] * y[i + U(3)]
    for i in range(whole, end):
        s0 += x[i] * y[i]
    return (s0 + s1) + (s2 + s3)
