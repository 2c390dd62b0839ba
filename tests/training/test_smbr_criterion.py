"""sMBR as a criterion of whole utterances: what it gives is that of the loss, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.tiny_state_lattices import NUM_STATES, lattice_of
from helpers.toy_utterances import toy_tdnnf
from lhuc_asr.errors import AlignmentError, DataError
from lhuc_asr.training.criteria.smbr.objective import Smbr, SmbrConfig, SmbrTarget
from lhuc_asr.training.criteria.smbr_criterion import SmbrCriterion
from lhuc_asr.training.examples.sequence_batches import SequenceBatches, SequenceConfig
from lhuc_asr.training.examples.sequence_data import SequenceData

FEAT_DIM = toy_tdnnf(NUM_STATES).feat_dim


def target_of(utterance: str, num_outputs: int) -> SmbrTarget:
    """Two states are possible in each output; the first of them is right."""
    arcs = [(t, t + 1, state, 0.0) for t in range(num_outputs) for state in (t % 3, 3)]
    lattice = lattice_of(arcs, {num_outputs: 0.0}, utterance=utterance)
    return SmbrTarget(lattice, np.array([t % 3 for t in range(num_outputs)], np.int32))


def criterion_of(lengths: dict[str, int]) -> SmbrCriterion:
    smbr = Smbr(torch.zeros(NUM_STATES), config=SmbrConfig(acoustic_scale=1.0))
    return SmbrCriterion(smbr, {name: target_of(name, length) for name, length in lengths.items()})


def batches_of(lengths: dict[str, int]) -> SequenceBatches:
    feats = {name: np.zeros((length, FEAT_DIM), np.float32) for name, length in lengths.items()}
    return SequenceBatches(SequenceData.gather(feats, list(feats)), SequenceConfig(num_prefetched=0), multiple=3)


def test_it_is_the_loss_of_the_utterances_in_the_batch() -> None:
    criterion, batches = criterion_of({"a": 4, "b": 3, "c": 5}), batches_of({"a": 12, "b": 9})
    (batch,) = batches.epoch(0)
    scores = torch.randn(2, 4, NUM_STATES, generator=torch.Generator().manual_seed(1))
    log_probs, lens = scores.log_softmax(dim=2).requires_grad_(), -(-batch.lens // 3)
    judged = criterion(log_probs, lens, batch)
    shares = [  # every output stands alone in these lattices
        (log_probs[row, t, t % 3] - torch.logaddexp(log_probs[row, t, t % 3], log_probs[row, t, 3])).exp()
        for row, length in enumerate(lens.tolist())
        for t in range(length)
    ]
    torch.testing.assert_close(judged.objective, -torch.stack(shares).mean())
    assert judged.num_frames == 7
    assert judged.num_correct == pytest.approx(float(torch.stack(shares).detach().sum()), rel=1e-5)
    judged.objective.backward()
    assert log_probs.grad is not None and bool(log_probs.grad.abs().sum() > 0)


def test_lattices_of_another_length_are_named() -> None:
    criterion = criterion_of({"a": 4, "b": 4})
    with pytest.raises(AlignmentError, match=r"than their utterances: 'b' \(3 outputs, 4 in the lattice\)$"):
        criterion.check(toy_tdnnf(NUM_STATES), batches_of({"a": 12, "b": 9}))


def test_states_that_the_network_lacks_are_refused() -> None:
    criterion, batches = criterion_of({"a": 4}), batches_of({"a": 12})
    criterion.check(toy_tdnnf(NUM_STATES), batches)
    with pytest.raises(DataError, match="tied state 3 is none of the network's 3"):
        criterion.check(toy_tdnnf(3), batches)


def test_other_references_are_another_criterion() -> None:
    assert criterion_of({"a": 4}).identity() == criterion_of({"a": 4}).identity()
    assert criterion_of({"a": 4}).identity() != criterion_of({"a": 5}).identity()
