"""What utterances are judged by: every criterion against its own definition, whole and in pieces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from helpers.toy_utterances import ALIGNER, CHAIN, ToyUtterances, toy_mmi, toy_tdnnf, toy_utterances
from lhuc_asr.errors import AlignmentError, ConfigError, DataError
from lhuc_asr.training.criteria.criterion import CriterionConfig, StateCrossEntropy
from lhuc_asr.training.criteria.ctc_criterion import Ctc
from lhuc_asr.training.criteria.lfmmi.chain_topology import ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import denominator_graph, log_starts
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph
from lhuc_asr.training.criteria.lfmmi.numerator import NumeratorCompiler, PhoneSegments
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm
from lhuc_asr.training.criteria.mmi_criterion import without_context
from lhuc_asr.training.examples.sequence_batches import SequenceBatch, SequenceBatches, SequenceConfig
from lhuc_asr.training.examples.sequence_data import SequenceData, cut

NUM_OUTPUTS = CHAIN.num_pdfs


def random_log_probs(batch: SequenceBatch, num_outputs: int, *, every: int = 1, seed: int = 0) -> torch.Tensor:
    """(B, T', V) log-probabilities that ask for a gradient."""
    shape = (len(batch.pieces), -(-batch.feats.shape[1] // every), num_outputs)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return logits.log_softmax(dim=2).requires_grad_()


def batches_of(speech: ToyUtterances, *, max_frames: int = 2000, context: int = 0, every: int = 1) -> SequenceBatches:
    """All utterances with the states of the aligner."""
    data = SequenceData.gather(speech.feats, speech.names, speech.states())
    config = SequenceConfig(max_frames=max_frames, chunk_context=context, num_prefetched=0, bucket_ratio=100)
    return SequenceBatches(data, config, multiple=every)


@pytest.mark.parametrize("every", [1, 3])
def test_cross_entropy_is_the_mean_over_outputs_that_have_a_state(every: int) -> None:
    (batch,) = batches_of(toy_utterances(3)).epoch(0)
    log_probs = random_log_probs(batch, ALIGNER.num_pdfs, every=every)
    lens = -(-batch.lens // every)
    criterion = StateCrossEntropy()
    criterion.prepare(batch.pieces, every)
    judged = criterion(log_probs, lens, batch)
    assert batch.targets is not None
    rows = torch.cat([row[:length] for row, length in zip(log_probs, lens.tolist(), strict=True)])
    targets = torch.cat([row[:length:every] for row, length in zip(batch.targets, batch.lens.tolist(), strict=True)])
    torch.testing.assert_close(judged.objective, functional.nll_loss(rows, targets))
    assert judged.num_frames == int(lens.sum()) == len(targets)
    assert judged.num_correct == int((rows.argmax(dim=1) == targets).sum())


@pytest.mark.parametrize("num_frames", range(1, 14))
@pytest.mark.parametrize("every", [2, 3, 4])
def test_a_right_output_for_every_so_manieth_frame_is_right_however_short_the_utterance(
    num_frames: int, every: int
) -> None:
    states = np.arange(num_frames)
    data = SequenceData.gather({"u": np.zeros((num_frames, 2), np.float32)}, ["u"], {"u": states})
    (batch,) = SequenceBatches(data, SequenceConfig(num_prefetched=0), multiple=every).epoch(0)
    outputs = torch.from_numpy(states[::every])
    log_probs = functional.one_hot(outputs, num_frames).float().clamp(min=1e-9).log()[None]
    criterion = StateCrossEntropy()
    criterion.prepare(batch.pieces, every)
    judged = criterion(log_probs, torch.tensor([len(outputs)]), batch)
    assert (float(judged.objective), judged.num_correct, judged.num_frames) == (0.0, len(outputs), len(outputs))


def test_cross_entropy_names_no_state_beyond_the_network() -> None:
    with pytest.raises(DataError, match=f"tied state {ALIGNER.num_pdfs - 1} is none of the network's 5"):
        StateCrossEntropy().check(toy_tdnnf(5), batches_of(toy_utterances(6)))


def test_mmi_is_lf_mmi_with_some_cross_entropy() -> None:
    speech = toy_utterances(3)
    batches = batches_of(speech)
    (batch,) = batches.epoch(0)
    log_probs, lens = random_log_probs(batch, NUM_OUTPUTS, every=3), -(-batch.lens // 3)
    plain, held = (toy_mmi(speech, smoothing=smoothing) for smoothing in (0.0, 0.5))
    for criterion in (plain, held):
        criterion.prepare(batches.pieces, 3)
    numerators = [plain.spoken.compiler.of_segments(plain.spoken.segments[name]) for name in batch.utterances]
    expected = plain.lfmmi(log_probs, lens, numerators, batch.utterances)
    judged = plain(log_probs, lens, batch)
    torch.testing.assert_close(judged.objective, expected.loss)
    assert judged.num_frames == expected.num_frames and judged.num_correct == expected.agreement * judged.num_frames
    entropy = -(expected.numerator_posteriors * log_probs).sum() / expected.num_frames
    torch.testing.assert_close(held(log_probs, lens, batch).objective, expected.loss + 0.5 * entropy)


def test_mmi_names_utterances_that_are_too_short_and_outputs_that_lack() -> None:
    speech = toy_utterances(3)
    speech.feats["u1"] = speech.feats["u1"][:6]
    data = SequenceData.gather(speech.feats, speech.names)
    batches = SequenceBatches(data, SequenceConfig(), multiple=3)
    criterion = toy_mmi(speech)
    criterion.prepare(batches.pieces, 3)
    with pytest.raises(AlignmentError, match=r"too short for their words: 'u1' \(2 outputs, \d+ needed\)$"):
        criterion.check(toy_tdnnf(NUM_OUTPUTS), batches)
    without = SequenceData.gather(speech.feats, ["u0", "u2"])
    with pytest.raises(DataError, match="tied state 3 is none of the network's 3"):
        criterion.check(toy_tdnnf(3), SequenceBatches(without, SequenceConfig(), multiple=3))


def said_in(graph: ChainGraph, num_frames: int) -> set[tuple[int, ...]]:
    """Every sequence of tied states that a graph allows."""
    found = set()
    waiting = [(int(state), ()) for state in np.flatnonzero(np.isfinite(graph.start))]
    for state, said in waiting:
        if len(said) == num_frames:
            found |= {said} if np.isfinite(graph.final[state]) else set()
            continue
        waiting += [
            (int(graph.target[arc]), (*said, int(graph.pdf[arc]))) for arc in np.flatnonzero(graph.source == state)
        ]
    return found


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 7), min_size=2, max_size=5),
    tolerance=st.integers(0, 4),
    bounds=st.tuples(st.integers(0, 8), st.integers(1, 9)),
)
def test_a_piece_allows_what_the_whole_allows_there(
    lengths: list[int], tolerance: int, bounds: tuple[int, int]
) -> None:
    starts = [0, *itertools.accumulate(lengths)]
    phones = [1 + index % 4 for index in range(len(lengths))]
    segments = PhoneSegments(phones, starts[:-1], starts[-1])
    lm, topology = PhoneLm.estimate([PhoneGraph.of_phones(phones)]), ChainTopology.of_tree(CHAIN.tree)
    compiler = NumeratorCompiler(lm, topology)
    first = min(bounds[0], segments.num_outputs - 1)
    end = min(first + bounds[1], segments.num_outputs)
    whole = said_in(compiler.of_segments(segments, tolerance=tolerance), segments.num_outputs)
    piece = said_in(compiler.of_stretch(segments, range(first, end), tolerance=tolerance), end - first)
    assert piece == {said[first:end] for said in whole}


def test_what_was_said_in_a_piece_is_never_likelier_than_what_could_be_said() -> None:
    speech = toy_utterances(6, num_phones=(6, 12))
    batches = batches_of(speech, max_frames=30, every=3)
    assert not any(piece.is_whole for piece in batches.pieces)
    criterion = toy_mmi(speech, leak=0.0)
    criterion.prepare(batches.pieces, 3)
    for batch in batches.epoch(0):
        for seed in range(3):
            log_probs = 5 * random_log_probs(batch, NUM_OUTPUTS, every=3, seed=seed).detach()
            assert float(criterion(log_probs, -(-batch.lens // 3), batch).objective) >= -1e-6


def test_the_starts_of_pieces_are_those_of_the_denominator() -> None:
    speech = toy_utterances(6)
    lm = PhoneLm.estimate([PhoneGraph.of_phones(said) for said in speech.phones.values()])
    topology = ChainTopology.of_tree(CHAIN.tree)
    denominator = denominator_graph(lm, topology)
    starts = log_starts(lm, topology, denominator)
    assert sorted(starts.values()) == sorted(denominator.start.tolist())
    assert sum(np.exp(start) for start in starts.values()) == pytest.approx(1)


def test_outputs_of_the_context_are_left_out() -> None:
    pieces = tuple(cut("u", 31, 21, 3, multiple=3))
    assert [(piece.start, piece.end, piece.left, piece.right) for piece in pieces] == [
        (0, 9, 0, 3),
        (9, 21, 3, 3),
        (21, 31, 3, 0),
    ]
    outputs = torch.arange(-(-31 // 3))
    of_piece = [outputs[(piece.start - piece.left) // 3 : -(-(piece.end + piece.right) // 3)] for piece in pieces]
    lens = torch.tensor([len(one) for one in of_piece])
    padded = torch.nn.utils.rnn.pad_sequence(of_piece, batch_first=True, padding_value=-1)[..., None]
    kept, kept_lens = without_context(padded, lens, pieces, 3)
    found = [row[:length, 0].tolist() for row, length in zip(kept, kept_lens.tolist(), strict=True)]
    assert found == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10]]


def test_a_piece_with_context_is_judged_like_its_outputs_alone() -> None:
    speech = toy_utterances(4, num_phones=(6, 12))
    with_context = batches_of(speech, max_frames=40, context=5, every=3)
    criterion = toy_mmi(speech, smoothing=0.3)
    criterion.prepare(with_context.pieces, 3)
    for batch in with_context.epoch(0):
        log_probs, lens = random_log_probs(batch, NUM_OUTPUTS, every=3), -(-batch.lens // 3)
        judged = criterion(log_probs, lens, batch)
        assert judged.num_frames == sum(-(-(piece.end - piece.start) // 3) for piece in batch.pieces)
        (gradient,) = torch.autograd.grad(judged.objective, log_probs)
        for piece, row in zip(batch.pieces, gradient, strict=True):
            first, end = piece.left // 3, -(-(piece.left + piece.end - piece.start) // 3)
            assert not row[:first].any() and not row[end:].any()
            assert row[first:end].abs().sum(dim=1).min() > 0


def test_ctc_is_that_of_torch_and_tells_the_label_error_rate() -> None:
    speech = toy_utterances(3)
    batches = batches_of(speech)
    (batch,) = batches.epoch(0)
    labels = {name: torch.tensor(said[1:-1]) for name, said in speech.phones.items()}
    criterion = Ctc(labels)
    criterion.check(toy_tdnnf(5), batches)
    log_probs = random_log_probs(batch, 5)
    expected = functional.ctc_loss(
        log_probs.transpose(0, 1),
        torch.cat([labels[name] for name in batch.utterances]),
        batch.lens,
        torch.tensor([len(labels[name]) for name in batch.utterances]),
        reduction="sum",
    )
    judged = criterion(log_probs, batch.lens, batch)
    torch.testing.assert_close(judged.objective, expected / int(batch.lens.sum()))
    said = torch.full(log_probs.shape, -20.0)
    for row, name in enumerate(batch.utterances):
        path = torch.zeros(said.shape[1], dtype=torch.long)
        path[: 2 * len(labels[name]) : 2] = labels[name]
        said[row, torch.arange(said.shape[1]), path] = 0.0
    assert criterion(said, batch.lens, batch).num_correct == pytest.approx(int(batch.lens.sum()))


def test_ctc_names_utterances_that_are_too_short_and_labels_that_lack() -> None:
    speech = toy_utterances(2)
    batches = batches_of(speech)
    with pytest.raises(AlignmentError, match=r"too short for their labels: 'u1' \(\d+ frames, 300 needed\)"):
        Ctc({"u0": torch.tensor([1]), "u1": torch.arange(300) % 3 + 1}).check(toy_tdnnf(5), batches)
    with pytest.raises(DataError, match="tied state 5 is none of the network's 5"):
        Ctc({"u0": torch.tensor([1]), "u1": torch.tensor([5])}).check(toy_tdnnf(5), batches)


@pytest.mark.parametrize("wrong", [{"smoothing": -0.1}, {"tolerance": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"criterion.{next(iter(wrong))}"):
        CriterionConfig(**wrong)  # type: ignore[arg-type]
