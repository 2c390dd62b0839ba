"""sMBR: value and gradient against every path written out, against finite differences, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_state_lattices import NUM_STATES, lattice_of, paths, state_lattices
from lhuc_asr.errors import AlignmentError, ConfigError, DataError, ModelError
from lhuc_asr.training.criteria.smbr.expected_accuracy import arc_accuracy
from lhuc_asr.training.criteria.smbr.objective import Silence, Smbr, SmbrConfig, SmbrTarget

LOG_PRIOR = torch.tensor([-0.5, -1.0, -1.5, -2.0], dtype=torch.float64)
TWO_FRAMES = [(0, 1, 0, 0.0), (0, 1, 1, 0.5), (1, 2, 1, 0.0), (1, 2, 3, -0.25)]


def log_probs_of(num_utterances: int, num_frames: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_utterances, num_frames, NUM_STATES, generator=generator, dtype=torch.float64)
    return scores.log_softmax(dim=2).requires_grad_()


def target_of(lattice, reference) -> SmbrTarget:
    return SmbrTarget(lattice, np.array(reference, np.int32))


@st.composite
def targets(draw, utterance="u1") -> SmbrTarget:
    lattice = draw(state_lattices(utterance=utterance))
    return target_of(lattice, draw(st.lists(st.integers(0, 3), min_size=(n := lattice.num_frames), max_size=n)))


def is_right(state: int, reference: int, silence: Silence, silences: set[int]) -> bool:
    if silence is Silence.never:
        return state == reference and state not in silences
    return state == reference or (silence is Silence.one_class and {state, reference} <= silences)


def by_enumeration(log_probs, target, scale, silence, silences) -> torch.Tensor:
    """Expected right frames with every path written out; torch differentiates it."""
    scores, counts = [], []
    for weight, states in paths(target.lattice):
        acoustic = sum((log_probs[t, state] - LOG_PRIOR[state] for t, state in enumerate(states)), torch.tensor(0.0))
        scores.append(scale * acoustic + weight)
        pairs = zip(states, target.reference.tolist(), strict=True)
        counts.append(float(sum(is_right(state, reference, silence, silences) for state, reference in pairs)))
    return (torch.stack(scores).softmax(dim=0) * torch.tensor(counts, dtype=torch.float64)).sum()


@settings(max_examples=60, deadline=None)
@given(targets("one"), targets("two"), st.sampled_from(Silence), st.sampled_from([0.1, 1.0]))
def test_value_and_gradient_equal_those_of_all_paths_written_out(one, two, silence, scale) -> None:
    batch, silences = [one, two], [0, 1]
    lens = torch.tensor([target.lattice.num_frames for target in batch])
    log_probs = log_probs_of(2, int(lens.max()) + 1)
    config = SmbrConfig(acoustic_scale=scale, silence=silence)
    result = Smbr(LOG_PRIOR, silence_states=silences, config=config)(log_probs, lens, batch)
    (gradient,) = torch.autograd.grad(result.loss, log_probs)
    rows = zip(log_probs, batch, strict=True)
    expected = torch.stack([by_enumeration(row, target, scale, silence, set(silences)) for row, target in rows])
    (wanted,) = torch.autograd.grad(-expected.sum() / lens.sum(), log_probs, materialize_grads=True, allow_unused=True)
    torch.testing.assert_close(result.per_utterance, expected.detach())
    torch.testing.assert_close(result.loss.detach(), -expected.detach().sum() / lens.sum())
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(result.frame_accuracy.sum(dim=1), expected.detach())


@settings(max_examples=15, deadline=None)
@given(targets(), st.sampled_from([0.0, 0.3]))
def test_the_gradient_equals_finite_differences(target, smoothing) -> None:
    smbr = Smbr(LOG_PRIOR, config=SmbrConfig(acoustic_scale=0.7, smoothing=smoothing))
    lens = torch.tensor([target.lattice.num_frames])
    assert torch.autograd.gradcheck(lambda values: smbr(values, lens, [target]).loss, log_probs_of(1, int(lens)))


def test_figures_by_hand() -> None:
    """Paths 0-1, 0-3, 1-1, 1-3 with weights 1, 3, 2, 6 of 12; the reference is 0-3."""
    lattice = lattice_of(
        [(0, 1, 0, 0.0), (0, 1, 1, np.log(2)), (1, 2, 1, 0.0), (1, 2, 3, np.log(3))], {2: -5.0}, utterance="u"
    )
    result = Smbr(torch.zeros(4))(torch.zeros(1, 2, 4), torch.tensor([2]), [target_of(lattice, [0, 3])])
    assert result.frame_accuracy.tolist() == [pytest.approx([1 / 3, 3 / 4])]
    assert float(result.accuracy) == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert result.num_frames == 2


def test_silence_is_right_as_the_setting_says() -> None:
    lattice = lattice_of([(0, 1, 0, 0.0), (1, 2, 1, 0.0), (2, 3, 2, 0.0)], {3: 0.0})
    right = {
        silence: float(
            Smbr(torch.zeros(4), silence_states=[0, 1], config=SmbrConfig(silence=silence))(
                torch.zeros(1, 3, 4), torch.tensor([3]), [target_of(lattice, [0, 0, 2])]
            ).per_utterance
        )
        for silence in Silence
    }
    assert right == {Silence.exact: 2.0, Silence.one_class: 3.0, Silence.never: 1.0}


def test_smoothing_mixes_in_the_cross_entropy_of_frames() -> None:
    target, log_probs = target_of(lattice_of(TWO_FRAMES, {2: 0.0}), [0, 3]), log_probs_of(1, 3)
    plain, mixed = (
        Smbr(LOG_PRIOR, config=SmbrConfig(smoothing=share))(log_probs, torch.tensor([2]), [target])
        for share in (0.0, 0.25)
    )
    cross_entropy = -(log_probs[0, 0, 0] + log_probs[0, 1, 3]) / 2
    torch.testing.assert_close(mixed.loss, 0.75 * plain.loss + 0.25 * cross_entropy)
    assert float(mixed.accuracy) == float(plain.accuracy)


def test_padding_and_batch_mates_change_nothing() -> None:
    short = target_of(lattice_of([(0, 1, 2, 0.0), (0, 1, 3, 0.1)], {1: 0.0}, utterance="short"), [2])
    long = target_of(lattice_of(TWO_FRAMES, {2: 0.0}, utterance="long"), [0, 3])
    log_probs, smbr = log_probs_of(2, 2), Smbr(LOG_PRIOR)
    with torch.no_grad():
        log_probs[0, 1] = torch.nan
        both = smbr(log_probs, torch.tensor([1, 2]), [short, long])
        alone = smbr(log_probs[:1, :1], torch.tensor([1]), [short])
    assert float(both.per_utterance[0]) == float(alone.per_utterance[0])
    assert bool(both.loss.isfinite())


def test_far_scores_keep_their_digits() -> None:
    """A thousand frames of equal choice: the expected number is half, whatever constant the scores carry."""
    rows = [(t, t + 1, state, 0.0) for t in range(1000) for state in (0, 1)]
    target = target_of(lattice_of(rows, {1000: 0.0}), [0] * 1000)
    log_probs = torch.full((1, 1000, 4), -500.0)
    result = Smbr(torch.zeros(4), config=SmbrConfig(acoustic_scale=1.0))(log_probs, torch.tensor([1000]), [target])
    assert float(result.per_utterance) == pytest.approx(500.0, abs=1e-6)
    half = log_probs.to(torch.bfloat16).requires_grad_()
    low = Smbr(torch.zeros(4))(half, torch.tensor([1000]), [target])
    low.loss.backward()
    assert half.grad is not None
    assert bool(half.grad.isfinite().all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_processor_gives() -> None:
    target, smbr = (
        target_of(lattice_of(TWO_FRAMES, {2: 0.0}), [0, 3]),
        Smbr(LOG_PRIOR, config=SmbrConfig(smoothing=0.2)),
    )
    leaves = [log_probs_of(1, 2).detach().to(device).requires_grad_() for device in ("cpu", "cuda")]
    here, there = (smbr(leaf, torch.tensor([2]), [target]).loss for leaf in leaves)
    torch.testing.assert_close(here, there.cpu())
    gradients = [torch.autograd.grad(loss, leaf)[0].cpu() for loss, leaf in zip((here, there), leaves, strict=True)]
    torch.testing.assert_close(*gradients)


def test_training_makes_the_reference_likelier() -> None:
    target = target_of(lattice_of(TWO_FRAMES, {2: 0.0}), [0, 3])
    scores, smbr = torch.zeros(1, 2, 4, requires_grad=True), Smbr(torch.zeros(4), config=SmbrConfig(acoustic_scale=1.0))
    optimiser = torch.optim.SGD([scores], lr=2.0)
    accuracies = []
    for _ in range(60):
        optimiser.zero_grad()
        result = smbr(scores.log_softmax(dim=2), torch.tensor([2]), [target])
        result.loss.backward()
        optimiser.step()
        accuracies.append(float(result.accuracy))
    assert accuracies == sorted(accuracies)
    assert accuracies[0] < 0.6
    assert accuracies[-1] > 0.95


def test_frames_whose_reference_no_path_has_are_counted() -> None:
    assert target_of(lattice_of(TWO_FRAMES, {2: 0.0}), [2, 3]).num_missing == 1
    assert target_of(lattice_of(TWO_FRAMES, {2: 0.0}), [1, 1]).num_missing == 0


def test_paths_without_weight_are_told_from_no_path() -> None:
    lattice = lattice_of(TWO_FRAMES, {2: 0.0})
    some = arc_accuracy(lattice, np.array([-np.inf, 0.0, 0.0, -np.inf]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert (some.expected, some.posterior.tolist()) == (1.0, [0.0, 1.0, 1.0, 0.0])
    assert arc_accuracy(lattice, np.full(4, -np.inf), np.zeros(4)).log_total == -np.inf


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda x: x["log_probs"].__setitem__((0, 1, 2), torch.nan), DataError, "not finite for 'anna'"),
        (lambda x: x.update(lens=torch.tensor([1])), AlignmentError, "'anna' has 1 outputs of the network, 2 frames"),
        (lambda x: x.update(reference=[0]), AlignmentError, "1 in its reference"),
        (lambda x: x.update(reference=[0, 4]), ModelError, "'anna' has tied states up to 4 .* outputs 0 to 3"),
        (lambda x: x.update(log_prior=torch.zeros(3)), ModelError, "4 outputs, but there are 3 priors"),
        (lambda x: x["log_prior"].__setitem__(slice(None), torch.inf), DataError, "no path .* for 'anna'"),
    ],
)
def test_refusals_name_the_utterance(change, error, says) -> None:
    given = {
        "log_probs": log_probs_of(1, 2).detach().clone(),
        "lens": torch.tensor([2]),
        "reference": [0, 3],
        "log_prior": torch.zeros(4, dtype=torch.float64),
    }
    change(given)
    target = target_of(lattice_of(TWO_FRAMES, {2: 0.0}, utterance="anna"), given["reference"])
    with pytest.raises(error, match=says):
        Smbr(given["log_prior"])(given["log_probs"], given["lens"], [target])


@pytest.mark.parametrize(
    ("arcs", "finals", "says"),
    [
        ([(0, 1, 0, np.nan)], {1: 0.0}, "weights are not finite"),
        ([(0, 1, 0, 0.0)], {}, "no path ends"),
        ([(0, 1, 0, 0.0), (1, 2, 0, 0.0)], {1: 0.0, 2: 0.0}, "different length"),
        ([(0, 1, 0, 0.0), (0, 1, -1, 0.0)], {1: 0.0}, "frames of its nodes"),
        ([(0, 2, 0, 0.0), (1, 1, 0, 0.0)], {2: 0.0}, "higher numbers"),
    ],
)
def test_lattices_that_are_none_are_refused_by_name(arcs, finals, says) -> None:
    with pytest.raises(DataError, match=f"'anna' cannot be trained on: .*{says}"):
        lattice_of(arcs, finals, utterance="anna")


@pytest.mark.parametrize("settings_", [{"acoustic_scale": 0.0}, {"smoothing": 1.0}, {"smoothing": -0.1}])
def test_settings_out_of_range_are_refused(settings_) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings_))):
        SmbrConfig(**settings_)
