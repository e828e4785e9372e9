"""The optimum of a likelihood: start, search, certificate."""
