"""The loss: its gradient, its regularisers, what it refuses, and that training with it finds the words."""

from __future__ import annotations

import pytest
import torch

from lhuc_asr.errors import AlignmentError, ConfigError, DataError, ModelError
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import denominator_graph
from lhuc_asr.training.criteria.lfmmi.forward_backward import Engine
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler
from lhuc_asr.training.criteria.lfmmi.objective import LfMmi, LfMmiConfig, chain_cross_entropy
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm

SAID = [PhoneGraph.of_words([[[2, 3]], [[4], [3]]]), PhoneGraph.of_words([[[4, 2]]])]
TOPOLOGY = ChainTopology.monophone(4)
IDS = ["one", "two"]
LENS = torch.tensor([7, 5])


def graphs() -> tuple[ChainGraph, list[ChainGraph]]:
    lm = PhoneLm.estimate(SAID)
    denominator = denominator_graph(lm, TOPOLOGY)
    compiler = NumeratorCompiler(lm, TOPOLOGY, log_start=float(denominator.start[0]))
    return denominator, [compiler.of_phones(said) for said in SAID]


def outputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 7, TOPOLOGY.num_pdfs, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("engine", [Engine.torch, Engine.compiled])
def test_the_gradient_equals_finite_differences(engine: Engine) -> None:
    denominator, numerators = graphs()
    objective = LfMmi(denominator, LfMmiConfig(l2_regularisation=0.1, engine=engine))
    assert torch.autograd.gradcheck(lambda values: objective(values, LENS, numerators, IDS).loss, outputs())


def test_the_regulariser_counts_no_padding() -> None:
    denominator, numerators = graphs()
    values = outputs()
    with_l2, without = (
        LfMmi(denominator, LfMmiConfig(l2_regularisation=weight))(values, LENS, numerators, IDS)
        for weight in (0.2, 0.0)
    )
    centred = values - values.mean(dim=2, keepdim=True)
    squares = centred[0].square().sum() + centred[1, :5].square().sum()
    torch.testing.assert_close(with_l2.loss - without.loss, 0.2 * 0.5 * squares / 12)
    torch.testing.assert_close(without.loss, -without.log_prob)
    assert with_l2.num_frames == 12
    assert float(without.log_prob) < 0


def test_adding_a_constant_to_a_frame_changes_nothing() -> None:
    denominator, numerators = graphs()
    objective, values = LfMmi(denominator, LfMmiConfig(l2_regularisation=0.1)), outputs().detach()
    shifted = values + 50 * torch.randn(2, 7, 1, dtype=torch.float64)
    first, second = (objective(one, LENS, numerators, IDS) for one in (values, shifted))
    torch.testing.assert_close(first.log_prob, second.log_prob)
    torch.testing.assert_close(first.loss, second.loss)


def test_what_does_not_fit_is_told_by_id() -> None:
    denominator, numerators = graphs()
    with pytest.raises(AlignmentError, match="'one' has 2 outputs of the network, its words need 3 or more") as raised:
        LfMmi(denominator)(outputs(), torch.tensor([2, 5]), numerators, IDS)
    assert "'two'" not in str(raised.value)


def test_outputs_that_are_not_finite_are_told_by_id() -> None:
    denominator, numerators = graphs()
    values = outputs().detach()
    values[1, 3, 0] = torch.nan
    with pytest.raises(DataError, match="'two'"):
        LfMmi(denominator)(values, LENS, numerators, IDS)


def test_a_network_of_too_few_outputs_is_refused() -> None:
    denominator, numerators = graphs()
    with pytest.raises(ModelError, match="has 7 outputs, the graphs have 8 tied states"):
        LfMmi(denominator)(outputs()[..., :7], LENS, numerators, IDS)


@pytest.mark.parametrize("engine", [Engine.torch, Engine.compiled])
def test_half_precision_is_summed_in_single(engine: Engine) -> None:
    denominator, numerators = graphs()
    objective = LfMmi(denominator, LfMmiConfig(engine=engine, l2_regularisation=0.0))
    half = outputs().detach().bfloat16().requires_grad_()
    single = half.detach().float().requires_grad_()
    results = [objective(values, LENS, numerators, IDS) for values in (half, single)]
    for result in results:
        result.loss.backward()
    assert torch.equal(results[0].log_prob, results[1].log_prob)
    assert half.grad is not None and single.grad is not None
    torch.testing.assert_close(half.grad, single.grad.bfloat16())


@pytest.mark.parametrize("wrong", [{"leak": -0.1}, {"leak": 2.0}, {"l2_regularisation": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LfMmiConfig(**wrong)  # type: ignore[arg-type]


def test_cross_entropy_against_certain_targets_is_that_of_the_frames() -> None:
    log_probs = torch.randn(2, 4, 5).log_softmax(-1)
    targets = torch.randint(0, 5, (2, 4))
    posteriors = torch.nn.functional.one_hot(targets, 5).float()
    posteriors[1, 2:] = 0
    expected = torch.cat([log_probs[0, range(4), targets[0]], log_probs[1, range(2), targets[1, :2]]])
    torch.testing.assert_close(chain_cross_entropy(log_probs, posteriors), -expected.mean())
    log_probs[1, 3] = -torch.inf
    torch.testing.assert_close(chain_cross_entropy(log_probs, posteriors), -expected.mean())


def test_training_from_a_flat_start_approaches_the_best_possible() -> None:
    denominator, numerators = graphs()
    objective = LfMmi(denominator, LfMmiConfig(leak=0.01, l2_regularisation=0.0))
    values = torch.zeros(2, 7, TOPOLOGY.num_pdfs, requires_grad=True)
    optimiser = torch.optim.Adam([values], lr=0.3)
    history = []
    for _ in range(60):
        optimiser.zero_grad()
        result = objective(values, LENS, numerators, IDS)
        result.loss.backward()
        optimiser.step()
        history.append(float(result.log_prob))
    assert history[-1] > history[0] / 2
    assert history[-1] < 0
