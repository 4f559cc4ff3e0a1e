"""Ridge regression of many targets at once; the penalty is chosen by the exact leave-one-out error.

With features centred and U S V' their singular value decomposition, leave-one-out residuals cost nothing
extra: e_i = (y_i - yhat_i) / (1 - h_ii), h = 1/n + sum_j U_ij^2 S_j^2 / (S_j^2 + alpha). Allen, 'The
relationship between variable selection and data augmentation' (1974); Golub, Heath and Wahba (1979).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# For rows of about unit length: a penalty of 1 counts as much as one such row.
ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_CHUNK = 8192
_LOOKED_AT = 4096
_SMALL = 256
_MOST = 0.999  # leverage of a row that determines its own fit


class Ridge(NamedTuple):
    """weight [F,T], bias [T]; alpha [T] that was chosen; loo [N,T]: leave-one-out predictions, NaN where
    the target is (and on all but some thousands of rows of a large table).
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
    whole = _Moments.of(x)
    problems = [_Problem.of(x, y, rows, columns, whole) for rows, columns in _masks(y)]
    for problem in problems:
        errors[:, problem.columns] = problem.errors()
    for number in sorted(set(sets.tolist())):
        inside = sets == number
        best = int(errors[:, inside].sum(1).argmin())
        found.alpha[inside] = ALPHAS[best]
    for problem in problems:
        problem.write(found)
    return found


def chunks(x: Tensor, size: int = _CHUNK) -> tuple[Tensor, ...]:
    """Pieces of at most `size` rows."""
    return torch.split(x, size)


