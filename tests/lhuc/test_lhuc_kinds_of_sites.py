"""All promises for every kind of site: found, identity, what is computed, proof, gradient, mixed batches, no trace."""

import pytest
import torch
from torch import nn

from helpers.speech_nets import CASES
from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude, amplitude
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.probe import prove_gradient, prove_sites_act
from lhuc_asr.lhuc.ragged import is_ragged, rows_of

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_learning_case = pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.learns], ids=[name for name in CASES if CASES[name].learns]
)
every_size = pytest.mark.parametrize("size", [(3, 6), (4, 4), (1, 5)], ids=["3 of 6", "4 of 4", "1 of 5"])
SPEAKERS = ["ann", "ben", None, "ann"]
pytestmark = pytest.mark.filterwarnings("ignore:.*nested.tensor", "ignore:.*script_method")  # of torch's own making


def found(case, net, **size):
    return find_sites(net, case.site, example=case.example(**size), per_band=case.per_band)


def random_adapter(sites, kind=Amplitude.exp, seed=0):
    generator = torch.Generator().manual_seed(seed)
    r = {site.name: 1.5 * torch.rand(site.units, generator=generator) + 0.2 for site in sites}
    return LhucAdapter(r, kind, {site.name: site.layout for site in sites})


def outputs_of(net, sites, case, example):
    """What the sites give, as it goes on into the net."""
    seen = {}

    def keep(name):
        return lambda layer, inputs, output: seen.__setitem__(name, output)

    hooks = [net.get_submodule(site.name).register_forward_hook(keep(site.name)) for site in sites]
    with torch.no_grad():
        case.run(net, example)
    for hook in hooks:
        hook.remove()
    return {
        name: output[0] if not is_ragged(output) and isinstance(output, tuple) else output
        for name, output in seen.items()
    }


@every_case
@every_size
def test_layout_and_units_are_seen_whatever_the_sizes(case, size):
    net = case.net()
    sites = found(case, net, num_utterances=size[0], num_frames=size[1])
    assert {(site.units, site.layout) for site in sites} == {(case.units, Layout(case.layouts))}
    assert [site.name for site in sites] == [name for name, _ in net.named_modules() if name in {s.name for s in sites}]


@every_case
@pytest.mark.parametrize("kind", Amplitude)
def test_a_fresh_adapter_and_bank_are_the_identity_bit_for_bit(case, kind):
    net, example = case.net(), case.example(4)
    sites = found(case, net)
    with torch.no_grad():
        plain = case.run(net, example)
        with LhucAdapter.identity(net, sites, kind).attached(net):
            torch.testing.assert_close(case.run(net, example), plain, **_tolerance(case))
        bank = SpeakerBank.identity(net, sites, ["ann", "ben"], kind)
        with bank.attached(net), bank.speakers(SPEAKERS):
            torch.testing.assert_close(case.run(net, example), plain, **_tolerance(case))


def _tolerance(case):
    return {"rtol": 0, "atol": 0} if case.exact else {}


@every_case
@pytest.mark.parametrize("kind", Amplitude)
def test_every_unit_gets_its_own_factor(case, kind):
    net, example = case.net(), case.example(4)
    site = found(case, net)[0]
    adapter = random_adapter([site], kind)
    before = outputs_of(net, [site], case, example)[site.name]
    with adapter.attached(net, prove=False):
        after = outputs_of(net, [site], case, example)[site.name]
    factors = amplitude(adapter.r[site.name].detach(), kind)
    if is_ragged(before):
        torch.testing.assert_close(rows_of(after), rows_of(before) * factors)
        return
    first = case.layouts.index("H")
    shape = [1] * before.ndim
    shape[first : first + factors.ndim] = factors.shape
    torch.testing.assert_close(after, before * factors.view(shape))


