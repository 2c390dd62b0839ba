"""Outputs that are scores: cross-entropy reads them as if the priors of the states had been in the last layer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.toy_whole import network_of as whole_network_of
from helpers.toy_whole import sites_of
from helpers.toy_whole import speaker_of as talker_of
from helpers.toy_windows import NUM_STATES, NotPlain, Undivided, adapters_of, assert_same, network_of, speaker_of
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion, AdaptCriterionConfig, criterion_of
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.errors import ConfigError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.models.dnn import Dnn
from lhuc_asr.system.trained_objective import TrainedObjective, objective_path, write_objective
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import PhoneLm

LOG_PRIOR = torch.log_softmax(torch.arange(NUM_STATES, dtype=torch.float32), 0)


@pytest.mark.parametrize("kind", [Dnn, NotPlain, Undivided])
def test_frames_are_learnt_as_if_the_priors_were_in_the_last_layer(kind: type[Dnn]) -> None:
    scores, config = network_of(kind), AdaptConfig(batch_size=16)
    posteriors = copy.deepcopy(scores)
    posteriors.output.bias.data += LOG_PRIOR
    speakers = [speaker_of(place, size) for place, size in enumerate((40, 9))]
    found, wanted = adapters_of(scores, 2), adapters_of(posteriors, 2)
    reports = adapt_group(scores, found, speakers, config, criterion=AdaptCriterion(LOG_PRIOR))
    others = adapt_group(posteriors, wanted, speakers, config)
    for place, (one, other) in enumerate(zip(reports, others, strict=True)):
        assert_same(found[place], wanted[place])
        assert isinstance(one, UpdateReport) and isinstance(other, UpdateReport)
        assert one.objective_after == pytest.approx(other.objective_after, abs=1e-5)


@pytest.mark.parametrize("kind", ["tdnn_by_3", "blstm"])
def test_so_are_utterances(kind: str) -> None:
    scores, config = whole_network_of(kind), AdaptConfig(lr=0.1, batch_size=16)
    posteriors = copy.deepcopy(scores)
    output: Any = posteriors.output
    output.bias.data += LOG_PRIOR
    speakers = [talker_of(scores, lengths, place) for place, lengths in enumerate([(20, 9), (14,)])]
    found, wanted = ([LhucAdapter.identity(net, sites_of(net)) for _ in speakers] for net in (scores, posteriors))
    adapt_group(scores, found, speakers, config, criterion=AdaptCriterion(LOG_PRIOR))
    adapt_group(posteriors, wanted, speakers, config)
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


def test_posteriors_stay_as_they_are() -> None:
    log_probs = torch.randn(5, NUM_STATES).log_softmax(dim=1)
    assert AdaptCriterion().log_posteriors(log_probs) is log_probs
    uniform = AdaptCriterion(torch.zeros(NUM_STATES)).log_posteriors(log_probs)
    torch.testing.assert_close(uniform, log_probs)


class System:
    """As much of a model as a criterion asks for."""

    def __init__(self, directory: Path, log_prior: Tensor) -> None:
        self.directory, self.log_prior, self.fingerprint = directory, log_prior, "f" * 64
        self.hmm = HmmModel.monophone(("SIL", "SPN"))


def trained(directory: Path) -> None:
    said = PhoneLm.estimate([PhoneGraph.of_phones([1, 2])])
    write_objective(directory, TrainedObjective(log_prior=LOG_PRIOR, phone_lm=said), fingerprint="f" * 64)


def test_priors_come_back_to_scores_and_to_nothing_else(tmp_path: Path) -> None:
    trained(tmp_path)
    scores: Any = System(tmp_path, torch.zeros(NUM_STATES))
    found = criterion_of(scores, AdaptCriterionConfig(state_prior_scale=0.5))
    assert found.log_prior is not None
    torch.testing.assert_close(found.log_prior, 0.5 * LOG_PRIOR)
    assert criterion_of(scores, AdaptCriterionConfig(state_prior_scale=0)).log_prior is None
    hybrid: Any = System(tmp_path, LOG_PRIOR)
    assert criterion_of(hybrid, AdaptCriterionConfig()).log_prior is None
    assert found.identity() != criterion_of(scores, AdaptCriterionConfig()).identity() != []


def test_scores_of_unknown_training_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores: Any = System(tmp_path, torch.zeros(NUM_STATES))
    assert not objective_path(tmp_path).exists()
    assert criterion_of(scores, AdaptCriterionConfig()).log_prior is None
    assert "nothing tells the priors of the tied states" in caplog.text


@pytest.mark.parametrize("wrong", [-0.1, np.inf, np.nan])
def test_scales_out_of_range_are_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match=r"adapt\.state_prior_scale must be (0 or more|finite), got"):
        AdaptConfig(state_prior_scale=wrong)
