"""Rows whose predictors move together within a unit: one exponential serves all rows of a unit.

Rows stand by their position within a unit, units with most rows first, so that loops over units
become vector instructions. What is called base is exp(eta) of the rows where a family knows eta by
its exponential alone, else eta.
"""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.arithmetic.compiled import part, step
from mcsim.engine.arithmetic.elementary import exp, log1p
from mcsim.engine.families.kinds import CLOGLOG, LOGIT, NBINOM, POISSON, PROBIT, U, rows_of
from mcsim.engine.families.nbinom import curved_log

FACTORS = 4  # of 1 + exp(eta), whose product has one logarithm


class Stack(NamedTuple):
    """Rows by position within their units.

    start : (n_positions + 1,) first row of a position; unit : (n_units,) most rows first, numbers
    in the order in which rows were given; row : (n_rows,) the same of rows
    is_binary : whether all have one trial
    """

    start: Positions
    unit: Positions
    row: Positions
    trials: Floats
    is_binary: bool


class Shifted(NamedTuple):
    """Rows of a replicate in a stack, and what is found of them.

    y, base, w, w3 : (n_rows,); eta, nll, r : (n_rows,) on the way
    Y, Q : (n_units,) sums of y and of y eta, where base is exp(eta), else 0
    factor, product : (n_units,) on the way
    """

    y: Floats
    base: Floats
    w: Floats
    w3: Floats
    eta: Floats
    nll: Floats
    Y: Floats
    Q: Floats
    factor: Floats
    product: Floats


def stack_of(leaf: Ints, trials: Floats, kind: int) -> Stack:
    """The rows of innermost units (n_rows,), by position.

    Poisson rows of a unit are one row, whose mean is the sum of theirs.
    """
    size = np.bincount(leaf)
    unit = np.argsort(-size, kind="stable")
    if kind == POISSON:
        n = len(unit)
        everyone = np.arange(n, dtype=np.uint64)
        return Stack(np.array([0, n], dtype=np.uint64), everyone, everyone, np.ones(n), True)
    place = np.empty(len(size), dtype=np.int64)
    place[unit] = np.arange(len(unit))
    position = np.arange(len(leaf)) - np.searchsorted(leaf, leaf)
    row = np.lexsort((place[leaf], position))
    start = np.cumsum([0, *np.bincount(position)])
    return Stack(
        start.astype(np.uint64),
        unit.astype(np.uint64),
        row.astype(np.uint64),
        trials[row],
        bool(np.all(trials == 1.0)),
    )


def room_of_rows(stack: Stack) -> Shifted:
    """Memory for the rows of a stack."""
    n, n_units = len(stack.row), len(stack.unit)
    rows, units = [np.zeros(n) for _ in range(6)], [np.zeros(n_units) for _ in range(4)]
    return Shifted(*rows, *units)


@step
def load_rows(kind, stack, leaf, y, eta, out):
    """Put the rows of a replicate into a stack."""
    out.Y[:] = 0.0
    out.Q[:] = 0.0
    if kind == POISSON:
        out.base[:] = 0.0
        for row in range(U(len(y))):
            g = leaf[row]
            out.base[g] += exp(eta[row])
            out.Y[g] += y[row]
            out.Q[g] += y[row] * eta[row]
        for g in range(U(len(out.y))):
            out.y[g] = out.Y[g]
        return
    for i in range(U(len(stack.row))):
        out.y[i], out.eta[i] = y[stack.row[i]], eta[stack.row[i]]
    if kind in (PROBIT, CLOGLOG):
        for i in range(U(len(out.eta))):
            out.base[i] = out.eta[i]
        return
    for j in range(U(len(stack.start) - 1)):
        a = stack.start[j]
        for g in range(stack.start[j + U(1)] - a):
            out.Y[g] += out.y[a + g]
            out.Q[g] += out.y[a + g] * out.eta[a + g]
    for i in range(U(len(out.eta))):
        out.base[i] = exp(out.eta[i])


@step
def unload_rows(kind, stack, leaf, y, eta, rows, derivative, out):
    """Derivatives in the predictors of rows, as they were given, from those of a stack."""
    if kind == POISSON:
        for row in range(U(len(y))):
            g = leaf[row]
            out[row] = y[row] + (derivative[g] - rows.Y[g]) * (exp(eta[row]) / rows.base[g])
        return
    for i in range(U(len(stack.row))):
        out[stack.row[i]] = derivative[i]


@part
def _share(t):
    """1 / (1 + t) and t / (1 + t)."""
    share = 1.0 / (1.0 + t)
    return share, t * share if t < 1.0 else 1.0 - share


