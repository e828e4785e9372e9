"""Coordinates of all points at which one variance component has a given value.

x stands for the component, smooth and increasing. u, (n, n_theta + 1), is theta and log sigma, but
has coordinates of its own in the place of the parameters that the component ties together; one
of them is left over: it changes nothing, and is pinned.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.blocks import Blocks, entry

PIN = 10.0  # second derivative of what holds a place of u that changes nothing


class Coordinates(ABC):
    """Of one component; x, log_sigma (n,), theta (n, n_theta).

    lower, upper : the range of x; there is no likelihood at an open end
    own : parameters that the component ties together
    """

    lower: float
    upper: float
    is_open = (False, False)
    own: tuple[int, ...]

    @abstractmethod
    def find(self, theta: Floats, log_sigma: Floats) -> tuple[Floats, Floats]:
        """U and x of a point."""

    @abstractmethod
    def place(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Theta and log sigma."""

    @abstractmethod
    def pull(self, u: Floats, x: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Gradients in u and x from g (n, n_theta + 1), that in theta and log sigma."""

    @abstractmethod
    def pin(self, u: Floats) -> tuple[Floats, Floats]:
        """A function that is zero at the best u and holds what changes nothing; its gradient."""

    @abstractmethod
    def with_multiplier(self, u: Floats, x: Floats, g: Floats, D: Floats) -> Floats:
        """Derivative in Psi, (n, n_levels, q, q), of -2 logLik + multiplier x constraint."""

    @abstractmethod
    def value(self, x: Floats) -> Floats:
        """The component."""

    def unit(self, log_sigma: Floats) -> Floats:
        """A change of x that is not small: a radian, where x is an angle."""
        return np.ones(len(log_sigma))

    def lifted(self, u: Floats, least: float) -> Floats:
        """U without zeros among the own parameters, which have no slope there."""
        return u.copy()


class Residual(Coordinates):
    """The residual SD, x itself."""

    lower, upper, is_open = 0.0, np.inf, (True, True)
    own: tuple[int, ...] = ()

    def find(self, theta: Floats, log_sigma: Floats) -> tuple[Floats, Floats]:
        """U and x."""
        return np.column_stack([theta, np.zeros(len(theta))]), np.exp(log_sigma)

    def place(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Theta and log sigma."""
        return u[:, :-1].copy(), np.log(x)

    def pull(self, u: Floats, x: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Gradients in u and x."""
        g_u = g.copy()
        g_u[:, -1] = 0.0
        return g_u, g[:, -1] / x

    def pin(self, u: Floats) -> tuple[Floats, Floats]:
        """The last place is zero."""
        return pin_to_zero(u, u.shape[1] - 1)

    def with_multiplier(self, u: Floats, x: Floats, g: Floats, D: Floats) -> Floats:
        """Psi is free."""
        return D

    def value(self, x: Floats) -> Floats:
        """Sigma."""
        return x

    def unit(self, log_sigma: Floats) -> Floats:
        """Sigma."""
        return np.exp(log_sigma)


@dataclass(frozen=True)
class Weights:
    """A variance in units of sigma^2: the sum of w theta^2; every theta has a block of its own."""

    parameters: tuple[int, ...]
    roots: tuple[float, ...]  # of w
    blocks: tuple[int, ...]

    def sum(self, theta: Floats) -> Floats:
        """The variance; theta (n, n_theta or more)."""
        total = np.zeros(len(theta))
        for t, root in zip(self.parameters, self.roots, strict=True):
            total += (root * theta[:, t]) ** 2
        return total

    def slope(self, blocks: Blocks) -> Floats:
        """Its derivative in Psi, (n_levels, q, q)."""
        q = blocks.Q.shape[1]
        H = np.zeros((int(blocks.level.max()) + 1, q, q))
        for b, root in zip(self.blocks, self.roots, strict=True):
            if blocks.is_matrix[b]:
                H[blocks.level[b], blocks.first[b], blocks.first[b]] += root**2
            else:
                H[blocks.level[b]] += root**2 * blocks.Q[b] / np.sum(blocks.Q[b] ** 2)
        return H


class Radius(Coordinates):
    """Parameters whose weighted sum of squares R^2 is given: SDs, total SDs, shares.

    Their parts in R, a vector whose length does not matter, take their place. R is x / sigma for
    a deviation x, and tan(x) root(1 + sum w theta_o^2) for a share sin(x)^2 beside other effects o.
    """

    lower, is_open = 0.0, (False, True)

    def __init__(self, blocks: Blocks, weights: Weights, others: Weights | None) -> None:
        self.own = weights.parameters
        self._blocks, self._weights, self._others = blocks, weights, others
        self.upper = np.inf if others is None else 0.5 * np.pi

    def find(self, theta: Floats, log_sigma: Floats) -> tuple[Floats, Floats]:
        """U and x."""
        u, R = np.column_stack([theta, log_sigma]), np.sqrt(self._weights.sum(theta))
        with np.errstate(divide="ignore", invalid="ignore"):
            for t, root in zip(self.own, self._weights.roots, strict=True):
                u[:, t] = np.where(R > 0.0, root * theta[:, t] / R, 1.0)
        if self._others is None:
            return self.lifted(u, 0.0), R * np.exp(log_sigma)
        return self.lifted(u, 0.0), np.arctan2(R, np.sqrt(1.0 + self._others.sum(theta)))

    def place(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Theta and log sigma."""
        theta, ratio = u[:, :-1].copy(), self._radius(u, x)[0] / self._length(u)
        for t, root in zip(self.own, self._weights.roots, strict=True):
            theta[:, t] = ratio * u[:, t] / root
        return theta, u[:, -1].copy()

    def _length(self, u: Floats) -> Floats:
        total = np.zeros(len(u))
        for t in self.own:
            total += u[:, t] ** 2
        return np.sqrt(total)

    def _radius(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """R and its derivative in x."""
        if self._others is None:
            inverse_sigma = np.exp(-u[:, -1])
            return x * inverse_sigma, inverse_sigma
        root, c = np.sqrt(1.0 + self._others.sum(u)), np.cos(x)
        return np.sin(x) / c * root, root / c**2

    def pull(self, u: Floats, x: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Gradients in u and x."""
        g_u, (R, R_slope), length = g.copy(), self._radius(u, x), self._length(u)
        along = np.zeros(len(u))  # derivative in R
        for t, root in zip(self.own, self._weights.roots, strict=True):
            along += g[:, t] / root * u[:, t] / length
        for t, root in zip(self.own, self._weights.roots, strict=True):
            g_u[:, t] = R / length * (g[:, t] / root - along * u[:, t] / length)
        if self._others is None:
            g_u[:, -1] -= R * along
        else:
            for t, root in zip(self._others.parameters, self._others.roots, strict=True):
                g_u[:, t] += along * R * root**2 * u[:, t] / (1.0 + self._others.sum(u))
        return g_u, along * R_slope

    def pin(self, u: Floats) -> tuple[Floats, Floats]:
        """The length is one."""
        excess, slope = self._length(u) ** 2 - 1.0, np.zeros_like(u)
        for t in self.own:
            slope[:, t] = 2.0 * PIN * excess * u[:, t]
        return 0.5 * PIN * excess**2, slope

    def lifted(self, u: Floats, least: float) -> Floats:
        """U where the length is one and every part is there."""
        u, length = u.copy(), self._length(u)
        for t in self.own:
            part = u[:, t] / length
            u[:, t] = np.where(np.abs(part) < least, np.copysign(least, part), part)
        return u

    def with_multiplier(self, u: Floats, x: Floats, g: Floats, D: Floats) -> Floats:
        """The multiplier makes the derivative in R zero."""
        theta, _ = self.place(u, x)
        along = np.zeros(len(u))
        for t in self.own:
            along += g[:, t] * theta[:, t]
        R, _ = self._radius(u, x)
        multiplier = (-0.5 * along / R**2)[:, None, None, None]
        D = D + multiplier * self._weights.slope(self._blocks)
        if self._others is not None:
            ratio = (np.sin(x) / np.cos(x))[:, None, None, None] ** 2
            D = D - multiplier * ratio * self._others.slope(self._blocks)
        return D

    def value(self, x: Floats) -> Floats:
        """The SD or share."""
        return x if self._others is None else np.sin(x) ** 2

    def unit(self, log_sigma: Floats) -> Floats:
        """For an SD one that changes y as much as sigma does."""
        if self._others is None:
            return max(self._weights.roots) * np.exp(log_sigma)
        return np.ones(len(log_sigma))


class Angle(Coordinates):
    """Two columns of a matrix block with the correlation sin(x); T Lam is in their own scale.

    Lam begins with the rows (a, 0), (b, c). Log SDs in units of sigma take the place of a and c,
    that of b is spare.
    """

    lower, upper = -0.5 * np.pi, 0.5 * np.pi

    def __init__(self, blocks: Blocks, b: int, T: Floats) -> None:
        self._depth, self._first, self._T = int(blocks.level[b]), int(blocks.first[b]), T
        self.own = entry(blocks, b, 0, 0), entry(blocks, b, 1, 0), entry(blocks, b, 1, 1)

    def find(self, theta: Floats, log_sigma: Floats) -> tuple[Floats, Floats]:
        """U and x; both SDs are positive."""
        u, T, (a, b, c) = np.column_stack([theta, log_sigma]), self._T, self.own
        first, across = T[0, 0] * theta[:, a], T[1, 1] * np.abs(theta[:, c])
        along = T[1, 0] * theta[:, a] + T[1, 1] * theta[:, b]
        u[:, a], u[:, b] = np.log(np.abs(first)), 0.0
        u[:, c] = 0.5 * np.log(along**2 + across**2)
        return u, np.arctan2(along * np.sign(first), across)

    def place(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Theta and log sigma."""
        theta, T, (a, b, c) = u[:, :-1].copy(), self._T, self.own
        second = np.exp(u[:, c])
        theta[:, a] = np.exp(u[:, a]) / T[0, 0]
        theta[:, b] = (np.sin(x) * second - T[1, 0] * theta[:, a]) / T[1, 1]
        theta[:, c] = np.cos(x) * second / T[1, 1]
        return theta, u[:, -1].copy()

    def pull(self, u: Floats, x: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Gradients in u and x."""
        g_u, T, (a, b, c) = g.copy(), self._T, self.own
        first, second = np.exp(u[:, a]) / T[0, 0], np.exp(u[:, c]) / T[1, 1]
        g_u[:, a] = first * (g[:, a] - T[1, 0] / T[1, 1] * g[:, b])
        g_u[:, b] = 0.0
        g_u[:, c] = second * (np.sin(x) * g[:, b] + np.cos(x) * g[:, c])
        return g_u, second * (np.cos(x) * g[:, b] - np.sin(x) * g[:, c])

    def pin(self, u: Floats) -> tuple[Floats, Floats]:
        """The second place is zero."""
        return pin_to_zero(u, self.own[1])

    def with_multiplier(self, u: Floats, x: Floats, g: Floats, D: Floats) -> Floats:
        """The multiplier makes the derivative in x zero."""
        T, (a, _, c), size = self._T, self.own, len(self._T)
        cross = -0.5 * self.pull(u, x, g)[1] / (np.exp(u[:, a] + u[:, c]) * np.cos(x))
        ratio = np.exp(u[:, c] - u[:, a])
        G = np.zeros((len(u), size, size))  # of the constraint, in the columns' own scale
        G[:, 0, 1] = G[:, 1, 0] = cross
        G[:, 0, 0], G[:, 1, 1] = -np.sin(x) * cross * ratio, -np.sin(x) * cross / ratio
        block = slice(self._first, self._first + size)
        D = D.copy()
        D[:, self._depth, block, block] += between(T, G)
        return D

    def value(self, x: Floats) -> Floats:
        """The correlation."""
        return np.sin(x)


class Mixture(Coordinates):
    """Compound symmetry: theta of the differences and of the mean are r (cos x, sin x).

    log r takes the place of the first, that of the second is spare.
    """

    lower, upper = 0.0, 0.5 * np.pi

    def __init__(self, blocks: Blocks, differences: int, mean: int) -> None:
        self._depth = int(blocks.level[mean])
        self._Q = blocks.Q[differences], blocks.Q[mean]
        self.own = int(blocks.theta[differences]), int(blocks.theta[mean])

    def find(self, theta: Floats, log_sigma: Floats) -> tuple[Floats, Floats]:
        """U and x; r is positive."""
        u, (first, second) = np.column_stack([theta, log_sigma]), self.own
        u[:, first] = 0.5 * np.log(theta[:, first] ** 2 + theta[:, second] ** 2)
        u[:, second] = 0.0
        return u, np.arctan2(np.abs(theta[:, second]), np.abs(theta[:, first]))

    def place(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Theta and log sigma."""
        theta, r = u[:, :-1].copy(), np.exp(u[:, self.own[0]])
        theta[:, self.own[0]], theta[:, self.own[1]] = r * np.cos(x), r * np.sin(x)
        return theta, u[:, -1].copy()

    def pull(self, u: Floats, x: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Gradients in u and x."""
        g_u, r = g.copy(), np.exp(u[:, self.own[0]])
        first, second = g[:, self.own[0]], g[:, self.own[1]]
        g_u[:, self.own[0]] = r * (np.cos(x) * first + np.sin(x) * second)
        g_u[:, self.own[1]] = 0.0
        return g_u, r * (np.cos(x) * second - np.sin(x) * first)

    def pin(self, u: Floats) -> tuple[Floats, Floats]:
        """The second place is zero."""
        return pin_to_zero(u, self.own[1])

    def with_multiplier(self, u: Floats, x: Floats, g: Floats, D: Floats) -> Floats:
        """The multiplier makes the derivative in the mean's variance zero."""
        D, (Q, Q_mean) = D.copy(), self._Q
        slope = np.zeros(len(D))
        for i, j in np.argwhere(Q_mean):
            slope += Q_mean[i, j] * D[:, self._depth, i, j]
        ratio = (np.sin(x) / np.cos(x)) ** 2
        D[:, self._depth] -= slope[:, None, None] * Q_mean / np.sum(Q_mean**2)
        D[:, self._depth] += (slope * ratio)[:, None, None] * Q / np.sum(Q**2)
        return D

    def value(self, x: Floats) -> Floats:
        """The correlation."""
        n_differences = np.trace(self._Q[0])
        mean, differences = np.sin(x) ** 2, np.cos(x) ** 2
        return np.asarray((mean - differences) / (mean + n_differences * differences))


def pin_to_zero(u: Floats, t: int) -> tuple[Floats, Floats]:
    """A place of u that is spare is zero, as `Coordinates.pin`."""
    slope = np.zeros_like(u)
    slope[:, t] = PIN * u[:, t]
    return 0.5 * PIN * u[:, t] ** 2, slope


def between(T: Floats, G: Floats) -> Floats:
    """T' G T for constant T and G (n, m, m)."""
    total = np.zeros_like(G)
    for i, row in enumerate(T):
        for j, other in enumerate(T):
            total += G[:, i, j, None, None] * np.outer(row, other)
    return total
