"""Ranking models: the published equations, gates that begin as the plain DNN, gradients that end where they should."""

import numpy as np
import pytest
import torch

from helpers.published_equations import pepnet
from helpers.tiny_logs import tiny_log
from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.gate import GateConfig
from lhuc_asr.ranking.encoding import Encoder
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.ranker_config import Placement, RankerConfig, RankerKind
from lhuc_asr.ranking.schema import ClickLog

TASKS = ("click", "like")
LOG = tiny_log(60, tasks=TASKS)
ENCODER = Encoder.of(LOG)
BATCH = ENCODER.encode(LOG)
USER, ITEM, DOMAIN, AUTHOR, KIND = range(5)


def ranker_of(kind=RankerKind.ppnet, *, stirred=False, seed=0, **settings):
    torch.manual_seed(seed)
    ranker = Ranker(ENCODER, RankerConfig(kind=kind, embedding_dim=3, hidden_dims=[5, 4], **settings))
    if stirred:
        with torch.no_grad():
            for parameter in ranker.parameters():
                parameter.add_(torch.randn_like(parameter))
    return ranker


@pytest.mark.parametrize("kind", [RankerKind.ppnet, RankerKind.pepnet])
@pytest.mark.parametrize("placement", Placement)
def test_it_computes_the_published_equations(kind, placement):
    ranker = ranker_of(kind, placement=placement, stirred=True).double()
    weights = {name: value.numpy() for name, value in ranker.state_dict().items()}
    expected = pepnet(
        BATCH.rows_NS.numpy(),
        BATCH.dense_ND.double().numpy(),
        weights,
        shared=[ITEM, DOMAIN, AUTHOR, KIND],
        personal=[USER, ITEM, AUTHOR],
        domain=[DOMAIN] if kind is RankerKind.pepnet else None,
        num_tasks=2,
        num_layers=2,
        on_input=placement is Placement.eager,
    )
    np.testing.assert_allclose(ranker(BATCH).detach().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", list(RankerKind)[1:])
def test_fresh_gates_leave_the_plain_dnn_as_it_is(kind):
    gated, plain = ranker_of(kind, placement=Placement.eager), ranker_of(RankerKind.dnn)
    plain.load_state_dict({name: value for name, value in gated.state_dict().items() if name in plain.state_dict()})
    assert torch.equal(gated(BATCH), plain(BATCH))


def test_without_an_identity_start_they_do_not():
    gated = ranker_of(gate=GateConfig(identity_start=False))
    plain = ranker_of(RankerKind.dnn)
    plain.load_state_dict({name: value for name, value in gated.state_dict().items() if name in plain.state_dict()})
    assert not torch.equal(gated(BATCH), plain(BATCH))


def gradient_through_the_gate(stop_gradient):
    """What the gates' scales alone send to the shared tables."""
    ranker = ranker_of(stirred=True, stop_gradient=stop_gradient)
    x_BE = torch.cat([ranker.shared(BATCH.rows_NS), BATCH.dense_ND], dim=-1)
    sum(scale.sum() for scale in ranker.personal_scales(BATCH, x_BE).values()).backward()
    personal = [table.weight.grad is not None for table in ranker.personal_ids.each_table()]
    shared = [table.weight.grad is not None for table in ranker.shared.each_table()]
    return all(personal), any(shared)


def test_the_gates_train_their_own_tables_and_not_those_of_the_towers():
    assert gradient_through_the_gate(stop_gradient=True) == (True, False)
    assert gradient_through_the_gate(stop_gradient=False) == (True, True)


def test_every_parameter_of_pepnet_learns():
    ranker = ranker_of(RankerKind.pepnet, stirred=True, placement=Placement.eager)
    ranker(BATCH).square().sum().backward()
    idle = [name for name, parameter in ranker.named_parameters() if parameter.grad is None]
    assert not idle


def test_the_plain_dnn_does_not_see_the_user_unless_told():
    def moves_with_the_user(ranker):
        other = BATCH.at(slice(None))
        rows = other.rows_NS.clone()
        rows[:, USER] = rows[:, USER].roll(1)
        return not torch.equal(ranker(BATCH), ranker(type(BATCH)(rows, BATCH.dense_ND, BATCH.labels_NT)))

    assert not moves_with_the_user(ranker_of(RankerKind.dnn, stirred=True))
    assert moves_with_the_user(ranker_of(RankerKind.dnn, stirred=True, shared_features=["user_id", "item_id"]))
    assert moves_with_the_user(ranker_of(RankerKind.ppnet, stirred=True))


def test_gates_on_some_layers():
    assert ranker_of(gated_layers=[2]).places == (2,)
    assert ranker_of(placement=Placement.eager).places == (0, 1, 2)
    assert ranker_of(placement=Placement.eager, gated_layers=[1]).places == (0, 1)


def test_tables_and_other_weights_are_all_parameters():
    ranker = ranker_of(RankerKind.pepnet)
    assert len(ranker.tables()) == 4 + 3 + 1
    assert len(ranker.tables()) + len(ranker.weights()) == len(list(ranker.parameters()))


def test_the_default_row_begins_in_the_middle():
    assert all(not table.weight[0].any() for table in ranker_of().shared.each_table())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"personal_features": ["user"]},
            r"personal_features names 'user', which the log lacks; the nearest are 'user_id'",
        ),
        ({"shared_features": ["kind", "kind"]}, "names a feature twice: kind, kind"),
        ({"gated_layers": [3]}, "counts from 1 to 2, got 3"),
        ({"domain_features": []}, "must name a feature"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings, told):
    with pytest.raises(ConfigError, match=told):
        ranker_of(**settings)
    with pytest.raises(ConfigError, match=r"embedding_dim must be at least 1, got 0"):
        RankerConfig(embedding_dim=0)
    with pytest.raises(ConfigError, match=r"hidden_dims needs a layer, and every layer a unit, got \[\]"):
        RankerConfig(hidden_dims=[])


def test_a_gate_of_one_domain_is_refused():
    one = ClickLog(LOG.user_id, LOG.item_id, np.zeros(60, int), LOG.labels)
    with pytest.raises(ConfigError, match="domain has one value in all the log; choose ppnet or dnn"):
        Ranker(Encoder.of(one), RankerConfig(kind=RankerKind.pepnet))
