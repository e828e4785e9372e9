"""Laplace fits of blocks of replicates: original columns in, original columns out."""

from dataclasses import dataclass

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.replicates import apply, inverse_positive, product, transpose
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.families.kinds import NBINOM
from mcsim.engine.fit import factor_slopes, weighted
from mcsim.engine.laplace.crossed_likelihood import CrossedLaplaceLikelihood
from mcsim.engine.laplace.crossing import Cross
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.nest import Nest
from mcsim.engine.laplace.quadrature import QuadratureLikelihood
from mcsim.engine.laplace.search import laplace_optima
from mcsim.engine.laplace.separation import runaway_direction, uniform_levels
from mcsim.engine.optimum.search import Optima
from mcsim.engine.optimum.status import Status

SUSPECT = 10.0  # of a fixed part or an SD on the scale of the link: is it a runaway?


@dataclass(frozen=True)
class LaplaceFit:
    """Fits of one model to a block of replicates; levels with random effects, outermost first.

    coefficients : (n_replicates, p); covariance : (n_replicates, p, p), theirs
    factors : per level (n_replicates, q, q) Lam; slopes : per level (n_replicates, n_theta, q, q)
    component_covariance : (n_replicates, n_theta, n_theta) of the parameters of Lam, 0 where held
    cross_covariance : (n_replicates, n_theta, p) of these and the coefficients
    dispersion : (n_replicates,) the negative binomial's tau, with log_dispersion_se; 0 and NaN
    runaway : (n_replicates, p) coefficients that run off, in units that X has; 0 where none does
    runaway_level : (n_replicates,) a level whose SD does, outermost 0; -1 where none
    certificate : (n_replicates,) relative violation of the first-order conditions
    theta, order : the optimum, as its likelihood has it; information : (n_replicates,) of rows, as
        if they were independent, in a coefficient of X~
    """

    coefficients: Floats
    covariance: Floats
    factors: tuple[Floats, ...]
    slopes: tuple[Floats, ...]
    component_covariance: Floats
    cross_covariance: Floats
    dispersion: Floats
    log_dispersion_se: Floats
    loglik: Floats
    status: Ints
    evaluations: Ints
    certificate: Floats
    runaway: Floats
    runaway_level: Ints
    theta: Floats
    order: Ints
    information: Floats

    @property
    def covariances(self) -> tuple[Floats, ...]:
        """Of the random effects per level: (n_replicates, q, q)."""
        return tuple(product(Lam, transpose(Lam)) for Lam in self.factors)


def fit_laplace(
    design: CompiledDesign, nest: Nest | Cross, kind: int, responses: Floats, n_points: int = 1
) -> LaplaceFit:
    """Fit every response.

    Parameters
    ----------
    nest : of the design's rows; kind : of families/kinds.py
    responses : (n_replicates, n_rows), rows in the order in which the design was given
    n_points : of quadrature per effect; 1 is Laplace's approximation
    """
    sorted_responses = np.ascontiguousarray(responses[:, design.order])
    likelihood = likelihood_of_counts(design, nest, kind, sorted_responses, n_points)
    optima, information = laplace_optima(likelihood)
    n_lam, first = likelihood.n_lam, likelihood.n_covariances
    to_original = np.tile(np.linalg.inv(design.R), (len(responses), 1, 1))
    inverse = _inverse_information(optima)
    covariance = product(product(to_original, inverse[:, first:, first:]), transpose(to_original))
    slopes = factor_slopes(design, optima.order)
    theta = optima.theta[:, :n_lam]
    root, log_se = np.zeros(len(theta)), np.full(len(theta), np.nan)
    if kind == NBINOM:
        root = optima.theta[:, n_lam]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_se = 2.0 * np.sqrt(inverse[:, n_lam, n_lam]) / np.where(root > 0.0, root, np.nan)
    runaway, level = _runaways(likelihood, optima)
    is_runaway = runaway.any(axis=1) | (level >= 0)
    return LaplaceFit(
        coefficients=apply(to_original, optima.theta[:, first:]),
        covariance=covariance,
        factors=tuple(weighted(slope, theta) for slope in slopes),
        slopes=slopes,
        component_covariance=inverse[:, :n_lam, :n_lam],
        cross_covariance=product(inverse[:, :n_lam, first:], transpose(to_original)),
        dispersion=root**2,
        log_dispersion_se=log_se,
        loglik=-0.5 * optima.found.f,
        status=np.where(is_runaway, Status.FAILED, optima.status),
        evaluations=optima.evaluations,
        certificate=optima.violation,
        runaway=apply(to_original, runaway),
        runaway_level=level,
        theta=optima.theta,
        order=optima.order,
        information=information,
    )


def likelihood_of_counts(
    design: CompiledDesign, nest: Nest | Cross, kind: int, responses: Floats, n_points: int
) -> LaplaceLikelihood:
    """By Laplace's approximation or quadrature; rows of the responses are sorted."""
    if isinstance(nest, Cross):
        return CrossedLaplaceLikelihood(nest, design.blocks, kind, responses)
    if n_points > 1:
        return QuadratureLikelihood(nest, design.blocks, kind, responses, n_points)
    return LaplaceLikelihood(nest, design.blocks, kind, responses)


def _inverse_information(optima: Optima) -> Floats:
    """Covariance of (theta, beta) by the exact Hessian of -2 logLik; zero where held, NaN: none."""
    H, held = optima.hessian, optima.is_held
    size = H.shape[1]
    H = np.where(np.isfinite(H), H, -np.eye(size)) + held[:, :, None] * np.eye(size)
    inverse = 2.0 * inverse_positive(H)
    is_out: Flags = held[:, :, None] | held[:, None, :]
    return np.where(is_out & np.isfinite(inverse), 0.0, inverse)


def _runaways(likelihood: LaplaceLikelihood, optima: Optima) -> tuple[Floats, Ints]:
    """Directions of coefficients (n, p) and levels (n,) that run off, where that is suspected."""
    nest, kind, first = likelihood.nest, likelihood.kind, likelihood.n_covariances
    n_levels = len(nest.level_start) - 1
    beta, sds = optima.theta[:, first:], np.abs(optima.theta[:, : likelihood.n_lam])
    reach = np.abs(beta).sum(axis=1) + sds.max(axis=1, initial=0.0)
    direction, level = np.zeros(beta.shape), np.full(len(beta), -1)
    for row in np.flatnonzero((optima.status > Status.BOUNDARY) | ~(reach < SUSPECT)):
        y = likelihood.responses[row]
        found = runaway_direction(kind, nest.X.T, nest.trials, y)
        if found is not None:
            direction[row] = found
        elif len(levels := uniform_levels(kind, nest, y)):
            level[row] = n_levels - 1 - levels[-1]
    return direction, level
