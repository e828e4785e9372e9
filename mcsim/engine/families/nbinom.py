"""Negative binomial counts, variance mu + tau mu^2, with the log link; tau = 0 is Poisson.

What the functions give is said in binomial.py. The terms of -log-likelihood that depend on y and
tau alone, sum log(1 + j tau) for j < y, are those of `log_rising`.
"""

import math

from mcsim.engine.arithmetic.compiled import part, step
from mcsim.engine.arithmetic.elementary import exp, log1p

SMALL = 0.02  # of tau mu, below which a series tells more than differences
S2, S3, S4, S5, S6, S7, S8, S9, S10 = ((n - 1.0) / n for n in range(2, 11))


@part
def nbinom_row(y, eta, tau):
    """Without log(y!) and sum log(1 + j tau)."""
    mu = exp(eta)
    x = tau * mu
    log_x = log1p(x)
    log_part = mu if x == 0.0 else log_x / tau
    one = 1.0 / (1.0 + x)
    w = mu * (1.0 + tau * y) * one * one
    return log_part - y * (eta - log_x), (y - mu) * one, w, w * (1.0 - x) * one


@part
def nbinom_slopes(y, eta, tau):
    """Derivatives in tau of the log-likelihood, of r and of w."""
    mu = exp(eta)
    x = tau * mu
    one = 1.0 / (1.0 + x)  # log(1 + x) - x / (1 + x) over x^2
    series = S6 - x * (S7 - x * (S8 - x * (S9 - x * S10)))
    series = S2 - x * (S3 - x * (S4 - x * (S5 - x * series)))
    curved = series if x < SMALL else (log1p(x) - x * one) / (x * x)
    dl = mu * mu * curved - y * mu * one
    dw = mu * one * one * (y - 2.0 * mu * (1.0 + tau * y) * one)
    return dl, -mu * (y - mu) * one * one, dw


@step
def log_rising(n_above, tau):
    """Sum over all responses of log(1 + j tau), j < y, and its derivative in tau.

    n_above : (largest y,) responses above 0, 1, ...
    """
    total, slope, lost = 0.0, 0.0, 0.0
    for j in range(len(n_above)):
        term = n_above[j] * math.log1p(j * tau) - lost  # of many terms rounding would add up
        raised = total + term
        lost = (raised - total) - term
        total = raised
        slope += n_above[j] * j / (1.0 + j * tau)
    return total, slope
