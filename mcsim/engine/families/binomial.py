"""Binomial counts of trials: y successes of m.

Each function gives, at a linear predictor eta, minus the log-likelihood but for the binomial
coefficient, its first derivative with the sign of the log-likelihood's, r = l', and w = -l'' and
its derivative w' = -l'''.
"""

import math

from mcsim.engine.arithmetic.compiled import part
from mcsim.engine.arithmetic.elementary import exp, log1p

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
FAR = -10.0  # below this the normal distribution function is taken by its continued fraction
TERMS = 30
NEAR_ZERO = 1e-3  # of exp(eta), below which its powers tell more than differences
ROOT_2 = math.sqrt(2.0)


@part
def logit_row(y, m, eta):
    """P = 1 / (1 + exp(-eta))."""
    small = exp(-abs(eta))
    share = 1.0 / (1.0 + small)
    p = share if eta > 0.0 else small * share
    w = m * small * share * share
    nll = m * (max(eta, 0.0) + log1p(small)) - y * eta
    return nll, y - m * p, w, w * (1.0 - 2.0 * p)


@part
def log_normal_tail(eta):
    """Log of Phi(eta), and its derivative, phi / Phi."""
    if eta > FAR:
        Phi = 0.5 * math.erfc(-eta / ROOT_2)
        return math.log(Phi), math.exp(-0.5 * eta * eta - HALF_LOG_2PI) / Phi
    ratio = -eta  # Mills' ratio, by Laplace's continued fraction
    for term in range(TERMS, 0, -1):
        ratio = -eta + term / ratio
    return -0.5 * eta * eta - HALF_LOG_2PI - math.log(ratio), ratio


@part
def probit_row(y, m, eta):
    """P = Phi(eta)."""
    log_p, h = log_normal_tail(eta)
    log_q, k = log_normal_tail(-eta)
    n = m - y
    w = y * h * (eta + h) + n * k * (k - eta)
    third = n * k * ((k - eta) * (2.0 * k - eta) - 1.0) - y * h * (
        (eta + h) * (eta + 2.0 * h) - 1.0
    )
    return -y * log_p - n * log_q, y * h - n * k, w, third


@part
def cloglog_row(y, m, eta):
    """P = 1 - exp(-t), t = exp(eta)."""
    t = math.exp(eta)
    n = m - y
    if y == 0.0:
        return n * t, -n * t, n * t, n * t
    if t < NEAR_ZERO:
        g = 1.0 - t * (0.5 - t / 12.0 * (1.0 - t * t / 60.0))
        k = t * (0.5 + t / 12.0 * (1.0 - t * t / 60.0))
        log_p = eta - t * (0.5 - t / 24.0 * (1.0 - t * t / 120.0))
    else:
        g = t / math.expm1(t) if t < 700.0 else 0.0
        k = t + g - 1.0
        log_p = math.log(-math.expm1(-t))
    nll = n * t - y * log_p
    return nll, y * g - n * t, y * g * k + n * t, y * g * (t - g * k - k * k) + n * t
