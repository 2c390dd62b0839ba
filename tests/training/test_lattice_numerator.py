"""Lattices as numerators: every path written out gives the same likelihoods and the same slopes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from helpers.tiny_state_lattices import NUM_STATES, lattice_of, paths, state_lattices
from lhuc_asr.training.criteria.lfmmi.forward_backward import Engine, log_likelihood, numerator_occupancy
from lhuc_asr.training.criteria.lfmmi.lattice_numerator import numerator_of_lattice
from lhuc_asr.training.criteria.smbr.state_lattice import StateLattice


def outputs_of(num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, num_frames, NUM_STATES, generator=generator, dtype=torch.float64).requires_grad_()


def likelihood(outputs: torch.Tensor, lattice: StateLattice, engine: Engine) -> torch.Tensor:
    lens = torch.tensor([lattice.num_frames])
    return log_likelihood(outputs, numerator_occupancy(outputs, lens, [numerator_of_lattice(lattice)], engine=engine))


def by_enumeration(outputs: torch.Tensor, lattice: StateLattice) -> torch.Tensor:
    scores = [
        weight + sum((outputs[0, t, state] for t, state in enumerate(states)), torch.tensor(0.0))
        for weight, states in paths(lattice)
    ]
    return torch.stack(scores).logsumexp(dim=0)


@pytest.mark.parametrize("engine", [Engine.torch, Engine.compiled])
@settings(max_examples=40, deadline=None)
@given(state_lattices())
def test_all_paths_are_summed(engine: Engine, lattice: StateLattice) -> None:
    outputs = outputs_of(lattice.num_frames)
    found, wanted = likelihood(outputs, lattice, engine), by_enumeration(outputs, lattice)
    torch.testing.assert_close(found[0].detach(), wanted.detach())
    slopes = [torch.autograd.grad(value.sum(), outputs)[0] for value in (found, wanted)]
    torch.testing.assert_close(*slopes)


@settings(max_examples=10, deadline=None)
@given(state_lattices())
def test_slopes_are_finite_differences(lattice: StateLattice) -> None:
    def loss(outputs: torch.Tensor) -> torch.Tensor:
        return likelihood(outputs, lattice, Engine.compiled).sum()

    assert torch.autograd.gradcheck(loss, outputs_of(lattice.num_frames))


def test_arcs_without_frames_pass_their_weight_on() -> None:
    arcs = [(0, 1, -1, -0.5), (0, 1, -1, -1.5), (1, 2, 3, -0.25), (2, 3, -1, -2.0)]
    graph = numerator_of_lattice(lattice_of(arcs, {2: -1.0, 3: -0.125}))
    assert graph.pdf.tolist() == [3, 3]
    assert sorted(graph.log_weight) == [-1.75, -0.75]
    assert graph.min_frames() == 1
    assert graph.final[1] == pytest.approx(np.logaddexp(-1.0, -2.125))
