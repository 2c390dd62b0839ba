"""From word posteriors to the chance that a word is right: posteriors of a pruned lattice are far too sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError
from lhuc_asr.files import read_json, write_json

FORMAT_VERSION = 1
_SUREST = 1e-4  # posteriors are kept that far from 0 and 1 before their log odds are taken
_LEAST = 1e-6  # nothing is ever certain: one wrong certainty would cost infinitely many bits
_PULL = 1e-2  # pseudo-count of a quadratic pull to the identity, so that few words cannot give an infinite slope
_MAX_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability of being right as the logistic function of ``slope * log odds of the posterior + offset``.

    Attributes:
        slope: at least 0, so that a surer word is never made less sure than another.
        offset: added to the log odds.
        num_words: words that it was fitted on; 0 for the identity.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", here on log odds.

    Example:
        >>> Calibration()(np.array([0.5, 0.75])).tolist()
        [0.5, 0.75]
    """

    slope: float = 1.0
    offset: float = 0.0
    num_words: int = 0

    def __call__(self, posteriors: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
        """(N,) probabilities in (0, 1) for (N,) posteriors in [0, 1]."""
        return np.clip(_logistic(self.slope * _log_odds(posteriors) + self.offset), _LEAST, 1 - _LEAST)

    def save(self, path: Path) -> None:
        """Write the map as one JSON file."""
        write_json(path, {"format_version": FORMAT_VERSION, **asdict(self)})

    @staticmethod
    def load(path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or of another format.
        """
        try:
            value = read_json(path)
            version = value.pop("format_version")
            if version != FORMAT_VERSION:
                raise DataError(f"{str(path)!r} has format {version!r}; this version reads format {FORMAT_VERSION}")
            return Calibration(**value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{str(path)!r} is no calibration: {error}") from error


def fit_calibration(posteriors: Sequence[float], correct: Sequence[bool]) -> Calibration:
    """The map under which what happened is likeliest.

    Args:
        posteriors: (N,) in [0, 1], of recognised words; from a development set, never from the test.
        correct: (N,) whether each of them was right.

    Raises:
        DataError: no words, different numbers, or posteriors outside [0, 1].
    """
    if len(posteriors) != len(correct) or len(posteriors) == 0:
        raise DataError(
            f"a calibration needs words: {len(posteriors)} posteriors and {len(correct)} outcomes were given"
        )
    inputs = np.stack([_log_odds(posteriors), np.ones(len(posteriors))], axis=1)
    outcome = np.asarray(correct, np.float64)
    slope, offset = _newton(inputs, outcome, np.array([1.0, 0.0]))
    if slope < 0:  # posteriors that say nothing: everybody gets the share of right words
        slope, offset = 0.0, _newton(inputs[:, 1:], outcome, np.zeros(1))[0]
    return Calibration(float(slope), float(offset), len(posteriors))


def _newton(inputs: NDArray[np.float64], outcome: NDArray[np.float64], start: NDArray[np.float64]) -> Any:
    """Logistic regression with a slight pull to ``start``; steps are halved until they help."""
    weights, best = start.copy(), _loss(inputs, outcome, start, start)
    for _ in range(_MAX_ITERATIONS):
        chance = _logistic(inputs @ weights)
        gradient = inputs.T @ (chance - outcome) + _PULL * (weights - start)
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + _PULL * np.eye(len(start))
        step = np.linalg.solve(curvature, gradient)
        while (loss := _loss(inputs, outcome, weights - step, start)) > best and np.abs(step).max() > 1e-10:
            step = step / 2
        if np.abs(step).max() <= 1e-10:
            break
        weights, best = weights - step, loss
    return weights


def _loss(
    inputs: NDArray[np.float64], outcome: NDArray[np.float64], weights: NDArray[np.float64], start: NDArray[np.float64]
) -> float:
    odds = inputs @ weights
    return float((np.logaddexp(0.0, odds) - outcome * odds).sum() + _PULL / 2 * ((weights - start) ** 2).sum())


def _log_odds(posteriors: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(posteriors, np.float64)
    if not ((values >= 0) & (values <= 1 + 1e-6)).all():
        raise DataError("word posteriors lie between 0 and 1")
    values = np.clip(values, _SUREST, 1 - _SUREST)
    return np.asarray(np.log(values) - np.log1p(-values), np.float64)


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)), np.float64)
