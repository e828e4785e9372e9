"""Negative binomial counts, variance mu + tau mu^2, with the log link; tau = 0 is Poisson.

What the functions give is said in binomial.py. The terms of -log-likelihood that depend on y and
tau alone, sum log(1 + j tau) for j < y, are those of `log_rising`.
"""

import math

from mcsim.engine.arithmetic.compiled import part, step

SMALL = 0.02  # of tau mu, below which a series tells more than differences
TERMS = 12


@part
def nbinom_row(y, eta, tau):
    """Without log(y!) and sum log(1 + j tau)."""
    mu = math.exp(eta)
    x = tau * mu
    log_part = mu if x == 0.0 else math.log1p(x) / tau
    w = mu * (1.0 + tau * y) / ((1.0 + x) * (1.0 + x))
    nll = log_part - y * (eta - math.log1p(x))
    return nll, (y - mu) / (1.0 + x), w, w * (1.0 - x) / (1.0 + x)


@part
def nbinom_slopes(y, eta, tau):
    """Derivatives in tau of the log-likelihood, of r and of w."""
    mu = math.exp(eta)
    x = tau * mu
    if x < SMALL:  # log(1 + x) - x / (1 + x) over x^2
        series = 0.0
        for n in range(TERMS, 1, -1):
            series = (n - 1.0) / n - x * series
        curved = series
    else:
        curved = (math.log1p(x) - x / (1.0 + x)) / (x * x)
    one = 1.0 / (1.0 + x)
    dl = mu * mu * curved - y * mu * one
    dw = mu * one * one * (y - 2.0 * mu * (1.0 + tau * y) * one)
    return dl, -mu * (y - mu) * one * one, dw


@step
def log_rising(n_above, tau):
    """Sum over all responses of log(1 + j tau), j < y, and its derivative in tau.

    n_above : (largest y,) responses above 0, 1, ...
    """
    total, slope = 0.0, 0.0
    for j in range(len(n_above)):
        total += n_above[j] * math.log1p(j * tau)
        slope += n_above[j] * j / (1.0 + j * tau)
    return total, slope