def gathered(pieces: Iterable[Tensor], rows: int) -> Tensor:
    """Pieces end to end, [rows,F]; a large table's are not held a second time, as `torch.cat` would."""
    found, place = torch.empty(0), 0
    for piece in pieces:
        if not place:
            found = piece.new_empty(rows, piece.shape[1])
        found[place : place + len(piece)] = piece
        place += len(piece)
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
    """Targets known on the same n rows of x [N,F], whose features `mean` centres. right [F,r] and squares [r]
    are V and S^2; cross [r,T] is V'x'y. Nothing of the size of x is copied, so that large tables fit.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    columns: Tensor
    mean: Tensor
    offset: Tensor
    right: Tensor
    squares: Tensor
    cross: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, rows: Tensor, columns: Tensor, whole: _Moments) -> _Problem:
        offset = y[rows][:, columns].mean(0)
        moments = whole.without(x, rows)
        mean = whole.centre + moments.total / rows.numel()
        parts = [(x[part] - mean, y[part][:, columns] - offset) for part in _small(rows, x)]
        if parts:
            right, squares = _by_rows(torch.cat([one for one, _ in parts]))
            moved = sum((one.T @ target for one, target in parts), torch.zeros(()))
        else:
            right, squares = _kept(*eigen(moments.centred(rows.numel())))
            moved = torch.zeros(x.shape[1], columns.numel())
            for part in chunks(rows):
                moved += (x[part] - mean).T @ (y[part][:, columns] - offset)
        return cls(x, y, rows, columns, mean, offset, right, squares, right.T @ moved)

    def weights(self, alpha: float) -> Tensor:
        """[F,T] at one penalty."""
        return self.right @ (self.cross / (self.squares + alpha)[:, None])

    def _sample(self) -> Tensor:
        """The rows whose leave-one-out errors are looked at: all, or some thousands evenly."""
        return self.rows[:: max(1, self.rows.numel() // _LOOKED_AT)]

    def _target(self, part: Tensor) -> Tensor:
        return self.y[part][:, self.columns] - self.offset

    def errors(self) -> Tensor:
        """Mean squared leave-one-out error [A,T], float64."""
        total = torch.zeros(len(ALPHAS), self.columns.numel(), dtype=torch.float64)
        sample = self._sample()
        for part in chunks(sample):
            z, target = (self.x[part] - self.mean) @ self.right, self._target(part)
            for number, alpha in enumerate(ALPHAS):
                total[number] += (target - self._loo(z, target, alpha)).double().square().sum(0)
        return total / sample.numel()

    def _loo(self, z: Tensor, target: Tensor, alpha: float) -> Tensor:
        """Leave-one-out predictions (of the centred target) of rows whose z = x V is [n,r]."""
        shrunk = 1 / (self.squares + alpha)
        fitted = z @ (self.cross * shrunk[:, None])
        leverage = (z.square() @ shrunk + 1 / self.rows.numel()).clamp_max(_MOST)[:, None]
        return target - (target - fitted) / (1 - leverage)

    def write(self, found: Ridge) -> None:
        """Put weights, biases and leave-one-out predictions into `found`."""
        for alpha in sorted(set(found.alpha[self.columns].tolist())):
            at = found.alpha[self.columns] == alpha
            columns = self.columns[at]
            weight = self.weights(alpha)[:, at]
            found.weight[:, columns] = weight
            found.bias[columns] = self.offset[at] - self.mean @ weight
            for part in chunks(self._sample()):
                z = (self.x[part] - self.mean) @ self.right
                loo = self._loo(z, self._target(part), alpha)[:, at] + self.offset[at]
                found.loo[part[:, None], columns[None]] = loo


class _Moments(NamedTuple):
    """Of rows moved by `centre` [F]: total [F], and second [F,F] (None where rows are fewer than columns)."""

    centre: Tensor
    total: Tensor
    second: Tensor | None

    @classmethod
    def of(cls, x: Tensor) -> _Moments:
        centre = x.mean(0)
        wide = x.shape[1] > x.shape[0]
        second = None if wide else _second(x, torch.arange(x.shape[0]), centre)
        return cls(centre, torch.zeros_like(centre), second)

    def without(self, x: Tensor, rows: Tensor) -> _Moments:
        """The moments of `rows` alone, by taking the others away where they are the fewer."""
        away = torch.ones(x.shape[0], dtype=torch.bool)
        away[rows] = False
        others = torch.nonzero(away)[:, 0]
        if not others.numel():
            return self
        total = torch.zeros_like(self.centre)
        for part in chunks(rows):
            total += (x[part] - self.centre).sum(0)
        if self.second is None or rows.numel() < x.shape[1]:
            return _Moments(self.centre, total, None)
        if others.numel() < rows.numel():
            return _Moments(self.centre, total, self.second - _second(x, others, self.centre))
        return _Moments(self.centre, total, _second(x, rows, self.centre))

    def centred(self, count: int) -> Tensor:
        """Second moments about the mean of `count` rows."""
        assert self.second is not None
        return self.second - torch.outer(self.total, self.total) / count


def _second(x: Tensor, rows: Tensor, centre: Tensor) -> Tensor:
    found = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for part in chunks(rows):
        moved = x[part] - centre
        found += moved.T @ moved
    return found


def _small(rows: Tensor, x: Tensor) -> list[Tensor]:
    """The rows in one piece where they are fewer than the columns: then the other Gram matrix is smaller."""
    return [rows] if rows.numel() < x.shape[1] else []


def _kept(squares: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Directions that are more than rounding."""
    keep = squares > 1e-6 * squares[-1].clamp_min(1e-12)
    return vectors[:, keep], squares[keep]


def _by_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """V [F,r] and S^2 [r] of centred x [n,F] with n < F."""
    left, squares = _kept(*eigen(x @ x.T))
    return (x.T @ left) / squares.sqrt(), squares


def eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, rising, and vectors of a symmetric matrix [n,n], in its own precision.

    Small matrices and those that float32 does not solve are solved in float64; with a trace of noise on the
    diagonal if even that fails, as it may for many equal eigenvalues.
    """
    if gram.shape[0] > _SMALL:
        try:
            values, vectors = torch.linalg.eigh(gram)
            return values, vectors
        except RuntimeError:  # torch's LinAlgError is one
            pass
    wide = gram.double()
    try:
        values, vectors = torch.linalg.eigh(wide)
    except RuntimeError:  # torch's LinAlgError is one
        step = 1e-9 * wide.diagonal().abs().mean() * torch.linspace(0, 1, wide.shape[0], dtype=wide.dtype)
        values, vectors = torch.linalg.eigh(wide + torch.diag(step))
    return values.to(gram.dtype), vectors.to(gram.dtype)


def plain_ridge(x: Tensor, y: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The plain twin for one penalty and complete targets: (weight [F,T], bias [T]), by normal equations."""
    mean, offset = x.mean(0), y.mean(0)
    centred = x - mean
    gram = centred.T @ centred + alpha * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (y - offset))
    return weight, offset - mean @ weight