@every_case
@pytest.mark.parametrize("kind", Amplitude)
def test_a_mixed_batch_is_one_speaker_at_a_time_bit_for_bit(case, kind):
    net, example = case.net(), case.example(4)
    sites = found(case, net)
    adapters = {"ann": random_adapter(sites, kind, 1), "ben": random_adapter(sites, kind, 2)}
    bank = SpeakerBank(sites, kind, capacity=1)
    for speaker, adapter in adapters.items():
        bank.put(speaker, adapter)
    with torch.no_grad():
        alone = {None: case.run(net, example)}
        for speaker, adapter in adapters.items():
            with adapter.attached(net):
                alone[speaker] = case.run(net, example)
        with bank.attached(net), bank.speakers(SPEAKERS):
            mixed = case.run(net, example)
    for place, speaker in enumerate(SPEAKERS):
        expected = alone[speaker].select(case.utterance_dim, place)
        torch.testing.assert_close(mixed.select(case.utterance_dim, place), expected, **_tolerance(case))
    assert not torch.allclose(mixed, alone[None])


@every_case
def test_it_is_proved_to_act_and_to_learn(case):
    net, example = case.net(), case.example()
    sites = found(case, net)
    before = fingerprint(net)
    prove_sites_act(net, sites, example)
    if case.learns:
        prove_gradient(net, sites, example)
    else:
        with pytest.raises(SiteError, match=r"the net fails on the example in evaluation mode: .*NestedTensor"):
            prove_gradient(net, sites, example)
    assert fingerprint(net) == before
    assert not any(module.training or module._forward_hooks for module in net.modules())


@every_learning_case
def test_gradient_reaches_every_r_and_nothing_else_and_leaves_no_trace(case):
    net, example = case.net(), case.example(4)
    sites = found(case, net)
    attributes = {name: set(vars(module)) for name, module in net.named_modules()}
    keys, before = list(net.state_dict()), fingerprint(net)
    adapter = random_adapter(sites)
    with adapter.attached(net):
        assert list(net.state_dict()) == keys
        output = case.run(net, example)
        (output * torch.randn(output.shape)).sum().backward()
    assert all(r.grad is not None and r.grad.isfinite().all() and r.grad.any() for r in adapter.parameters())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert fingerprint(net) == before
    for name, module in net.named_modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert set(vars(module)) == attributes[name]


@every_learning_case
def test_gradients_of_rows_are_those_of_each_speaker_alone(case):
    net, example = case.net(), case.example(4)
    sites = found(case, net)
    adapters = {"ann": random_adapter(sites, seed=1), "ben": random_adapter(sites, seed=2)}
    bank = SpeakerBank(sites).requires_grad_(True)
    for speaker, adapter in adapters.items():
        bank.put(speaker, adapter)
    with bank.attached(net), bank.speakers(SPEAKERS):
        output = case.run(net, example)
    mixture = torch.randn(output.shape)
    (output * mixture).sum().backward()
    for row, speaker in enumerate(adapters, start=1):
        with adapters[speaker].attached(net):
            output = case.run(net, example)
        mine = [place for place, name in enumerate(SPEAKERS) if name == speaker]
        (output * mixture).index_select(case.utterance_dim, torch.tensor(mine)).sum().backward()
        for site, table in zip(sites, bank.tables, strict=True):
            torch.testing.assert_close(table.grad[row], adapters[speaker].r[site.name].grad, rtol=1e-4, atol=1e-5)


@every_case
def test_a_wrong_number_of_speakers_is_refused_never_spread(case):
    net, example = case.net(), case.example(4)
    bank = SpeakerBank.identity(net, found(case, net), ["ann"])
    with torch.no_grad(), bank.attached(net, prove=False):
        for ids in (["ann"] * 3, ["ann"] * 5):
            with pytest.raises(SiteError, match="utterances"), bank.speakers(ids):
                case.run(net, example)


@torch.no_grad()
def plain_and_mixed(case, net, sites, example):
    """Outputs for four utterances, and the same where one speaker, whom a bank knows, has the two in the middle."""
    adapter, bank = random_adapter(sites), SpeakerBank(sites)
    bank.put("ann", adapter)
    plain = case.run(net, example)
    with LhucAdapter.identity(net, sites).attached(net):
        assert torch.equal(case.run(net, example), plain)
    with adapter.attached(net):
        alone = case.run(net, example)
    with bank.attached(net), bank.speakers([None, "ann", "ann", None]):
        mixed = case.run(net, example)
    assert torch.equal(mixed, torch.stack([plain[0], alone[1], alone[2], plain[3]]))
    return plain, mixed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["linear", "conv2d, per channel and band", "packed", "conformer, convolution"])
