"""The amplitude function xi: from unconstrained parameters r to the factors that scale hidden units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from lhuc_asr.errors import ConfigError

_LEAST = 1e-6
"""Factors nearer to 0, or to 2 for sigmoid2, have no r that is finite in single precision."""


class Amplitude(Enum):
    """How r becomes a factor; every kind can give exactly 1.

    ``exp`` gives (0, inf), ``sigmoid2`` (0, 2), ``identity`` every real number, ``relu`` [0, inf).
    """

    exp = "exp"
    sigmoid2 = "sigmoid2"
    identity = "identity"
    relu = "relu"

    @classmethod
    def _missing_(cls, value: object) -> Amplitude:
        raise ConfigError(f"there is no amplitude {value!r}; possible: {', '.join(kind.name for kind in cls)}")


def amplitude(r: Tensor, kind: Amplitude = Amplitude.exp) -> Tensor:
    """Re-parameterise LHUC parameters as amplitudes xi(r).

    Args:
        r: (..., H) unconstrained, one per hidden unit.
        kind: exp(r), 2 / (1 + exp(-r)), r, or max(0, r).

    Returns:
        (..., H) factors, dtype and device of ``r``.

    Example:
        >>> amplitude(torch.zeros(2), Amplitude.sigmoid2)
        tensor([1., 1.])

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), eq. 3 and table II.
    """
    if kind is Amplitude.exp:
        return r.exp()
    if kind is Amplitude.sigmoid2:
        return 2 * _sigmoid(r)
    return r if kind is Amplitude.identity else r.relu()


def parameters_of(factors: Tensor, kind: Amplitude) -> Tensor:
    """The r whose amplitudes are these.

    Args:
        factors: (..., H) more than 0, and below 2 for sigmoid2.
        kind: of the amplitude.

    Returns:
        (..., H) parameters, finite.

    Example:
        >>> factors = torch.tensor([0.5, 1.0, 1.5])
        >>> [amplitude(parameters_of(factors, kind), kind).tolist() for kind in (Amplitude.exp, Amplitude.relu)]
        [[0.5, 1.0, 1.5], [0.5, 1.0, 1.5]]
    """
    if kind is Amplitude.exp:
        return factors.clamp_min(_LEAST).log()
    if kind is Amplitude.sigmoid2:
        return torch.logit(factors / 2, eps=_LEAST)
    return factors


def bounded_amplitude(logit: Tensor, bound: float) -> Tensor:
    """Factors between 0 and any bound above 1, such that 0 is the identity again.

    Args:
        logit: (..., H) unconstrained.
        bound: gamma; with 2 this is ``sigmoid2``, and the factor of 0 is 1 exactly, else to the last digit or so.

    Returns:
        (..., H) factors gamma * sigmoid(logit - log(gamma - 1)), dtype and device of ``logit``.

    Example:
        >>> bounded_amplitude(torch.zeros(2), 3.0)
        tensor([1., 1.])
    """
    return bound * (logit - math.log(bound - 1)).sigmoid()


def unbounded(factors: Tensor, bound: float) -> Tensor:
    """The logits whose `bounded_amplitude` these factors are; those at or beyond the ends are taken as nearly there.

    Example:
        >>> unbounded(bounded_amplitude(torch.tensor([-1.0, 0.5]), 3.0), 3.0)
        tensor([-1.0000,  0.5000])
    """
    return torch.logit(factors / bound, eps=_LEAST) + math.log(bound - 1)


def identity_r(kind: Amplitude) -> float:
    """The r whose amplitude is exactly 1, so that a fresh speaker's net is the speaker-independent one.

    Source: the first author's code (pylearn2speech) starts there; the paper prints no value.
    """
    return 0.0 if kind in (Amplitude.exp, Amplitude.sigmoid2) else 1.0


def identity_parameters(units: Sequence[int], kind: Amplitude, like: Tensor) -> Tensor:
    """(H,) or (C, F) values of r that leave every unit as it is, dtype and device of ``like``."""
    return torch.full(tuple(units), identity_r(kind), dtype=like.dtype, device=like.device)


def _sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), the same to the last bit wherever a number stands in its tensor.

    That of ``torch.sigmoid`` is not: a speaker's scales would depend on who shares the batch.
    """
    return (1 + (x / 2).tanh()) / 2
