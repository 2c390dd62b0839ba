"""Forward-backward against enumeration, dense matrices and finite differences; both engines alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.training.criteria.lfmmi.forward_backward import (
    Engine,
    Occupancy,
    denominator_occupancy,
    log_likelihood,
    numerator_occupancy,
)
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph, GraphBuilder

NUM_PDFS = 3
ENGINES = [Engine.torch, Engine.compiled]
both_engines = pytest.mark.parametrize("engine", ENGINES)


def random_graph(seed: int, *, num_states: int = 3, dense: bool = False) -> ChainGraph:
    """Some arcs, doubled ones and dead ends among them."""
    random = np.random.default_rng(seed)
    builder = GraphBuilder()
    for state in range(num_states):
        may_start, may_end = dense or state == 0 or random.random() < 0.3, dense or random.random() < 0.5
        builder.add_state(
            start=random.normal() if may_start else -np.inf, final=random.normal() if may_end else -np.inf
        )
    for source, target in itertools.product(range(num_states), repeat=2):
        for _ in range(1 if dense else random.integers(3)):
            builder.add_arc(source, target, pdf=int(random.integers(NUM_PDFS)), log_weight=random.normal())
    return builder.graph()


def normalised(graph: ChainGraph) -> ChainGraph:
    """The same graph whose start adds up to 1, as a denominator's does."""
    start = graph.start - np.logaddexp.reduce(graph.start)
    return ChainGraph(graph.source, graph.target, graph.pdf, graph.log_weight, start, graph.final)


def enumerated(graph: ChainGraph, outputs: np.ndarray) -> float:
    """Log of the summed probabilities of every path, one by one."""
    paths = [(graph.start[state], state) for state in range(graph.num_states) if graph.start[state] > -np.inf]
    for frame in outputs:
        paths = [
            (score + graph.log_weight[arc] + frame[graph.pdf[arc]], graph.target[arc])
            for score, state in paths
            for arc in range(graph.num_arcs)
            if graph.source[arc] == state
        ]
    return float(np.logaddexp.reduce([score + graph.final[state] for score, state in paths] or [-np.inf]))


def by_matrices(graph: ChainGraph, outputs: np.ndarray, leak: float) -> float:
    """The product of dense matrices, one for the arcs and one for the leak."""
    start, size = np.exp(graph.start), graph.num_states
    row = start
    for t, frame in enumerate(outputs):
        arcs = np.zeros((size, size))
        np.add.at(arcs, (graph.source, graph.target), np.exp(graph.log_weight + frame[graph.pdf]))
        row = row @ (np.eye(size) + leak * np.outer(np.ones(size), start) * (t > 0)) @ arcs
    return float(np.log(row @ np.exp(graph.final)))


def scores(num_utterances: int, num_frames: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(num_utterances, num_frames, NUM_PDFS, generator=generator, dtype=torch.float64).to(dtype)


@both_engines
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), num_frames=st.integers(1, 4))
def test_all_paths_are_summed(engine: Engine, seed: int, num_frames: int) -> None:
    graph, outputs = random_graph(seed), scores(1, num_frames, seed=seed)
    lens, expected = torch.tensor([num_frames]), enumerated(graph, outputs[0].numpy())
    numerator = numerator_occupancy(outputs, lens, [graph], engine=engine)
    denominator = denominator_occupancy(outputs, lens, graph, leak=0.0, engine=engine)
    for occupancy in (numerator, denominator):
        assert float(occupancy.log_like) == pytest.approx(expected, rel=1e-9)
        if np.isfinite(expected):
            torch.testing.assert_close(occupancy.posteriors.sum(2), torch.ones(1, num_frames, dtype=torch.float64))
        else:
            assert not occupancy.posteriors.any()