def test_nets_of_other_precision_stay_so_and_mixed_batches_hold(name, dtype):
    case = CASES[name]
    net, example = case.net().to(dtype), case.example(4)
    example = type(example)(tuple(x.to(dtype) if x.is_floating_point() else x for x in example.args))
    sites = find_sites(net, case.site, example=example, per_band=case.per_band)
    plain, mixed = plain_and_mixed(case, net, sites, example)
    assert plain.dtype == mixed.dtype == dtype


@pytest.mark.parametrize("name", ["linear", "conv1d", "packed", "our net", "conformer, feed forward"])
def test_autocast(name):
    case = CASES[name]
    net, example = case.net(), case.example(4)
    sites = found(case, net)
    with torch.autocast("cpu", torch.bfloat16):
        prove_sites_act(net, sites, example)
        prove_gradient(net, sites, example)
        plain, mixed = plain_and_mixed(case, net, sites, example)
    assert not torch.equal(mixed, plain)


def test_our_net_through_its_windows():
    case = CASES["our net"]
    net, windows = case.net(), torch.randn(6, 3, 4)
    sites = found(case, net)
    adapter = random_adapter(sites)
    bank = SpeakerBank(sites)
    bank.put("ann", adapter)
    with bank.attached(net), bank.speakers(["ann", None], num_rows=[2, 4]):
        mixed = net.forward_windows(windows)
    with adapter.attached(net):
        assert torch.equal(mixed[:2], net.forward_windows(windows)[:2])
    assert torch.equal(mixed[2:], net.forward_windows(windows)[2:])


def test_units_of_a_custom_layer_that_nothing_tells_are_asked_for_not_guessed():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, 1))

        def forward(self, x):
            return nn.functional.conv1d(x, self.weight)

    net = nn.Sequential(Own(), nn.ReLU())
    x = torch.randn(4, 4, 4)
    with pytest.raises(SiteError, match=r"which dimension of the output \(4, 4, 4\) of '1' \(ReLU\).*give layout="):
        find_sites(net, "1", example=x)
    assert find_sites(net, "1", example=x, layout="BHT")[0].layout == Layout("BHT")


@pytest.mark.parametrize(("name", "wrong"), [("linear", "TBH"), ("linear, time first", "BTH"), ("conv1d", "TBH")])
def test_a_given_layout_that_the_example_contradicts_is_refused(name, wrong):
    case = CASES[name]
    with pytest.raises(SiteError, match=f"layout '{wrong}' was given.*holds the utterances"):
        find_sites(case.net(), case.site, example=case.example(), layout=wrong)


class SortsInside(nn.Module):
    """It packs sorted utterances by itself, so that inside they have another order."""

    def __init__(self):
        super().__init__()
        self.gru, self.activation = nn.GRU(4, 4, batch_first=True), nn.Tanh()

    def forward(self, x, lens):
        order = lens.argsort(descending=True)
        packed = nn.utils.rnn.pack_padded_sequence(x[order], lens[order], batch_first=True)
        padded, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return self.activation(padded)[order.argsort()]


@pytest.mark.parametrize("site", ["gru", "activation"])
def test_a_net_that_sorts_its_batch_is_not_trusted_with_several_speakers(site):
    net, example = SortsInside().eval(), (torch.randn(3, 6, 4), torch.tensor([2, 6, 4]))
    sites = find_sites(net, site, example=example)
    assert sites[0].layout == Layout("*H")
    bank = SpeakerBank.identity(net, sites, ["ann"])
    with (
        torch.no_grad(),
        bank.attached(net),
        pytest.raises(SiteError, match="give find_sites an example"),
        bank.speakers(["ann", None, None]),
    ):
        net(*example)


class TimeMajorRows(nn.Module):
    """Rows of all utterances, but frame by frame."""

    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(4, 4), nn.Sigmoid()

    def forward(self, x):
        rows = self.activation(self.linear(x.transpose(0, 1).flatten(0, 1)))
        return rows.unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1)


@pytest.mark.parametrize("size", [(2, 3, 4), (2, 2, 4), (4, 4, 4)])
def test_rows_that_take_turns_are_not_taken_for_consecutive_ones(size):
    assert find_sites(TimeMajorRows(), "activation", example=torch.randn(size))[0].layout == Layout("*H")