@step
def at_modes(kind, stack, rows, shift, tau, R, W, T):
    """W and w' of rows whose predictors are shifted by as much as their unit; sums of r, w, w'."""
    factor, n_units = rows.factor, U(len(shift))
    for g in range(n_units):
        factor[g] = exp(shift[g])
    R[:] = 0.0
    W[:] = 0.0
    T[:] = 0.0
    for j in range(U(len(stack.start) - 1)):
        a, e = stack.start[j], stack.start[j + U(1)]
        y, m, base, w, w3 = (
            rows.y[a:e],
            stack.trials[a:e],
            rows.base[a:e],
            rows.w[a:e],
            rows.w3[a:e],
        )
        if kind == LOGIT:
            for g in range(e - a):
                share, p = _share(base[g] * factor[g])
                R[g] += y[g] - m[g] * p
                w[g] = m[g] * p * share
                w3[g] = w[g] * (share - p)
        elif kind == POISSON:
            for g in range(e - a):
                w[g] = base[g] * factor[g]
                w3[g] = w[g]
                R[g] += y[g] - w[g]
        elif kind == NBINOM:
            for g in range(e - a):
                mu = base[g] * factor[g]
                x = tau * mu
                one = 1.0 / (1.0 + x)
                R[g] += (y[g] - mu) * one
                w[g] = mu * (1.0 + tau * y[g]) * one * one
                w3[g] = w[g] * (1.0 - x) * one
        else:
            eta, nll, r = rows.eta[a:e], rows.nll[a:e], rows.product
            for g in range(e - a):
                eta[g] = base[g] + shift[g]
            rows_of(kind, y, m, eta, tau, nll, r, w, w3)
            for g in range(e - a):
                R[g] += r[g]
        for g in range(e - a):
            W[g] += w[g]
            T[g] += w3[g]


@step
def at_nodes(kind, stack, rows, shift, tau, r, value, sum_r, sum_tau):
    """R of rows, log-likelihoods of units and sums of r and of derivatives in tau.

    As in `at_modes`; sums in tau are those of the negative binomial alone.
    """
    factor, product, n_units = rows.factor, rows.product, U(len(shift))
    for g in range(n_units):
        factor[g] = exp(shift[g])
        value[g] = rows.Q[g] + rows.Y[g] * shift[g]
    product[:] = 1.0
    sum_r[:] = 0.0
    sum_tau[:] = 0.0
    n_positions = U(len(stack.start) - 1)
    for j in range(n_positions):
        a, e = stack.start[j], stack.start[j + U(1)]
        y, m, base, own = rows.y[a:e], stack.trials[a:e], rows.base[a:e], r[a:e]
        if kind == LOGIT and stack.is_binary:
            _binary_at(y, base, factor, own, product, sum_r)
            if j % U(FACTORS) == U(FACTORS - 1) or j == n_positions - U(1):
                for g in range(n_units):
                    value[g] -= log1p(product[g] - 1.0)
                product[:] = 1.0
        elif kind == LOGIT:
            for g in range(e - a):
                t = base[g] * factor[g]
                own[g] = y[g] - m[g] * _share(t)[1]
                sum_r[g] += own[g]
                value[g] -= m[g] * log1p(t)
        elif kind == POISSON:
            for g in range(e - a):
                mu = base[g] * factor[g]
                own[g] = y[g] - mu
                sum_r[g] += own[g]
                value[g] -= mu
        elif kind == NBINOM:
            _nbinom_at(y, base, factor, tau, own, value, sum_r, sum_tau)
        else:
            eta, nll, w, w3 = rows.eta[a:e], rows.nll[a:e], factor, product
            for g in range(e - a):
                eta[g] = base[g] + shift[g]
            rows_of(kind, y, m, eta, tau, nll, own, w, w3)
            for g in range(e - a):
                sum_r[g] += own[g]
                value[g] -= nll[g]


@step
def _binary_at(y, base, factor, r, product, sum_r):
    for g in range(U(len(y))):
        t = base[g] * factor[g]
        r[g] = y[g] - _share(t)[1]
        sum_r[g] += r[g]
        product[g] *= 1.0 + t


@step
def _nbinom_at(y, base, factor, tau, r, value, sum_r, sum_tau):
    for g in range(U(len(y))):
        mu = base[g] * factor[g]
        x = tau * mu
        one, log_x = 1.0 / (1.0 + x), log1p(x)
        r[g] = (y[g] - mu) * one
        sum_r[g] += r[g]
        value[g] -= (mu if x == 0.0 else log_x / tau) + y[g] * log_x
        sum_tau[g] += mu * mu * curved_log(x, log_x, one) - y[g] * mu * one


@step
def dispersion_at_modes(stack, rows, tau, R_tau, W_tau):
    """Sums of the derivatives of r and w in tau, of negative binomial rows at their modes."""
    R_tau[:] = 0.0
    W_tau[:] = 0.0
    for j in range(U(len(stack.start) - 1)):
        a = stack.start[j]
        for g in range(stack.start[j + U(1)] - a):
            y, mu = rows.y[a + g], rows.base[a + g] * rows.factor[g]
            one = 1.0 / (1.0 + tau * mu)
            R_tau[g] -= mu * (y - mu) * one * one
            W_tau[g] += mu * one * one * (y - 2.0 * mu * (1.0 + tau * y) * one)
