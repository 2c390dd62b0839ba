"""Forward-backward for one utterance on a processor, compiled by numba; it releases Python's lock."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


def _scaled_python(  # noqa: PLR0913, PLR0917 - a compiled kernel takes plain arrays
    probs: Any,
    source: Any,
    target: Any,
    pdf: Any,
    weight: Any,
    start: Any,
    final: Any,
    leak: float,
    alphas: Any,
    posteriors: Any,
) -> Any:
    """Probabilities, each frame scaled to add up to 1, for graphs in which much can happen (denominators).

    Args:
        probs: (T, V) likelihoods of tied states.
        source: (A,) of the arcs, as are ``target``, ``pdf`` and ``weight`` (a probability).
        target: see there.
        pdf: see there.
        weight: see there.
        start: (S,) probabilities, as ``final``.
        final: see there.
        leak: leaky HMM coefficient.
        alphas: (T + 1, S) scratch space.
        posteriors: (T, V), zeros, to be filled.

    Returns:
        Log-likelihood; -inf when there is no path.
    """
    num_frames, num_states, num_arcs = len(probs), len(start), len(source)
    ceiling = 1e30
    scales = np.empty(num_frames, np.float64)
    alphas[0] = start
    log_like = 0.0
    for t in range(num_frames):
        before, now, prob = alphas[t], alphas[t + 1], probs[t]
        if t > 0 and leak > 0:
            before += leak * start
        now[:] = 0
        for arc in range(num_arcs):
            now[target[arc]] += before[source[arc]] * (weight[arc] * prob[pdf[arc]])
        scale = 0.0
        for state in range(num_states):
            scale += now[state]
        if not scale > 0:
            return -np.inf if scale == 0 else np.nan
        scales[t] = scale
        log_like += np.log(scale)
        now *= 1 / scale
    total = 0.0
    for state in range(num_states):
        total += alphas[num_frames, state] * final[state]
    if not total > 0:
        return -np.inf if total == 0 else np.nan
    beta = (final / total).astype(alphas.dtype)
    previous = np.empty_like(beta)
    for t in range(num_frames - 1, -1, -1):
        before, prob, posterior = alphas[t], probs[t], posteriors[t]
        beta *= 1 / scales[t]
        previous[:] = 0
        for arc in range(num_arcs):
            value = weight[arc] * prob[pdf[arc]] * beta[target[arc]]
            previous[source[arc]] += value
            posterior[pdf[arc]] += before[source[arc]] * value
        if t > 0 and leak > 0:
            leaked = 0.0
            for state in range(num_states):
                leaked += start[state] * previous[state]
            previous += leak * leaked
        for state in range(num_states):
            beta[state] = min(previous[state], ceiling)
    return log_like + np.log(total)


def _logarithmic_python(
    outputs: Any,
    source: Any,
    target: Any,
    pdf: Any,
    log_weight: Any,
    start: Any,
    final: Any,
    posteriors: Any,
) -> Any:
    """Logarithms throughout, for graphs in which little can happen (numerators); arcs in the order of ``target``.

    Args and returned value are those of the other kernel, with logarithms in place of probabilities.
    """
    num_frames, num_states, num_arcs = len(outputs), len(start), len(source)
    never = -np.inf
    alphas = np.full((num_frames + 1, num_states), never)
    alphas[0] = start
    highest, total = np.empty(num_states), np.empty(num_states)
    values = np.empty(num_arcs)
    for t in range(num_frames):
        highest[:] = never
        total[:] = 0
        for arc in range(num_arcs):
            values[arc] = alphas[t, source[arc]]
            if values[arc] > never:
                values[arc] += log_weight[arc] + outputs[t, pdf[arc]]
                highest[target[arc]] = max(highest[target[arc]], values[arc])
        for arc in range(num_arcs):
            if values[arc] > never:
                total[target[arc]] += np.exp(values[arc] - highest[target[arc]])
        for state in range(num_states):
            if highest[state] > never:
                alphas[t + 1, state] = highest[state] + np.log(total[state])
    best = never
    for state in range(num_states):
        best = max(best, alphas[num_frames, state] + final[state])
    if best == never:
        return never
    summed = 0.0
    for state in range(num_states):
        summed += np.exp(alphas[num_frames, state] + final[state] - best)
    log_like = best + np.log(summed)
    beta = final.astype(np.float64)
    for t in range(num_frames - 1, -1, -1):
        highest[:] = never
        total[:] = 0
        for arc in range(num_arcs):
            values[arc] = never
            if alphas[t, source[arc]] > never and beta[target[arc]] > never:
                values[arc] = log_weight[arc] + outputs[t, pdf[arc]] + beta[target[arc]]
                highest[source[arc]] = max(highest[source[arc]], values[arc])
        for arc in range(num_arcs):
            if values[arc] > never:
                total[source[arc]] += np.exp(values[arc] - highest[source[arc]])
                posteriors[t, pdf[arc]] += np.exp(alphas[t, source[arc]] + values[arc] - log_like)
        for state in range(num_states):
            beta[state] = highest[state] + np.log(total[state]) if highest[state] > never else never
    return log_like


scaled: Any = numba.njit(cache=True, nogil=True)(_scaled_python)
logarithmic: Any = numba.njit(cache=True, nogil=True)(_logarithmic_python)
