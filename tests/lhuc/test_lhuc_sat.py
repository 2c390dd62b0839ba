"""Tables of speakers in training: every example under its own row, no others touched, row 0 for unknown speech."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lhuc_asr.errors import ConfigError, SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fold import fold
from lhuc_asr.lhuc.row_updates import RowAdam, RowSgd, RowUpdate, RowUpdateKind
from lhuc_asr.lhuc.sat import Routing, SatConfig, SpeakerAdaptiveTraining, SpeakerRouting
from lhuc_asr.lhuc.scale_table import RowGradients, ScaleTable

NUM_SPEAKERS = 5


class Recurrent(nn.Module):
    """Units that come as a packed sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.top = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x_BTF: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x_BTF, torch.full((len(x_BTF),), x_BTF.shape[1]), batch_first=True)
        h_BTH, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.top(h_BTH)


NETS = {
    "frames": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)), "1", (3,)),
    "windows": (lambda: nn.Sequential(nn.Conv1d(6, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)), "1", (6, 3)),
    "utterances": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "1", (7, 3)),
    "packed": (Recurrent, "lstm", (7, 3)),
}


def net_and_table(name: str, kind: Amplitude = Amplitude.exp) -> tuple[nn.Module, ScaleTable, torch.Tensor]:
    """A net, a table of random scales, and six examples."""
    torch.manual_seed(3)
    build, site, shape = NETS[name]
    net, examples = build(), torch.randn(6, *shape)
    example = examples if name in ("utterances", "packed") else None
    table = ScaleTable(find_sites(net, site, example=example), NUM_SPEAKERS, kind)
    table.r += torch.randn(table.r.shape)
    return net, table, examples


@pytest.mark.parametrize("kind", list(Amplitude))
@pytest.mark.parametrize("name", NETS)
def test_a_mixed_minibatch_is_one_speaker_at_a_time(name: str, kind: Amplitude) -> None:
    net, table, examples = net_and_table(name, kind)
    rows = torch.tensor([4, 0, 2, 2, 5, 0])
    with table.attached(net), table.given(rows):
        mixed = net(examples)
    for example, row, found in zip(examples, rows.tolist(), mixed, strict=True):
        with table.adapter(row).attached(net, prove=False):
            torch.testing.assert_close(found, net(example[None])[0])


@pytest.mark.parametrize("name", NETS)
def test_where_no_rows_are_given_row_0_acts(name: str) -> None:
    net, table, examples = net_and_table(name)
    with table.attached(net):
        found = net(examples)
    with table.adapter(0).attached(net, prove=False):
        torch.testing.assert_close(found, net(examples))


def test_the_gradient_is_that_of_the_whole_table() -> None:
    net, table, examples = net_and_table("frames")
    rows, target = torch.tensor([4, 0, 2, 2, 0, 0]), torch.randn(6, 2)
    with table.attached(net):
        for part in (slice(0, 3), slice(3, 6)):
            with table.given(rows[part]):
                (net(examples[part]) * target[part]).sum().backward()
    found = table.take_gradients()
    assert found is not None and found.rows.tolist() == [0, 2, 4]
    whole = table.r.clone().requires_grad_()
    hidden = net[1](net[0](examples)) * whole.exp()[rows]  # type: ignore[index]
    (net[2](hidden) * target).sum().backward()  # type: ignore[index]
    assert whole.grad is not None
    torch.testing.assert_close(found.gradients, whole.grad[found.rows])
    assert table.take_gradients() is None


def test_sums_over_many_examples_are_exact_where_products_are_not() -> None:
    table = ScaleTable(find_sites(net := nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), "1"), 3)
    rows = torch.tensor([0] * 999 + [1])
    with table.attached(net), table.given(rows), torch.autocast("cpu", torch.bfloat16):
        net(torch.zeros(1000, 2)).sum().backward()
    found = table.take_gradients()
    assert found is not None and net[0].bias is not None
    assert found.gradients[0].item() == pytest.approx(999 * found.gradients[1].item(), rel=1e-3)


@pytest.mark.parametrize("kind", list(RowUpdateKind))
def test_of_thousands_of_speakers_a_step_touches_those_of_the_minibatch(kind: RowUpdateKind) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    speaker_of = {f"u{number}": f"s{number:04}" for number in range(5000)}
    config = SatConfig(share=0.0, update=kind, lr_factor=10.0)
    table = ScaleTable(find_sites(net, "1"), len(speaker_of))
    training = SpeakerAdaptiveTraining(table, SpeakerRouting(speaker_of, config), config)
    rows = training.rows(["u4999", "u7", "u4999"], torch.Generator())
    with training.attached(net), training.given(rows):
        net(torch.randn(3, 3)).square().sum().backward()
        assert sum(r_UD.numel() for _, r_UD in table._touched) == 2 * 4, "copies of two rows, not of the table"
    training.step(0.1)
    assert table.r.shape == (5001, 4)
    assert table.r.any(dim=1).nonzero().flatten().tolist() == [8, 5000]


def test_evaluation_leaves_no_gradients() -> None:
    net, table, examples = net_and_table("frames")
    with table.attached(net), torch.no_grad(), table.given(torch.arange(6).clamp(max=5)):
        net(examples)
    assert table.take_gradients() is None


