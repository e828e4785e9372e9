"""How sure a mean is after every look at it: confidence sequences."""

import math

RHO = 1 / 2000  # tightest after some thousand replicates


def radius(n: int, alpha: float) -> float:
    """Half the width of an interval about a mean of `n` values, in SDs of a value.

    It holds the mean after any number of looks with probability 1 - alpha: the mixture of Robbins
    (1970), Annals of Mathematical Statistics 41, 1397-1409, asymptotic in n.
    """
    t = n * RHO
    return math.sqrt(2 * (t + 1) / (n * t) * math.log(math.sqrt(t + 1) / alpha))


def share_of_error(alpha: float, number: int) -> float:
    """The error that the test with a number, from 1, may have; all together have alpha at most."""
    return alpha / (number * (number + 1))
