"""Negative binomial counts, variance mu + tau mu^2, with the log link; tau = 0 is Poisson.

What the functions give is said in binomial.py. The terms of -log-likelihood that depend on y and
tau alone, sum log(1 + j tau) for j < y, are those of `log_rising`.
"""

import math

from mcsim.engine.arithmetic.compiled import part, step
from mcsim.engine.arithmetic.elementary import exp, log1p

DIRECT = 64  # terms of a sum that are added one by one
NO_DIGITS_LEFT = 0.02  # of tau y, below which a series tells more than differences
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
def curved_log(x, log_x, one):
    """Log(1 + x) - x / (1 + x) over x^2, given the logarithm and 1 / (1 + x)."""
    series = S6 - x * (S7 - x * (S8 - x * (S9 - x * S10)))
    series = S2 - x * (S3 - x * (S4 - x * (S5 - x * series)))
    return series if x < SMALL else (log_x - x * one) / (x * x)


@part
def nbinom_slopes(y, eta, tau):
    """Derivatives in tau of the log-likelihood, of r and of w."""
    mu = exp(eta)
    x = tau * mu
    one = 1.0 / (1.0 + x)
    dl = mu * mu * curved_log(x, log1p(x), one) - y * mu * one
    dw = mu * one * one * (y - 2.0 * mu * (1.0 + tau * y) * one)
    return dl, -mu * (y - mu) * one * one, dw


@step
def log_rising(n_above, y, tau):
    """Sum over all responses of log(1 + j tau), j < y, and its derivative in tau.

    n_above : (DIRECT or less,) responses above 0, 1, ...; y : all of them
    """
    total, slope, lost = 0.0, 0.0, 0.0
    for j in range(len(n_above)):
        term = n_above[j] * math.log1p(j * tau) - lost  # of many terms rounding would add up
        raised = total + term
        lost = (raised - total) - term
        total = raised
        slope += n_above[j] * j / (1.0 + j * tau)
    for row in range(len(y)):
        if y[row] > DIRECT:
            more = _sum_from_direct(y[row], tau)
            total += more[0]
            slope += more[1]
    return total, slope


@part
def _sum_from_direct(y, tau):
    """The same of one response, from j = DIRECT on, by Euler and Maclaurin's formula."""
    n, low, high = y - DIRECT, 1.0 + tau * DIRECT, 1.0 + tau * y
    s = tau * n / low
    log_s = math.log1p(s)
    over = 0.0 if s == 0.0 else (1.0 + s) * log_s / s - 1.0
    total = n * (math.log(low) + over) - 0.5 * log_s + (_ends(tau / high) - _ends(tau / low))
    if tau * y < NO_DIGITS_LEFT:
        slope, power, a, b = 0.0, 1.0, float(DIRECT * DIRECT), y * y
        for k in range(2, 10):
            slope += power * (b - a) / k
            power, a, b = -power * tau, a * DIRECT, b * y
    else:
        slope = (tau * n - log_s) / (tau * tau)
    slope -= 0.5 * (y / high - DIRECT / low)
    of_high, of_low = _slope_of_ends(tau / high), _slope_of_ends(tau / low)
    return total, slope + of_high / (high * high) - of_low / (low * low)


@part
def _ends(h):
    square = h * h
    return h * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))


@part
def _slope_of_ends(h):
    square = h * h
    return 1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square / 240.0))
