"""Likelihoods by other means than the engine's, for profiles."""

import numpy as np
from scipy.optimize import minimize, minimize_scalar


class AnimalDeviance:
    """-2 logLik at absolute covariances, one covariance matrix per animal.

    The ten points of an image stand for themselves in an orthonormal basis of (1, x); what is left
    of y is white. Nothing of the engine is used.
    """

    def __init__(self, X, levels, y, *, is_reml):
        self.is_reml, self.n, self.p = is_reml, *X.shape
        Z, image = levels[1].Z, levels[1].unit_of_row
        parts = []
        for animal in range(levels[0].unit_of_row.max() + 1):
            rows = np.flatnonzero(levels[0].unit_of_row == animal)
            bases = [np.linalg.qr(Z[rows[image[rows] == i]])[0] for i in np.unique(image[rows])]
            take = np.zeros((2 * len(bases), len(rows)))
            for m, (i, Q) in enumerate(zip(np.unique(image[rows]), bases, strict=True)):
                take[2 * m : 2 * m + 2, image[rows] == i] = Q.T
            parts.append((take @ Z[rows], take @ X[rows], take @ y[rows]))
        self.Z, self.X, self.y = (np.array(part) for part in zip(*parts, strict=True))
        self.rss = y @ y - np.sum(self.y**2)
        images = np.repeat(np.arange(self.Z.shape[1] // 2), 2)
        self.inside = images[:, None] == images

    def at(self, covariances, log_sigma):
        Sigma_animal, Sigma_image = covariances
        sigma2, identity = np.exp(2.0 * log_sigma), np.eye(self.Z.shape[1])
        Z_t = np.swapaxes(self.Z, 1, 2)
        V = self.Z @ Sigma_animal @ Z_t + self.inside * (self.Z @ Sigma_image @ Z_t)
        C = np.linalg.cholesky(V + sigma2 * identity)
        WX, Wy = np.linalg.solve(C, self.X), np.linalg.solve(C, self.y[:, :, None])[:, :, 0]
        T, t = np.einsum("aki,akj->ij", WX, WX), np.einsum("aki,ak->i", WX, Wy)
        white = self.n - C.shape[0] * C.shape[1]
        deviance = 2.0 * np.sum(np.log(np.diagonal(C, axis1=1, axis2=2)))
        deviance += 2.0 * white * log_sigma + self.rss / sigma2
        deviance += np.sum(Wy**2) - t @ np.linalg.solve(T, t)
        if self.is_reml:
            deviance += np.linalg.slogdet(T)[1]
        return deviance + (self.n - self.is_reml * self.p) * np.log(2.0 * np.pi)

    def lowest(self, held, value, starts):
        """Minimum over all but one of: SDs (in units of 0.1) and angle of the correlation per
        level; log sigma.
        """

        def deviance(free):
            values = np.insert(free, held, value)
            covariances = []
            for a, b, angle in (values[:3], values[3:6]):
                cross = np.abs(a * b) * np.sin(angle)
                covariances.append(0.01 * np.array([[a * a, cross], [cross, b * b]]))
            return self.at(covariances, values[6])

        return min(
            minimize(deviance, np.delete(start, held), method="BFGS", options={"gtol": 1e-6}).fun
            for start in starts
        )


class OneWay:
    """-2 REML logLik of the balanced one-way layout: m units of k rows."""

    def __init__(self, y):
        self.m, self.k = y.shape
        means = y.mean(axis=1)
        self.within = np.sum((y - means[:, None]) ** 2)
        self.between = self.k * np.sum((means - means.mean()) ** 2)

    def at(self, sigma2, variance):
        total = sigma2 + self.k * variance
        return (
            self.m * (self.k - 1) * np.log(sigma2)
            + self.within / sigma2
            + (self.m - 1) * np.log(total)
            + self.between / total
        )

    def at_sd(self, sd):
        bounds = np.log(self.within / self.m / self.k) + np.array([-4.0, 6.0])
        return minimize_scalar(
            lambda t: self.at(np.exp(t), sd**2),
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-9},
        ).fun

    def at_sigma(self, sigma):
        return self.at(sigma**2, max(0.0, self.between / (self.m - 1) - sigma**2) / self.k)

    def at_share(self, share):
        ratio = share / (1.0 - share)
        n, scale = self.m * self.k - 1, 1.0 + self.k * ratio
        sigma2 = (self.within + self.between / scale) / n
        return self.at(sigma2, ratio * sigma2)

    def lowest(self):
        sigma2 = self.within / self.m / (self.k - 1)
        variance = (self.between / (self.m - 1) - sigma2) / self.k
        return self.at(sigma2, variance) if variance > 0.0 else self.at_sd(0.0)
