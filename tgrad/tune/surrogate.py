"""A model of measured times over choices, to pick what to measure next.

In: points with coordinates in [0, 1] and the logarithms of their times. Out: mean and deviation
anywhere. Invariant: the same points give the same numbers.

A Gaussian process with a squared-exponential kernel (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, algorithm 2.1). Points are few hundred at most, so solving is exact. Of a
few lengths the one under which the measured times are likeliest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgrad.kernel.space import Choice, SearchSpace

LENGTHS = (0.3, 0.6, 1.2, 2.4)
NOISE = 0.01
"""Standard deviation of a measured logarithm: one percent."""


def coordinates(space: SearchSpace, choices: list[Choice]) -> np.ndarray:
    """(choices, coordinates) float64: an ordered parameter is the rank of its value, another one
    column a value."""
    columns: list[np.ndarray] = []
    for place, p in enumerate(space.parameters):
        rank = {v: n for n, v in enumerate(p.values)}
        at = np.array([rank[c[place]] for c in choices])
        if p.is_ordered:
            columns.append(at / max(len(p.values) - 1, 1))
        else:
            columns += [(at == n) * 0.7 for n in range(len(p.values))]
    return np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((len(choices), 0))


@dataclass(frozen=True)
class Surrogate:
    """A fitted model.

    Attributes:
        points: (measured, coordinates).
        mean: of the measured logarithms.
        weights: (measured,); factor: (measured, measured), lower triangle.
        scale: deviation of the process.
        length: of the kernel.
    """

    points: np.ndarray
    mean: float
    weights: np.ndarray
    factor: np.ndarray
    scale: float
    length: float

    def predict(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the logarithm at points (n, coordinates)."""
        near = _kernel(at, self.points, self.length) * self.scale**2
        mean = self.mean + near @ self.weights
        left = np.linalg.solve(self.factor, near.T)
        variance = np.maximum(self.scale**2 - (left**2).sum(0), 1e-12)
        return mean, np.sqrt(variance)


def fit(points: np.ndarray, logs: np.ndarray) -> Surrogate:
    """The model of measured points."""
    mean = float(logs.mean())
    scale = float(max(logs.std(), 0.05))
    best: tuple[float, Surrogate] | None = None
    for length in LENGTHS:
        covariance = _kernel(points, points, length) * scale**2
        covariance[np.diag_indices(len(points))] += NOISE**2 + 1e-9
        factor = np.linalg.cholesky(covariance)
        weights = np.linalg.solve(factor.T, np.linalg.solve(factor, logs - mean))
        likelihood = -0.5 * float((logs - mean) @ weights) - float(np.log(np.diag(factor)).sum())
        model = Surrogate(points, mean, weights, factor, scale, length)
        if best is None or likelihood > best[0]:
            best = likelihood, model
    assert best is not None
    return best[1]


def _kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """exp(-|a - b|^2 / 2 length^2)"""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.exp(-np.maximum(squares, 0.0) / (2 * length**2))