def test_two_tables_are_not_attached_at_once() -> None:
    net, table, _ = net_and_table("frames")
    with table.attached(net), pytest.raises(SiteError, match="attached"), table.attached(net):
        pass


@pytest.mark.parametrize(("kind", "reference"), [(RowAdam, torch.optim.Adam), (RowSgd, torch.optim.SGD)])
def test_every_row_takes_the_steps_of_torch_as_if_it_were_alone(
    kind: type[RowUpdate], reference: type[torch.optim.Optimizer]
) -> None:
    table = torch.randn(4, 3)
    alone = [nn.Parameter(row.clone()) for row in table]
    optimisers = [reference([row], lr=0.1) for row in alone]  # type: ignore[call-arg]
    update = RowAdam(table) if kind is RowAdam else RowSgd()
    for rows in ([0, 1, 2], [2], [1, 2], [0, 2]):
        gradients = torch.randn(len(rows), 3)
        update.step(table, RowGradients(torch.tensor(rows), gradients.clone()), lr=0.1)
        for row, gradient in zip(rows, gradients, strict=True):
            alone[row].grad = gradient
            optimisers[row].step()
    torch.testing.assert_close(table, torch.stack([row.detach() for row in alone]))


def test_what_adam_remembers_can_be_put_back_and_forgotten() -> None:
    first, second = torch.zeros(3, 2), torch.zeros(3, 2)
    one, two = RowAdam(first), RowAdam(second)
    found = RowGradients(torch.tensor([1]), torch.tensor([[2.0, -1.0]]))
    one.step(first, found, lr=0.1)
    second.copy_(first)
    two.restore({name: tensor.clone() for name, tensor in one.memory().items()})
    for table, update in ((first, one), (second, two)):
        update.step(table, RowGradients(found.rows, -found.gradients), lr=0.1)
    assert torch.equal(first, second)
    one.forget()
    assert not any(tensor.any() for tensor in one.memory().values())


NAMES = {f"u{number}": f"s{number % 7}" for number in range(140)}


@given(share=st.floats(0.05, 0.95), routing=st.sampled_from(Routing), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_an_example_has_its_speakers_row_or_row_0(share: float, routing: Routing, seed: int) -> None:
    router = SpeakerRouting(NAMES, SatConfig(share=share, routing=routing), seed=seed)
    random = torch.Generator().manual_seed(seed)
    rows = router.rows(list(NAMES), random).tolist()
    own = [router.speakers.index(speaker) + 1 for speaker in NAMES.values()]
    assert all(row in (0, its_own) for row, its_own in zip(rows, own, strict=True))
    assert (router.rows(list(NAMES), random).tolist() == rows) is (routing is not Routing.frame)
    if routing is Routing.speaker:
        assert len(set(zip(own, rows, strict=True))) == len(router.speakers)
    assert router.own_rows.keys() >= {router.speakers[row - 1] for row in rows if row}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_row_0_gets_its_share_of_the_frames(share: float) -> None:
    router = SpeakerRouting({"u": "anna"}, SatConfig(share=share))
    rows = router.rows(["u"] * 20000, torch.Generator().manual_seed(0))
    assert (rows == 0).double().mean().item() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("routing", [Routing.segment, Routing.speaker])
def test_another_seed_draws_others(routing: Routing) -> None:
    drawn = {SpeakerRouting(NAMES, SatConfig(share=0.5, routing=routing), seed=seed).key for seed in (1, 2, 1)}
    assert len(drawn) == 2


def test_row_0_that_does_not_learn_stays() -> None:
    net, table, examples = net_and_table("frames")
    before = table.r.clone()
    sat = SatConfig(share=0.5, learn_independent=False, update=RowUpdateKind.sgd)
    training = SpeakerAdaptiveTraining(table, SpeakerRouting(NAMES, sat), sat)
    with training.attached(net):
        with training.given(torch.tensor([0, 0, 3, 3, 1, 0])):
            net(examples).sum().backward()
        training.step(lr=0.1)
    assert (table.r != before).any(dim=1).tolist() == [False, True, False, True, False, False]


def test_adaptation_of_the_folded_net_is_adaptation_from_row_0() -> None:
    """With exp, step by step: the reason why row 0 may go into the weights."""
    net, table, examples = net_and_table("frames")
    target = torch.randn(6, 2)
    folded = fold(net, table.adapter(0), examples)
    from_row_0 = table.adapter(0)
    from_identity = LhucAdapter({"1": torch.zeros(4)})
    for model, adapter in ((copy.deepcopy(net), from_row_0), (folded, from_identity)):
        optimiser = torch.optim.SGD(adapter.parameters(), lr=0.3)
        with adapter.attached(model, prove=False):
            for _ in range(5):
                optimiser.zero_grad()
                ((model(examples) - target) ** 2).mean().backward()
                optimiser.step()
    torch.testing.assert_close(from_row_0.r["1"] - table.r[0], from_identity.r["1"].data)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": 1.2}, r"sat\.share must lie in \[0, 1\], or be null for training without scales, got 1\.2"),
        ({"lr_factor": -1.0}, r"sat\.lr_factor must be 0 or more, got -1\.0"),
        ({"layers": [0]}, r"sat\.layers counts hidden layers from 1 at the bottom, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SatConfig(**wrong)  # type: ignore[arg-type]
