"""Random effects that cross: one set of units eliminated, the rest one dense factor."""
