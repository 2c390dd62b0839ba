"""Speakers side by side take the path that each takes alone, by whichever way the objective is computed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from helpers.toy_windows import NUM_STATES, NotPlain, Undivided, adapters_of, assert_same, network_of, speaker_of
from lhuc_asr.adaptation.objectives.lower_part import Minibatch
from lhuc_asr.adaptation.objectives.minibatches import SpeakerFrames
from lhuc_asr.adaptation.objectives.rows import Rows
from lhuc_asr.adaptation.objectives.stack_objective import StackObjective
from lhuc_asr.adaptation.update.config import AdaptConfig, StepSchedule
from lhuc_asr.adaptation.update.group import Computing, opened_group
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt, adapt_group
from lhuc_asr.errors import SiteError, SpeakerError
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import choose_sites, find_sites
from lhuc_asr.models.dnn import Activation, Dnn, DnnConfig
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.training.precision import Precision, resolve

HALF = torch.bfloat16


def descend_plainly(network: Dnn, adapter: LhucAdapter, speaker: SpeakerFrames, config: AdaptConfig) -> list[float]:
    """The definition: hooks, autograd, the whole network, one speaker. Returns the objective before and after."""
    windows, targets = speaker.frames.windows(torch.arange(len(speaker.targets))), speaker.targets
    generator = torch.Generator().manual_seed(config.seed)
    with adapter.attached(network):
        objective = [nll_loss(network.forward_windows(windows), targets).item()]
        orders = [torch.randperm(len(targets), generator=generator) for _ in range(config.num_epochs)]
        batches = [batch for order in orders for batch in torch.split(order, config.batch_size)]
        with torch.enable_grad():
            for step, batch in enumerate(batches):
                share = 1 - step / len(batches) if config.schedule is StepSchedule.linear else 1
                loss = nll_loss(network.forward_windows(windows[batch]), targets[batch])
                gradients = torch.autograd.grad(loss, adapter.parameters())
                for r, gradient in zip(adapter.parameters(), gradients, strict=True):
                    r.data -= config.lr * share * gradient
        return [*objective, nll_loss(network.forward_windows(windows), targets).item()]


def assert_same_report(report: UpdateReport | SpeakerError, other: UpdateReport | SpeakerError) -> None:
    assert isinstance(report, UpdateReport)
    assert isinstance(other, UpdateReport)
    assert report.objective_before == pytest.approx(other.objective_before, abs=1e-5)
    assert report.objective_after == pytest.approx(other.objective_after, abs=1e-5)
    assert report.per_epoch == pytest.approx(other.per_epoch, abs=1e-5)


@given(
    num_frames=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    batch_size=st.integers(1, 40),
    kind=st.sampled_from(Amplitude),
    activation=st.sampled_from(Activation),
    layers=st.sampled_from([(), (1,), (3,), (1, 3), (2, 3), ("layers.1.linear",), ("layers.1", "layers.2")]),
    batch_norm=st.booleans(),
    schedule=st.sampled_from(StepSchedule),
    seed=st.integers(0, 9),
)
@settings(max_examples=60)
def test_everybody_learns_in_company_what_is_learnt_alone(
    num_frames: list[int],
    batch_size: int,
    kind: Amplitude,
    activation: Activation,
    layers: tuple[int | str, ...],
    batch_norm: bool,
    schedule: StepSchedule,
    seed: int,
) -> None:
    network = network_of(activation=activation, batch_norm=batch_norm, dropout=0.5)
    lr = 0.8 if activation is Activation.sigmoid else 0.1
    config = AdaptConfig(lr=lr, schedule=schedule, batch_size=batch_size, seed=seed)
    speakers = [speaker_of(place, size) for place, size in enumerate(num_frames)]
    together, alone, plain = (adapters_of(network, len(speakers), layers=layers, kind=kind) for _ in range(3))
    reports = adapt_group(network, together, speakers, config)
    for place, speaker in enumerate(speakers):
        by_itself = adapt(network, alone[place], speaker.frames, speaker.targets, config)
        before, after = descend_plainly(network, plain[place], speaker, config)
        assert_same(together[place], alone[place], rtol=1e-5)  # steps of a frame or two drive r of tiny nets beyond 5
        assert_same(together[place], plain[place], rtol=1e-5)
        assert_same_report(reports[place], by_itself)
        assert by_itself.objective_before == pytest.approx(before, abs=1e-5)
        assert by_itself.objective_after == pytest.approx(after, abs=1e-5)


def test_a_network_of_useful_size() -> None:
    network = Dnn(DnnConfig(num_layers=4, hidden_dim=512, context=1), 4, NUM_STATES).requires_grad_(False).eval()
    speakers = [speaker_of(place, size) for place, size in enumerate((300, 90, 256))]
    together, plain = (adapters_of(network, 3) for _ in range(2))
    adapt_group(network, together, speakers, AdaptConfig())
    for place, speaker in enumerate(speakers):
        descend_plainly(network, plain[place], speaker, AdaptConfig())
        assert_same(together[place], plain[place])


@pytest.mark.parametrize("layers", [(), (2, 3)])
@pytest.mark.parametrize("kind", [Undivided, NotPlain])
@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_all_ways_to_compute_the_objective_agree(kind: type[Dnn], cache_bytes: int, layers: tuple[int, ...]) -> None:
    speakers = [speaker_of(place, size) for place, size in enumerate((50, 8, 33))]
    config = AdaptConfig(batch_size=16)
    usual, other = network_of(batch_norm=True), network_of(kind, batch_norm=True)
    wanted, found = (adapters_of(network, 3, layers=layers) for network in (usual, other))
    reports = adapt_group(usual, wanted, speakers, config)
    others = adapt_group(other, found, speakers, config, cache_bytes=cache_bytes)
    for place in range(3):
        assert_same(found[place], wanted[place])
        assert_same_report(others[place], reports[place])


@pytest.mark.parametrize("kind", [Dnn, NotPlain])
def test_what_is_below_is_kept_or_computed_anew_with_the_same_result(kind: type[Dnn]) -> None:
    network, speakers = network_of(kind), [speaker_of(place, 40) for place in range(2)]
    kept, anew = (adapters_of(network, 2, layers=(2, 3)) for _ in range(2))
    adapt_group(network, kept, speakers, AdaptConfig(batch_size=16))
    adapt_group(network, anew, speakers, AdaptConfig(batch_size=16), cache_bytes=0)
    for one, other in zip(kept, anew, strict=True):
        assert_same(one, other)


def test_layers_below_the_first_site_see_every_frame_once() -> None:
    network, seen = network_of(), []
    network.get_submodule("layers.1.linear").register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    speakers = [speaker_of(place, size) for place, size in enumerate((50, 8))]
    adapt_group(network, adapters_of(network, 2, layers=(2, 3)), speakers, AdaptConfig(num_epochs=5))
    assert sum(seen) == 58 + seen.count(1), "single frames only look at how the network runs"
    assert seen.count(1) <= 2


@pytest.mark.parametrize("kind", [Dnn, NotPlain, Undivided])
def test_not_one_bit_of_the_network_changes(kind: type[Dnn]) -> None:
    network = network_of(kind, batch_norm=True).requires_grad_(True)  # even where a user forgot to freeze
    before = copy.deepcopy(network.state_dict())
    adapt_group(network, adapters_of(network, 2), [speaker_of(0, 30), speaker_of(1, 9)], AdaptConfig(batch_size=8))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert not network.training


@pytest.mark.parametrize("kind", [Dnn, NotPlain])
def test_speakers_who_fail_fail_alone(kind: type[Dnn]) -> None:
    network = network_of(kind, activation=Activation.relu)
    config = AdaptConfig(lr=0.01, batch_size=16)
    broken, loud = (np.full((40, 4), value, dtype=np.float32) for value in (np.nan, 1e18))
    speakers = [
        speaker_of(0, 40),
        SpeakerFrames(SplicedFrames([broken], context=1), torch.zeros(40, dtype=torch.int64)),
        SpeakerFrames(SplicedFrames([loud], context=1), torch.arange(40) % NUM_STATES),
        SpeakerFrames(speaker_of(3, 20).frames, torch.zeros(19, dtype=torch.int64)),
        speaker_of(4, 21),
    ]
    together, alone = (adapters_of(network, 5) for _ in range(2))
    reports = adapt_group(network, together, speakers, config)
    assert str(reports[1]) == "the objective is not finite before the first step"
    assert str(reports[2]).startswith("the objective went from ")
    assert str(reports[2]).endswith("; lower adapt.lr (0.01)")
    assert str(reports[3]) == "cannot adapt on 20 frames with 19 targets"
    for place in (0, 4):
        report = adapt(network, alone[place], speakers[place].frames, speakers[place].targets, config)
        assert_same_report(reports[place], report)
        assert_same(together[place], alone[place])
    for place in (1, 2, 3):
        with pytest.raises(SpeakerError) as raised:
            adapt(network, alone[place], speakers[place].frames, speakers[place].targets, config)
        assert str(raised.value) == str(reports[place])


def test_targets_that_are_most_improbable_stay_finite() -> None:
    network = network_of()
    network.output.weight.data *= 1000  # logits hundreds apart: exp underflows, its logarithm must not be taken
    speaker, (adapter,) = speaker_of(0, 30), adapters_of(network, 1)
    report = adapt(network, adapter, speaker.frames, speaker.targets, AdaptConfig(lr=1e-4, num_epochs=1))
    alone = nll_loss(network.forward_windows(speaker.frames.windows(torch.arange(30))), speaker.targets)
    assert report.objective_before == pytest.approx(alone.item(), rel=1e-5)
    assert report.objective_before > 120


def test_everybody_begins_where_the_own_adapter_stands() -> None:
    network, speakers = network_of(), [speaker_of(place, 30) for place in range(2)]
    adapters = adapters_of(network, 2)
    adapt(network, adapters[1], speakers[1].frames, speakers[1].targets, AdaptConfig())
    further = [copy.deepcopy(adapter) for adapter in adapters]
    adapt_group(network, adapters, speakers, AdaptConfig())
    for place, speaker in enumerate(speakers):
        descend_plainly(network, further[place], speaker, AdaptConfig())
        assert_same(adapters[place], further[place])


def test_time_is_shared_by_frames() -> None:
    network = network_of()
    long, short = adapt_group(network, adapters_of(network, 2), [speaker_of(0, 60), speaker_of(1, 20)], AdaptConfig())
    assert isinstance(long, UpdateReport)
    assert isinstance(short, UpdateReport)
    assert long.seconds == pytest.approx(3 * short.seconds)
    assert short.seconds > 0


def test_sweeps_alone_move_those_who_take_part_and_nobody_else() -> None:
    network, adapters = network_of(), adapters_of(network_of(), 3)
    with opened_group(network, adapters, [speaker_of(place, 20) for place in range(3)]) as group:
        means = group.sweep([2, 0], lr_at=lambda _: 0.8, batch_size=8)
        group.store([0, 1, 2])
    assert [mean > 0 for mean in means] == [True, False, True]
    moved = [any(bool(r.detach().any()) for r in adapter.r.values()) for adapter in adapters]
    assert moved == [True, False, True]


def test_speakers_of_different_sites_or_a_net_in_use_are_refused() -> None:
    network, speakers = network_of(), [speaker_of(0, 20), speaker_of(1, 20)]
    mixed = [*adapters_of(network, 1), *adapters_of(network, 1, layers=(1,))]
    with pytest.raises(SiteError, match="the same sites and amplitude"):
        adapt_group(network, mixed, speakers, AdaptConfig())
    adapters = adapters_of(network, 2)
    with adapters[0].attached(network), pytest.raises(SiteError, match="an adapter is attached to"):
        adapt_group(network, adapters, speakers, AdaptConfig())


class OverWindows(AcousticNetwork):
    """Convolutions and a recurrent layer over the frames of a window: sites of all kinds, and no split."""

    adaptation_sites = ("conv", "flat", "lstm")

    def __init__(self) -> None:
        super().__init__()
        self.context, self.num_outputs = 1, NUM_STATES
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = nn.Conv1d(4, 5, 2)
            self.flat = nn.Linear(5, 3)
            self.lstm = nn.LSTM(3, 4)
            self.top = nn.Linear(8, NUM_STATES)

    def forward(self, feats_BTF: Tensor, feat_lens: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def forward_windows(self, windows_NWF: Tensor) -> Tensor:
        conv_NCT = self.conv(windows_NWF.transpose(1, 2)).sigmoid()
        flat_NTH = self.flat(conv_NCT.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, 2))
        lstm_TNH, _ = self.lstm(flat_NTH.transpose(0, 1))
        return torch.log_softmax(self.top(lstm_TNH.transpose(0, 1).flatten(1)), dim=-1)


@pytest.mark.parametrize("num_frames", [(24, 24), (30, 7, 1)])
def test_networks_of_any_kind_are_adapted_in_groups(num_frames: tuple[int, ...]) -> None:
    network = OverWindows().requires_grad_(False).eval()
    speakers = [speaker_of(place, size) for place, size in enumerate(num_frames)]
    sites = (
        *find_sites(network, "conv", layout="BHT"),
        *find_sites(network, "flat"),
        *find_sites(network, "lstm", layout="TBH"),
    )
    together, plain = ([LhucAdapter.identity(network, sites) for _ in speakers] for _ in range(2))
    adapt_group(network, together, speakers, AdaptConfig(batch_size=8))
    for place, speaker in enumerate(speakers):
        descend_plainly(network, plain[place], speaker, AdaptConfig(batch_size=8))  # type: ignore[arg-type]
        assert_same(together[place], plain[place])
        assert all(bool(r.detach().any()) for r in together[place].r.values())


def test_half_precision_learns_nearly_the_same() -> None:
    network = Dnn(DnnConfig(num_layers=3, hidden_dim=32, context=1), feat_dim=4, num_outputs=6).eval()
    sites = choose_sites(network, network.adaptation_sites, [])
    generator = torch.Generator().manual_seed(3)
    frames = SplicedFrames([torch.randn(300, 4, generator=generator).numpy()], context=1)
    speaker = SpeakerFrames(frames, torch.randint(6, (300,), generator=generator))
    learnt = {}
    for precision in (Precision.float32, Precision.bfloat16):
        adapter = LhucAdapter.identity(network, sites)
        (report,) = adapt_group(network, [adapter], [speaker], AdaptConfig(precision=precision, batch_size=50))
        assert isinstance(report, UpdateReport) and report.objective_after < report.objective_before
        learnt[precision] = torch.cat([r.detach() for r in adapter.parameters()])
        assert learnt[precision].dtype == torch.float32
    exact, halved = learnt.values()
    assert not torch.equal(exact, halved)
    assert (exact - halved).norm() < 0.1 * exact.norm()


def test_half_precision_begins_exactly_where_nothing_is_scaled() -> None:
    network, speaker = network_of(num_layers=3), speaker_of(4, 30)
    split, *above = network.adaptation_sites
    layers = network.plain_layers_above(split)
    assert layers is not None
    units = network.output_of(split, speaker.windows(torch.arange(30)))
    batch, objective = Minibatch(units, speaker.targets, Rows((20, 10))), StackObjective(split, layers, dtype=HALF)
    ones = {name: torch.ones(2, units.shape[1]) for name in (split, *above)}
    assert torch.equal(objective.losses(batch, ones), objective.losses(batch, {}))
    losses, gradients = objective.losses_and_gradients(batch, ones)
    assert {losses.dtype, *(gradient.dtype for gradient in gradients)} == {torch.float32}


@pytest.mark.parametrize(("is_fast", "dtype"), [(True, HALF), (False, None)])
def test_auto_takes_half_precision_where_training_does(
    is_fast: bool, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": is_fast})
    cpu = torch.device("cpu")
    assert (resolve(Precision.auto, cpu) is Precision.bfloat16) is is_fast
    assert Computing(precision=Precision.auto).dtype_on(cpu) is dtype
    assert Computing().dtype_on(cpu) is None
