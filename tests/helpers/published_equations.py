"""The forward passes of PPNet and PEPNet, written from the published equations in numpy; nothing here is ours.

PEPNet: Chang et al. 2023 (arXiv:2302.01115), sections 3.1 to 3.3. The weights come as a flat mapping of names, those of
a ranker's ``state_dict``; everything that is computed with them is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GAMMA = 2.0


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def linear(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gate_nu(z: Array, weights: Mapping[str, Array], gate: str, number: int) -> Array:
    """x' = ReLU(x W + b); delta = gamma * Sigmoid(x' W' + b')."""
    hidden = np.maximum(linear(z, weights, f"{gate}.trunks.{number}.0.0"), 0)
    return GAMMA * sigmoid(linear(hidden, weights, f"{gate}.heads.{number}"))


def embed(rows: NDArray[np.int64], columns: list[int], weights: Mapping[str, Array], name: str) -> Array:
    vectors = [weights[f"{name}.tables.{number}.weight"][rows[:, column]] for number, column in enumerate(columns)]
    return np.concatenate(vectors, axis=1)


def pepnet(
    rows: NDArray[np.int64],
    dense: Array,
    weights: Mapping[str, Array],
    *,
    shared: list[int],
    personal: list[int],
    domain: list[int] | None,
    num_tasks: int,
    num_layers: int,
    on_input: bool,
) -> Array:
    """(N, T) logits; without ``domain`` this is PPNet."""
    e = np.concatenate([embed(rows, shared, weights, "shared"), dense], axis=1)
    if domain is not None:
        delta_domain = gate_nu(
            np.concatenate([embed(rows, domain, weights, "domain_ids"), e], axis=1), weights, "domain_gate", 0
        )
        e = delta_domain * e
    o_prior = embed(rows, personal, weights, "personal_ids")
    z = np.concatenate([o_prior, e], axis=1)
    places = list(range(num_layers + 1)) if on_input else list(range(1, num_layers + 1))
    deltas = {place: gate_nu(z, weights, "personal_gate", number) for number, place in enumerate(places)}
    logits = []
    for task in range(num_tasks):
        h = e
        for place in range(num_layers + 1):
            if place > 0:
                h = np.maximum(linear(h, weights, f"towers.{task}.layers.{place - 1}"), 0)
            if place in deltas:
                h = np.split(deltas[place], num_tasks, axis=1)[task] * h
        logits.append(linear(h, weights, f"towers.{task}.output")[:, 0])
    return np.stack(logits, axis=1)
