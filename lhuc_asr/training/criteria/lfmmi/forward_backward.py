"""How likely network outputs are under graphs, and how often each tied state is visited: forward-backward in torch.

Letters of shapes: B utterances, T frames, V tied states, S graph states, A arcs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lhuc_asr.training.criteria.known_gradient import in_threads, with_known_gradient
from lhuc_asr.training.criteria.lfmmi.compiled import logarithmic, scaled
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph, JoinedGraphs


class Engine(Enum):
    """What computes: plain torch, kernels for processors, or (``auto``) the kernels unless the outputs are on a GPU."""

    auto = "auto"
    torch = "torch"
    compiled = "compiled"


@dataclass(frozen=True, eq=False)
class Occupancy:
    """The outcome of forward-backward.

    Attributes:
        log_like: (B,) float64 log-likelihoods of whole utterances, nats; -inf where no path fits.
        posteriors: (B, T, V) chance of each tied state in each frame; 0 in padding and where no path fits. They are
            the derivative of ``log_like``.
    """

    log_like: Tensor
    posteriors: Tensor


def log_likelihood(outputs_BTV: Tensor, occupancy: Occupancy) -> Tensor:
    """(B,) log-likelihoods through which a gradient flows: the posteriors."""
    return with_known_gradient(outputs_BTV, occupancy.log_like, occupancy.posteriors)


def denominator_occupancy(
    outputs_BTV: Tensor, lens: Tensor, graph: ChainGraph, *, leak: float, engine: Engine = Engine.auto
) -> Occupancy:
    """Forward-backward on one graph for all utterances, in probabilities that are scaled in every frame.

    Args:
        outputs_BTV: (B, T, V) scores of tied states, any real numbers.
        lens: (B,) outputs of each utterance; what lies beyond is not looked at.
        graph: everything that could be said.
        leak: leaky HMM coefficient: between two frames each state leaks that share of its probability to all states,
            in the proportion of the graph's start.
        engine: torch in the type of the outputs, or kernels.

    Source: Povey et al. 2016 (Interspeech), section 2.4 and 2.5.
    """
    outputs = _without_padding(outputs_BTV.detach(), lens)
    peaks = outputs.amax(dim=2)
    probs = (outputs - peaks[..., None]).exp()
    if _is_compiled(engine, outputs):
        occupancy = _compiled_denominator(probs, lens, graph, leak)
    else:
        occupancy = _torch_denominator(probs, lens, graph, leak)
    inside = _inside(lens, outputs.shape[1]).to(outputs.device)
    return Occupancy(occupancy.log_like + (peaks.double() * inside).sum(dim=1), occupancy.posteriors)


def numerator_occupancy(
    outputs_BTV: Tensor, lens: Tensor, graphs: Sequence[ChainGraph], *, engine: Engine = Engine.auto
) -> Occupancy:
    """Forward-backward with a graph for each utterance, in logarithms: a path may score far below its rivals.

    Sums are in float64, because the logarithm of a long utterance leaves float32 no digits for the differences.

    Args:
        outputs_BTV: (B, T, V) scores of tied states, any real numbers.
        lens: (B,) outputs of each utterance; what lies beyond is not looked at.
        graphs: one an utterance.
        engine: torch or kernels.
    """
    outputs = _without_padding(outputs_BTV.detach(), lens)
    if _is_compiled(engine, outputs):
        return _compiled_numerator(outputs, lens, graphs)
    return _torch_numerator(outputs, lens, JoinedGraphs.of(graphs))


def _is_compiled(engine: Engine, outputs: Tensor) -> bool:
    return engine is Engine.compiled or (engine is Engine.auto and outputs.device.type == "cpu")


def _inside(lens: Tensor, num_frames: int) -> Tensor:
    """(B, T) True before the end of each utterance."""
    return torch.arange(num_frames)[None] < lens.cpu()[:, None]


def _without_padding(outputs: Tensor, lens: Tensor) -> Tensor:
    """Zeros beyond the ends; half precision becomes float32, because sums over paths need its range."""
    if outputs.dtype is not torch.float64:
        outputs = outputs.float()
    inside = _inside(lens, outputs.shape[1]).to(outputs.device)
    return torch.where(inside[..., None], outputs, outputs.new_zeros(()))


def _torch_denominator(probs: Tensor, lens: Tensor, graph: ChainGraph, leak: float) -> Occupancy:
    (num_utterances, num_frames, _), device = probs.shape, probs.device
    source, target, pdf = (torch.from_numpy(ids).long().to(device) for ids in (graph.source, graph.target, graph.pdf))
    weight, start, final = (
        torch.from_numpy(np.exp(values)).to(probs) for values in (graph.log_weight, graph.start, graph.final)
    )
    ends = lens.to(device)
    alpha = start.expand(num_utterances, -1)
    alphas, scales = [], []
    log_like = torch.zeros(num_utterances, dtype=torch.float64, device=device)
    for t in range(num_frames):
        leaked = alpha + leak * alpha.sum(dim=1, keepdim=True) * start if t else alpha
        alphas.append(leaked)
        flow = leaked[:, source] * (weight * probs[:, t, pdf])
        now = torch.zeros_like(alpha).index_add_(1, target, flow)
        scale = now.sum(dim=1)
        active = t < ends
        log_like += torch.where(active, scale, 1.0).double().log()
        scales.append(torch.where(scale == 0, 1.0, scale))
        alpha = torch.where(active[:, None], now / scales[t][:, None], alpha)
    total = (alpha * final).sum(dim=1)
    log_like += total.double().log()
    total = torch.where(total == 0, 1.0, total)
    ceiling = torch.finfo(probs.dtype).max ** 0.75
    beta = final / total[:, None]
    posteriors = torch.zeros_like(probs)
    for t in range(num_frames - 1, -1, -1):
        flow = weight * probs[:, t, pdf] * (beta / scales[t][:, None])[:, target]
        active = (t < ends)[:, None]
        visits = torch.where(active, alphas[t][:, source] * flow, 0.0)
        posteriors[:, t].index_add_(1, pdf, visits)
        previous = torch.zeros_like(beta).index_add_(1, source, flow)
        if t:
            previous = previous + leak * (previous * start).sum(dim=1, keepdim=True)
        beta = torch.where(active, previous.clamp(max=ceiling), beta)
    return Occupancy(log_like, torch.where(log_like.isneginf()[:, None, None], 0.0, posteriors))


def _torch_numerator(outputs_BTV: Tensor, lens: Tensor, joined: JoinedGraphs) -> Occupancy:
    outputs = outputs_BTV.double()
    graph, (num_utterances, num_frames, num_pdfs), device = joined.graph, outputs.shape, outputs.device
    source, target, pdf, of_arc, of_state = (
        torch.from_numpy(ids).long().to(device)
        for ids in (graph.source, graph.target, graph.pdf, joined.arc_utterance, joined.state_utterance)
    )
    weight, alpha, final = (
        torch.from_numpy(values).to(outputs) for values in (graph.log_weight, graph.start, graph.final)
    )
    ends = lens.to(device)
    alphas = []
    for t in range(num_frames):
        alphas.append(alpha)
        now = _log_sum(alpha[source] + weight + outputs[of_arc, t, pdf], target, graph.num_states)
        alpha = torch.where((t < ends)[of_state], now, alpha)
    log_like = _log_sum(alpha + final, of_state, num_utterances)
    known = torch.where(log_like.isfinite(), log_like, 0.0)
    beta = final
    posteriors = outputs.new_zeros(num_utterances, num_frames * num_pdfs).flatten()
    for t in range(num_frames - 1, -1, -1):
        flow = weight + outputs[of_arc, t, pdf] + beta[target]
        visits = torch.where((t < ends)[of_arc], (alphas[t][source] + flow - known[of_arc]).exp(), 0.0)
        posteriors.index_add_(0, (of_arc * num_frames + t) * num_pdfs + pdf, visits)
        beta = torch.where((t < ends)[of_state], _log_sum(flow, source, graph.num_states), beta)
    return Occupancy(log_like, posteriors.view_as(outputs).to(outputs_BTV.dtype))


def _log_sum(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """(num_groups,) log of the sum of exponentials in every group; -inf where there is nothing."""
    highest = values.new_full((num_groups,), -torch.inf).scatter_reduce(0, group, values, "amax")
    safe = torch.where(highest.isneginf(), 0.0, highest)
    return safe + torch.zeros_like(safe).index_add(0, group, (values - safe[group]).exp()).log()


def _compiled_denominator(probs: Tensor, lens: Tensor, graph: ChainGraph, leak: float) -> Occupancy:
    numbers = probs.cpu().numpy()
    weight, start, final = (
        np.exp(values).astype(numbers.dtype) for values in (graph.log_weight, graph.start, graph.final)
    )
    posteriors = np.zeros_like(numbers)

    def one(utterance: int) -> float:
        end = int(lens[utterance])
        alphas = np.empty((end + 1, graph.num_states), numbers.dtype)
        arcs = (graph.source, graph.target, graph.pdf, weight, start, final)
        return float(scaled(numbers[utterance, :end], *arcs, leak, alphas, posteriors[utterance, :end]))

    return _each(one, len(numbers), posteriors, probs)


def _compiled_numerator(outputs: Tensor, lens: Tensor, graphs: Sequence[ChainGraph]) -> Occupancy:
    numbers = outputs.cpu().numpy()
    posteriors = np.zeros_like(numbers)

    def one(utterance: int) -> float:
        end, graph = int(lens[utterance]), graphs[utterance]
        arcs = (graph.source, graph.target, graph.pdf, graph.log_weight, graph.start, graph.final)
        return float(logarithmic(numbers[utterance, :end], *arcs, posteriors[utterance, :end]))

    return _each(one, len(numbers), posteriors, outputs)


def _each(one: Callable[[int], float], num_utterances: int, posteriors: NDArray[Any], like: Tensor) -> Occupancy:
    """Utterance by utterance; posteriors are filled on the way."""
    log_likes = in_threads(one, num_utterances)
    known = torch.tensor(log_likes, dtype=torch.float64, device=like.device)
    found = torch.from_numpy(posteriors).to(like)
    return Occupancy(known, torch.where(known.isneginf()[:, None, None], 0.0, found))
