"""Ridge regression of many targets at once; the penalty is chosen by the exact leave-one-out error.

With features centred and U S V' their singular value decomposition, leave-one-out residuals cost nothing
extra: e_i = (y_i - yhat_i) / (1 - h_ii), h = 1/n + sum_j U_ij^2 S_j^2 / (S_j^2 + alpha). Allen, 'The
relationship between variable selection and data augmentation' (1974); Golub, Heath and Wahba (1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# For rows of about unit length: a penalty of 1 counts as much as one such row.
ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_CHUNK = 8192
_SMALL = 256
_MOST = 0.999  # leverage of a row that determines its own fit


class Ridge(NamedTuple):
    """weight [F,T], bias [T]; alpha [T] that was chosen; loo [N,T]: leave-one-out predictions, NaN where
    the target is.
    """

    weight: Tensor
    bias: Tensor
    alpha: Tensor
    loo: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Predict: [N,F] -> [N,T]."""
        return x @ self.weight + self.bias


def fit_ridge(x: Tensor, y: Tensor, share: Sequence[int] | None = None) -> Ridge:
    """Fit targets y [N,T] (NaN: missing) on features x [N,F], both float32.

    share [T]: targets of equal number share one penalty (by default each has its own). A target without any
    value is predicted as 0.
    """
    width, count = x.shape[1], y.shape[1]
    sets = torch.tensor(list(share) if share is not None else list(range(count)))
    found = Ridge(
        torch.zeros(width, count), torch.zeros(count), torch.full((count,), ALPHAS[-1]), y * torch.nan
    )
    errors = torch.zeros(len(ALPHAS), count, dtype=torch.float64)
    problems = [_Problem.of(x, y, rows, columns) for rows, columns in _masks(y)]
    for problem in problems:
        errors[:, problem.columns] = problem.errors()
    for number in sets.unique().tolist():
        inside = sets == number
        best = int(errors[:, inside].sum(1).argmin())
        found.alpha[inside] = ALPHAS[best]
    for problem in problems:
        problem.write(found)
    return found


def _masks(y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, columns) of targets that are known on the same rows."""
    known = ~y.isnan()
    whole = known.all(0)
    if bool(whole.any()):
        yield torch.arange(y.shape[0]), torch.nonzero(whole)[:, 0]
    partly = torch.nonzero(~whole & known.any(0))[:, 0].tolist()
    groups: dict[bytes, list[int]] = {}
    for column in partly:
        groups.setdefault(known[:, column].numpy().tobytes(), []).append(column)
    for columns in groups.values():
        yield torch.nonzero(known[:, columns[0]])[:, 0], torch.tensor(columns)


class _Problem(NamedTuple):
    """Targets known on the same n rows. x is centred; right [F,r] and squares [r] are V and S^2; cross [r,T]
    is V'x'y.
    """

    rows: Tensor
    columns: Tensor
    x: Tensor
    y: Tensor
    mean: Tensor
    offset: Tensor
    right: Tensor
    squares: Tensor
    cross: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> _Problem:
        inside = x if rows.numel() == x.shape[0] else x[rows]
        mean = inside.mean(0)
        centred = inside - mean
        target = y[rows][:, columns]
        offset = target.mean(0)
        target = target - offset
        right, squares = _right_vectors(centred)
        cross = right.T @ (centred.T @ target)
        return cls(rows, columns, centred, target, mean, offset, right, squares, cross)

    def weights(self, alpha: float) -> Tensor:
        """[F,T] at one penalty."""
        return self.right @ (self.cross / (self.squares + alpha)[:, None])

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self.x.shape[0], _CHUNK):
            yield slice(start, start + _CHUNK)

    def errors(self) -> Tensor:
        """Mean squared leave-one-out error [A,T], float64."""
        total = torch.zeros(len(ALPHAS), self.columns.numel(), dtype=torch.float64)
        for part in self._chunks():
            z = self.x[part] @ self.right
            for number, alpha in enumerate(ALPHAS):
                error = (self.y[part] - self._loo(z, part, alpha)).double().square()
                total[number] += error.sum(0)
        return total / self.x.shape[0]

    def _loo(self, z: Tensor, part: slice, alpha: float) -> Tensor:
        """Leave-one-out predictions (of the centred target) of some rows, whose z = x V is [n,r]."""
        shrunk = 1 / (self.squares + alpha)
        fitted = z @ (self.cross * shrunk[:, None])
        leverage = (z.square() @ shrunk + 1 / self.x.shape[0]).clamp_max(_MOST)[:, None]
        return self.y[part] - (self.y[part] - fitted) / (1 - leverage)

    def write(self, found: Ridge) -> None:
        """Put weights, biases and leave-one-out predictions into `found`."""
        for alpha in found.alpha[self.columns].unique().tolist():
            at = found.alpha[self.columns] == alpha
            columns = self.columns[at]
            weight = self.weights(alpha)[:, at]
            found.weight[:, columns] = weight
            found.bias[columns] = self.offset[at] - self.mean @ weight
            for part in self._chunks():
                loo = self._loo(self.x[part] @ self.right, part, alpha)[:, at] + self.offset[at]
                found.loo[self.rows[part][:, None], columns[None]] = loo


def eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, rising, and vectors of a symmetric matrix [n,n], in its own precision.

    Small matrices and those that float32 does not solve are solved in float64; with a trace of noise on the
    diagonal if even that fails, as it may for many equal eigenvalues.
    """
    if gram.shape[0] > _SMALL:
        try:
            return torch.linalg.eigh(gram)
        except torch.linalg.LinAlgError:
            pass
    wide = gram.double()
    try:
        values, vectors = torch.linalg.eigh(wide)
    except torch.linalg.LinAlgError:
        step = 1e-9 * wide.diagonal().abs().mean() * torch.linspace(0, 1, wide.shape[0], dtype=wide.dtype)
        values, vectors = torch.linalg.eigh(wide + torch.diag(step))
    return values.to(gram.dtype), vectors.to(gram.dtype)


def _right_vectors(x: Tensor) -> tuple[Tensor, Tensor]:
    """V [F,r] and S^2 [r] of centred x [n,F], by the smaller of the two Gram matrices."""
    count, width = x.shape
    if width <= count:
        squares, right = eigen(x.T @ x)
        keep = squares > 1e-6 * squares[-1].clamp_min(1e-12)
        return right[:, keep], squares[keep]
    squares, left = eigen(x @ x.T)
    keep = squares > 1e-6 * squares[-1].clamp_min(1e-12)
    squares, left = squares[keep], left[:, keep]
    return (x.T @ left) / squares.sqrt(), squares


def plain_ridge(x: Tensor, y: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The plain twin for one penalty and complete targets: (weight [F,T], bias [T]), by normal equations."""
    mean, offset = x.mean(0), y.mean(0)
    centred = x - mean
    gram = centred.T @ centred + alpha * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - offset))
    return weight, offset - mean @ weight
