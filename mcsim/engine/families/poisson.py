"""Poisson counts, with the log link; what the functions give is said in binomial.py."""

from mcsim.engine.arithmetic.compiled import part
from mcsim.engine.arithmetic.elementary import exp


@part
def poisson_row(y, eta):
    """Without log(y!)."""
    mu = exp(eta)
    return mu - y * eta, y - mu, mu, mu
