"""Training: tastes are learnt by gates and not without, the same seed gives the same model, the best epoch is kept."""

import numpy as np
import pytest
import torch

from helpers.tiny_logs import tiny_log
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.ranking.encoding import Encoder
from lhuc_asr.ranking.evaluation import evaluate, evaluate_domains, probabilities
from lhuc_asr.ranking.metrics import grouped_auc
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.ranker_config import RankerConfig, RankerKind
from lhuc_asr.ranking.training import Measure, RankerTrainingConfig, train_ranker

TRAIN, HELD_OUT = tiny_log(3000), tiny_log(800, seed=1)
ENCODER = Encoder.of(TRAIN)


def trained(kind, *, seed=0, **settings):
    torch.manual_seed(seed)
    ranker = Ranker(ENCODER, RankerConfig(kind=kind, embedding_dim=4, hidden_dims=[16, 8]))
    config = RankerTrainingConfig(**{"batch_size": 100, "lr": 0.005, "max_epochs": 6, **settings})
    return ranker, train_ranker(ranker, ENCODER, TRAIN, HELD_OUT, config, seed=seed)


def test_gates_learn_tastes_and_the_plain_dnn_cannot():
    attainable = grouped_auc(HELD_OUT.chances["click"], HELD_OUT.labels["click"], HELD_OUT.user_id).value
    plain, gated = (trained(kind)[1].best.held_out["click"] for kind in (RankerKind.dnn, RankerKind.ppnet))
    assert plain.gauc.value < attainable - 0.05
    assert gated.gauc.value > plain.gauc.value + 0.5 * (attainable - plain.gauc.value)
    assert gated.log_loss < plain.log_loss


def test_the_same_seed_gives_the_same_model_and_the_best_epoch_is_kept():
    (first, report), (second, _) = (trained(RankerKind.pepnet, max_epochs=2) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert evaluate(first, ENCODER, HELD_OUT) == report.best.held_out
    assert not first.training


def test_it_ends_when_nothing_is_gained():
    _, report = trained(RankerKind.dnn, lr=1e-9, table_lr=1e-9, patience=2, max_epochs=9)
    assert len(report.history) <= report.best_epoch + 2 < 9


@pytest.mark.parametrize("measure", Measure)
def test_the_best_epoch_is_the_best_by_the_measure(measure):
    _, report = trained(RankerKind.dnn, measure=measure, max_epochs=3, patience=3)
    values = {
        Measure.gauc: [epoch.held_out["click"].gauc.value for epoch in report.history],
        Measure.auc: [epoch.held_out["click"].auc for epoch in report.history],
        Measure.log_loss: [-epoch.held_out["click"].log_loss for epoch in report.history],
    }
    assert report.best_epoch == 1 + int(np.argmax(values[measure]))


def test_tasks_and_domains_are_judged_one_by_one():
    log = tiny_log(300, tasks=("click", "like"))
    encoder = Encoder.of(log)
    ranker = Ranker(encoder, RankerConfig(hidden_dims=[4]))
    by_domain = evaluate_domains(ranker, encoder, log)
    assert list(by_domain) == [0, 1] and list(by_domain[0]) == ["click", "like"]
    assert sum(scores["like"].num_impressions for scores in by_domain.values()) == 300
    with pytest.raises(DataError, match="domain 3 has no impressions; the log has those of 0, 1"):
        evaluate_domains(ranker, encoder, log, [1, 3])


def test_probabilities_do_not_depend_on_the_company():
    ranker = Ranker(ENCODER, RankerConfig(hidden_dims=[4]))
    impressions = ENCODER.encode(HELD_OUT)
    np.testing.assert_allclose(
        probabilities(ranker, impressions.at(slice(5, 9))), probabilities(ranker, impressions)[5:9], rtol=1e-6
    )


def test_what_cannot_be_learnt_or_judged_is_told():
    ranker = Ranker(ENCODER, RankerConfig(hidden_dims=[4]))
    one_label = HELD_OUT.rows(HELD_OUT.labels["click"] == 1)
    with pytest.raises(DataError, match=r"measure=gauc cannot be taken .* one label only within every user"):
        train_ranker(ranker, ENCODER, TRAIN, one_label, RankerTrainingConfig(max_epochs=1))
    with pytest.raises(DataError, match="has no impressions"):
        evaluate(ranker, ENCODER, HELD_OUT.rows(slice(0, 0)))
    with pytest.raises(DataError, match=r"objective is (nan|inf)"):
        train_ranker(ranker, ENCODER, TRAIN, HELD_OUT, RankerTrainingConfig(lr=1e30))
    for wrong in ({"batch_size": 0}, {"lr": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(ConfigError, match=f"ranker_training.{next(iter(wrong))}"):
            RankerTrainingConfig(**wrong)