@both_engines
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), leak=st.floats(0, 1))
def test_leaking_equals_dense_matrices(engine: Engine, seed: int, leak: float) -> None:
    graph, outputs = normalised(random_graph(seed, num_states=5, dense=True)), scores(2, 7, seed=seed)
    found = denominator_occupancy(outputs, torch.tensor([7, 4]), graph, leak=leak, engine=engine).log_like
    expected = [by_matrices(graph, outputs[0].numpy(), leak), by_matrices(graph, outputs[1, :4].numpy(), leak)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@both_engines
def test_gradients_equal_finite_differences(engine: Engine) -> None:
    graph, outputs = normalised(random_graph(1, dense=True)), scores(2, 5).requires_grad_()
    lens = torch.tensor([5, 3])

    def denominator(values: torch.Tensor) -> torch.Tensor:
        return log_likelihood(values, denominator_occupancy(values, lens, graph, leak=0.3, engine=engine))

    def numerator(values: torch.Tensor) -> torch.Tensor:
        graphs = [graph, random_graph(5, dense=True)]
        return log_likelihood(values, numerator_occupancy(values, lens, graphs, engine=engine))

    assert torch.autograd.gradcheck(denominator, outputs)
    assert torch.autograd.gradcheck(numerator, outputs)


def occupancies(outputs: torch.Tensor, lens: torch.Tensor, graphs: list[ChainGraph], engine: Engine) -> list[Occupancy]:
    return [
        numerator_occupancy(outputs, lens, graphs, engine=engine),
        denominator_occupancy(outputs, lens, normalised(graphs[0]), leak=0.1, engine=engine),
    ]


@both_engines
def test_a_batch_equals_one_by_one_and_padding_has_no_effect(engine: Engine) -> None:
    graphs = [random_graph(seed, num_states=4, dense=True) for seed in range(3)]
    outputs, lens = scores(3, 9), torch.tensor([9, 4, 6])
    outputs[1, 4:], outputs[2, 6:] = torch.nan, torch.inf
    together = occupancies(outputs, lens, graphs, engine)
    for row, end in enumerate(lens.tolist()):
        order = [graphs[row], *graphs]
        alone = numerator_occupancy(outputs[row : row + 1, :end], lens[row : row + 1], order[:1], engine=engine)
        alone_denominator = denominator_occupancy(
            outputs[row : row + 1, :end], lens[row : row + 1], normalised(graphs[0]), leak=0.1, engine=engine
        )
        for batch, single in zip(together, (alone, alone_denominator), strict=True):
            torch.testing.assert_close(batch.log_like[row], single.log_like[0])
            torch.testing.assert_close(batch.posteriors[row, :end], single.posteriors[0])
            assert not batch.posteriors[row, end:].any()


def test_threads_change_nothing() -> None:
    graphs = [random_graph(seed, num_states=4, dense=True) for seed in range(3)]
    outputs, lens, num_threads = scores(3, 9), torch.tensor([9, 4, 6]), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(occupancies(outputs, lens, graphs, Engine.compiled))
    finally:
        torch.set_num_threads(num_threads)
    for one, two in zip(*found, strict=True):
        assert torch.equal(one.log_like, two.log_like)
        assert torch.equal(one.posteriors, two.posteriors)


def ladder(num_states: int) -> ChainGraph:
    """Every state lasts or goes on to the next; the last one ends."""
    builder = GraphBuilder()
    for state in range(num_states):
        builder.add_state(start=0.0 if state == 0 else -np.inf, final=0.0 if state == num_states - 1 else -np.inf)
        builder.add_arc(state, state, pdf=0, log_weight=-0.7)
        if state:
            builder.add_arc(state - 1, state, pdf=1 + state % 2, log_weight=-0.7)
    return builder.graph()


@both_engines
def test_long_utterances_of_extreme_scores_stay_finite_in_float32(engine: Engine) -> None:
    outputs, lens = 30 * scores(1, 3000, dtype=torch.float32), torch.tensor([3000])
    denominator = normalised(random_graph(3, num_states=6, dense=True))
    for occupancy in (
        numerator_occupancy(outputs, lens, [ladder(1200)], engine=engine),
        denominator_occupancy(outputs, lens, denominator, leak=0.1, engine=engine),
    ):
        assert occupancy.log_like.isfinite().all()
        torch.testing.assert_close(occupancy.posteriors.sum(2), torch.ones(1, 3000), atol=0.02, rtol=0)


def test_the_engines_agree_in_float32() -> None:
    graphs = [random_graph(seed, num_states=6, dense=True) for seed in range(2)]
    outputs, lens = scores(2, 50, dtype=torch.float32), torch.tensor([50, 31])
    results = [occupancies(outputs, lens, graphs, engine) for engine in ENGINES]
    for reference, compiled in zip(*results, strict=True):
        torch.testing.assert_close(reference.log_like, compiled.log_like, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(reference.posteriors, compiled.posteriors, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_processor_gives() -> None:
    graphs = [random_graph(seed, num_states=6, dense=True) for seed in range(2)]
    outputs, lens = scores(2, 50), torch.tensor([50, 31])
    here, there = (occupancies(outputs.to(device), lens, graphs, Engine.auto) for device in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one.log_like, other.log_like.cpu())
        torch.testing.assert_close(one.posteriors, other.posteriors.cpu())
