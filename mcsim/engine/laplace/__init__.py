"""Laplace approximation of likelihoods whose responses are not normal."""
