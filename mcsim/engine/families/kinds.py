"""The families with their links, by number, and their rows: the one place that tells them apart."""

import numpy as np
from scipy import special

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.families.binomial import cloglog_row, logit_row, probit_row
from mcsim.engine.families.nbinom import nbinom_row
from mcsim.engine.families.poisson import poisson_row

U = np.uint64  # an index that cannot be negative needs no check
LOGIT, PROBIT, CLOGLOG, POISSON, NBINOM = range(5)
KINDS = {
    ("binomial", "logit"): LOGIT,
    ("binomial", "probit"): PROBIT,
    ("binomial", "cloglog"): CLOGLOG,
    ("poisson", "log"): POISSON,
    ("nbinom", "log"): NBINOM,
}


@step
def rows_of(kind, y, m, eta, tau, nll, r, w, w3):
    """Minus log-likelihood of rows, r = l', w = -l'' and w', into the last four arrays.

    A loop each, for vector instructions.
    """
    n = U(len(eta))
    if kind == LOGIT:
        for row in range(n):
            nll[row], r[row], w[row], w3[row] = logit_row(y[row], m[row], eta[row])
    elif kind == PROBIT:
        for row in range(n):
            nll[row], r[row], w[row], w3[row] = probit_row(y[row], m[row], eta[row])
    elif kind == CLOGLOG:
        for row in range(n):
            nll[row], r[row], w[row], w3[row] = cloglog_row(y[row], m[row], eta[row])
    elif kind == POISSON:
        for row in range(n):
            nll[row], r[row], w[row], w3[row] = poisson_row(y[row], eta[row])
    else:
        for row in range(n):
            nll[row], r[row], w[row], w3[row] = nbinom_row(y[row], eta[row], tau)


def log_constants(kind: int, responses: Floats, trials: Floats) -> Floats:
    """What `rows_of` leaves out of the log-likelihood: log binomial coefficients or -log(y!).

    Parameters
    ----------
    responses : (n_replicates, n_rows)
    """
    if kind in (POISSON, NBINOM):
        return np.asarray(-special.gammaln(responses + 1.0).sum(axis=1))
    if np.all(trials == 1.0):
        return np.zeros(len(responses))
    failures = trials - responses
    terms = special.gammaln(trials + 1.0) - special.gammaln(responses + 1.0)
    return np.asarray((terms - special.gammaln(failures + 1.0)).sum(axis=1))
