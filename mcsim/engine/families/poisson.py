"""Poisson counts, with the log link; what the functions give is said in binomial.py."""

import math

from mcsim.engine.arithmetic.compiled import part


@part
def poisson_row(y, eta):
    """Without log(y!)."""
    mu = math.exp(eta)
    return mu - y * eta, y - mu, mu, mu
