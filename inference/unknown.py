"""Measures how far the features of an example are from those of the training examples.

Far away, the answer is 'unknown', however sure the head is, because the head knows only its classes. The distance is
that of Mahalanobis, with a covariance of a few directions and equal variance in all others (Tipping and Bishop, 1999).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.errors import UsageError
from app.files import written_aside

FILE = "unknown.npz"
DIRECTIONS = 32
FALSE_ALARMS = 0.05
"""Share of the val examples that may be called unknown."""
FEWEST = 20
"""Least examples of train and of val for choosing a threshold."""


class Familiar(NamedTuple):
    """A compact description of the training examples' features."""

    mean: np.ndarray
    """float32 (num_features,)."""
    directions: np.ndarray
    """float32 (num_directions, num_features), orthonormal."""
    variances: np.ndarray
    """float32 (num_directions,)."""
    rest: np.ndarray
    """float32 (): variance in each of the other directions."""
    threshold: np.ndarray
    """float32 (): distance above which an example is unknown."""

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Returns the distance of each example, float64 (n,), from features float32 (n, num_features)."""
        centred = (features - self.mean).astype(np.float64)
        along = centred @ self.directions.T.astype(np.float64)
        beside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return np.sqrt((along**2 / self.variances).sum(axis=1) + beside / float(self.rest))

    def is_unknown(self, features: np.ndarray) -> np.ndarray:
        """Returns which examples are unknown, bool (n,)."""
        return self.distances(features) > self.threshold


def learn_familiar(train: np.ndarray, val: np.ndarray) -> Familiar | None:
    """Describes the features of training examples, and chooses the threshold on those of val.

    Args:
        train: float32 (n, num_features).
        val: float32 (n, num_features).

    Returns:
        The description; None if either has too few examples.
    """
    if min(len(train), len(val)) < FEWEST or train.ndim != 2:
        return None
    mean = train.mean(axis=0)
    _, stretches, directions = np.linalg.svd(train - mean, full_matrices=False)
    variances, count = stretches**2 / len(train), min(DIRECTIONS, len(train) // 4, train.shape[1] // 2)
    floor = 1e-6 * float(variances.sum()) / train.shape[1] + 1e-12
    rest = max(float(variances[count:].sum()) / (train.shape[1] - count), floor)
    familiar = Familiar(
        mean.astype(np.float32),
        directions[:count].astype(np.float32),
        np.maximum(variances[:count], floor).astype(np.float32),
        np.float32(rest),  # type: ignore[arg-type]
        np.float32(np.inf),  # type: ignore[arg-type]
    )
    distances = np.sort(familiar.distances(val))
    # A new example is as likely as any of the n val examples to be among the farthest.
    position = min(int(np.ceil((1 - FALSE_ALARMS) * (len(val) + 1))), len(val)) - 1
    return familiar._replace(threshold=np.float32(distances[position]))  # type: ignore[arg-type]


def write_familiar(folder: Path, familiar: Familiar) -> None:
    """Writes `unknown.npz` into a run folder."""
    with written_aside(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **familiar._asdict())


def read_familiar(folder: Path) -> Familiar:
    """Reads `unknown.npz` of a run folder.

    Raises:
        UsageError: it is missing or damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(
            f"--unknown needs '{path}', which a run with too few val examples, or of an older version, does not have. "
            f"Train again, or give --unknown-below."
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            familiar = Familiar(*(np.asarray(arrays[name], np.float32) for name in Familiar._fields))
        (count, width), finite = familiar.directions.shape, all(np.isfinite(each).all() for each in familiar)
        if familiar.mean.shape != (width,) or familiar.variances.shape != (count,) or not finite:
            raise ValueError("its arrays do not belong together")
        if familiar.rest.shape or familiar.threshold.shape or min(familiar.rest, *familiar.variances) <= 0:
            raise ValueError("its variances are no numbers above 0")
    except Exception as error:  # NumPy may raise any exception on a damaged file
        raise UsageError(f"'{path}' is damaged ({error}).") from None
    return familiar
