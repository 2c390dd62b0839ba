"""A folded net is a plain new net that gives what the attached adapter gives, and the given net is left as it was."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lhuc_asr.errors import FoldError, ProfileError, SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude, identity_r
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.fold import fold, plan_fold
from lhuc_asr.models.dnn import Activation, Dnn, DnnConfig
from lhuc_asr.profiles.profile import Profile

NON_LINEARITIES = [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, lambda: nn.LeakyReLU(0.2), nn.PReLU, lambda: nn.ReLU(True)]


def random_adapter(sites, kind=Amplitude.exp, seed=0, zeros=0.2):
    """Parameters around the identity; where an amplitude can be 0, some factors are."""
    generator = torch.Generator().manual_seed(seed)
    r = {}
    for site in sites:
        r[site.name] = identity_r(kind) + torch.randn(site.units, generator=generator)
        if kind in (Amplitude.identity, Amplitude.relu):
            r[site.name][torch.rand(site.units, generator=generator) < zeros] = 0.0
    return LhucAdapter(r, kind, {site.name: site.layout for site in sites})


def agree(net, adapter, example, folded):
    """On an input that the fold has not seen."""
    net.eval()
    with torch.no_grad():
        with adapter.attached(net, prove=False):
            wanted = net(example)
        found = folded(example)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def warmed_up(net, *shape):
    """Running statistics as training leaves them."""
    for _ in range(3):
        net.train()(torch.randn(*shape))
    return net


@st.composite
def mlps(draw):
    torch.manual_seed(draw(st.integers(0, 1000)))
    widths = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    layers = []
    for before, after in itertools.pairwise(widths):
        layers.append(nn.Linear(before, after, bias=draw(st.booleans())))
        layers += [nn.BatchNorm1d(after)] if draw(st.booleans()) else []
        layers.append(draw(st.sampled_from(NON_LINEARITIES))())
        layers += [nn.Dropout(0.5)] if draw(st.booleans()) else []
    return nn.Sequential(*layers, nn.Linear(widths[-1], 3), nn.LogSoftmax(-1)), (4, widths[0])


@st.composite
def convolutions(draw):
    torch.manual_seed(draw(st.integers(0, 1000)))
    groups, non_linearity = draw(st.sampled_from([1, 2])), draw(st.sampled_from(NON_LINEARITIES))
    pools = [lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d((1, 2)), nn.Identity, nn.Dropout2d]
    last = draw(st.sampled_from([[nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(12, 3)], [nn.Conv2d(6, 3, 1)]]))
    norm = [nn.BatchNorm2d(4)] if draw(st.booleans()) else []
    first = [nn.Conv2d(2, 4, 3, padding=1), *norm, non_linearity(), draw(st.sampled_from(pools))()]
    second = [nn.Conv2d(4, 6, 2, groups=groups), non_linearity(), draw(st.sampled_from(pools))()]
    return nn.Sequential(*first, *second, *last), (3, 2, 6, 8)


def foldable_sites(net, shape):
    """All layers but those that give the net's output, and those whose input was no matrix of units."""
    names = [name for name, _ in net.named_children()][:-2]
    return find_sites(net.eval(), [name for name in names if not isinstance(net[int(name)], nn.Flatten)], example=shape)


@settings(max_examples=40, deadline=None)
@given(net_and_shape=mlps() | convolutions(), kind=st.sampled_from(Amplitude), seed=st.integers(0, 9), data=st.data())
def test_folded_equals_attached(net_and_shape, kind, seed, data):
    net, shape = net_and_shape
    example = torch.randn(*shape)
    sites = foldable_sites(warmed_up(net, *shape), example)
    sites = data.draw(st.lists(st.sampled_from(sites), min_size=1, max_size=3, unique=True))
    adapter = random_adapter(sites, kind, seed)
    before = fingerprint(net)
    negative = [name for name, factors in adapter.scales().items() if (factors < 0).any()]
    plans = plan_fold(net, sites, example, negative=negative)
    if all(plan.foldable for plan in plans):
        agree(net, adapter, torch.randn(*shape), fold(net, adapter, example))
    else:
        with pytest.raises(FoldError, match="cannot be folded"):
            fold(net, adapter, example)
    assert fingerprint(net) == before
    assert not any(module._forward_hooks for module in net.modules())


@settings(max_examples=25, deadline=None)
@given(net_and_shape=mlps() | convolutions())
def test_every_site_of_such_nets_folds_unless_its_scales_are_negative(net_and_shape):
    net, shape = net_and_shape
    sites = foldable_sites(warmed_up(net, *shape), torch.randn(*shape))
    assert [plan.reason for plan in plan_fold(net, sites, torch.randn(*shape)) if not plan.foldable] == []


@pytest.mark.parametrize("kind", Amplitude)
@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_our_net_folds_in_both_of_its_uses(kind, activation, batch_norm):
    config = DnnConfig(num_layers=3, hidden_dim=9, context=2, activation=activation, dropout=0.2, batch_norm=batch_norm)
    net = Dnn(config, feat_dim=4, num_outputs=5)
    warmed_up(net, 2, 9, 4)
    net.train()
    feats, windows = torch.randn(2, 9, 4), torch.randn(7, 5, 4)
    sites = find_sites(net, net.adaptation_sites, example=feats)
    adapter = random_adapter(sites, kind)
    folded = fold(net, adapter, feats)
    assert net.training and not folded.training
    assert isinstance(folded, Dnn) and folded.state_dict().keys() == net.state_dict().keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in folded.modules())
    agree(net, adapter, torch.randn(3, 11, 4), folded)
    by_windows = fold(net, adapter, Example((windows,), call=lambda model, x: model.forward_windows(x)))
    assert fingerprint(by_windows) == fingerprint(folded)


def test_by_hand():
    """h = (1, 2), factors (3, 0): the columns of the next weight are multiplied by 3 and 0, biases stay."""
    net = nn.Sequential(nn.Linear(1, 2), nn.Identity(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([1.0, 2.0]))
        net[2].weight.copy_(torch.tensor([[1.0, 10.0], [-2.0, 5.0]]))
        net[2].bias.copy_(torch.tensor([0.5, 0.25]))
    adapter = LhucAdapter({"1": torch.tensor([3.0, 0.0])}, Amplitude.identity)
    folded = fold(net, adapter, torch.ones(1, 1))
    assert folded[2].weight.tolist() == [[3.0, 0.0], [-6.0, 0.0]]
    assert folded[2].bias.tolist() == [0.5, 0.25]
    assert folded(torch.ones(1, 1)).tolist() == [[3.5, -5.75]]
    assert net[2].weight.tolist() == [[1.0, 10.0], [-2.0, 5.0]]


def test_batch_norm_by_hand():
    """gamma 2, beta 1, mean 3, variance 4 - eps: weight 2 xi, bias 1 - 2 * 3 / 2 = -2, mean 0; xi = 0 gives -2."""
    net = nn.Sequential(nn.Linear(1, 2), nn.Sigmoid(), nn.BatchNorm1d(2), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        net[2].weight.fill_(2.0), net[2].bias.fill_(1.0), net[2].running_mean.fill_(3.0)
        net[2].running_var.fill_(4.0 - net[2].eps)
    norm = fold(net, LhucAdapter({"1": torch.tensor([0.5, 0.0])}, Amplitude.identity), torch.ones(3, 1))[2]
    assert norm.weight.tolist() == [1.0, 0.0] and norm.running_mean.tolist() == [0.0, 0.0]
    torch.testing.assert_close(norm.bias, torch.tensor([-2.0, -2.0]))


class Appended(nn.Module):
    """Hidden units beside a speaker vector, units turned and cut: only those that are left are scaled."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(3, 6), nn.Tanh(), nn.Linear(8, 2)

    def forward(self, x, vector):
        h = self.act(self.first(x)).flip(-1)[..., 1:].transpose(0, 1)
        return self.second(torch.cat([h, vector.expand(*h.shape[:-1], 3)], dim=-1))


def test_units_are_followed_through_whatever_moves_them():
    net, example = Appended(), (torch.randn(2, 5, 3), torch.randn(3))
    sites = find_sites(net, "act", example=Example(example))
    folded = fold(net, LhucAdapter({"act": torch.log(torch.arange(1.0, 7.0))}), example)
    factors = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0])  # unit 6 is cut away, then the vector
    torch.testing.assert_close(folded.second.weight, net.second.weight * factors)
    assert str(plan_fold(net, sites, example)[0]) == "'act': into 'second' input columns"


class Rearranged(nn.Module):
    """Heads are made and unmade, frames are looped over, a mask is laid on, and nothing is mixed."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, x):
        h = self.act(self.first(x))
        heads = h.view(*h.shape[:2], 2, 3).permute(0, 2, 1, 3).contiguous().view(-1, h.shape[1], 3)
        heads = nn.functional.pad(heads, (0, 0, 1, 0)).masked_fill(torch.zeros(1, h.shape[1] + 1, 1, dtype=bool), 0.0)
        heads = heads.reshape(-1, 2, *heads.shape[1:]).transpose(1, 2).flatten(2)
        heads[:, -1] = 0
        return torch.stack([self.last(frame * 0.5) for frame in heads[:, 1:].transpose(0, 1)]).mean(0)


def test_units_are_followed_through_heads_padding_masks_and_loops():
    net, example = Rearranged(), torch.randn(2, 5, 3)
    sites = find_sites(net, "act", example=example)
    adapter = random_adapter(sites)
    folded = fold(net, adapter, example)
    torch.testing.assert_close(folded.last.weight, net.last.weight * adapter.scales()["act"])


class Recurrent(nn.Module):
    def __init__(self, kind, packed):
        super().__init__()
        self.lower, self.upper = (
            kind(3, 4, bidirectional=True, batch_first=True),
            kind(8, 5, 2, batch_first=True, bidirectional=True),
        )
        self.output, self.packed = nn.Linear(10, 2), packed

    def forward(self, x, lens):
        if self.packed:
            x = nn.utils.rnn.pack_padded_sequence(x, lens, batch_first=True, enforce_sorted=False)
        x = self.upper(self.lower(x)[0])[0]
        return self.output(nn.utils.rnn.pad_packed_sequence(x, batch_first=True)[0] if self.packed else x)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind, packed):
    net, example = Recurrent(kind, packed), (torch.randn(3, 7, 3), torch.tensor([4, 7, 2]))
    sites = find_sites(net, ["lower", "upper"], example=example)
    assert [plan.layers for plan in plan_fold(net, sites, example)] == [("upper",), ("output",)]
    fold(net, random_adapter(sites), example)  # proves itself


class Residual(nn.Module):
    def __init__(self, non_linearity=nn.Sigmoid):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 4), non_linearity(), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(x + self.act(self.first(x)))


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second, self.third = nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Linear(4, 4)
        self.third.weight = self.second.weight

    def forward(self, x):
        return self.third(torch.sigmoid(self.second(self.act(self.first(x)))))


class Twice(nn.Module):
    """One layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.act, self.linear, self.last = nn.Sigmoid(), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.linear(self.act(self.linear(x)))))


class Gated(nn.Module):
    """It decides by what its units say."""

    def __init__(self):
        super().__init__()
        self.act, self.last = nn.Sigmoid(), nn.Linear(4, 2)

    def forward(self, x):
        h = self.act(x)
        return self.last(h) if float(h[0, 0]) > 0 else self.last(-h)


class AlwaysDropping(nn.Module):
    """The slip of leaving out ``training=self.training``."""

    def forward(self, x):
        return nn.functional.dropout(x)


def sequential(*layers, site):
    return nn.Sequential(*layers), str(site), torch.randn(3, 4)


REFUSED = {
    "residual": ((Residual(), "act", torch.randn(3, 4)), "added to what is not scaled with it, such as a residual"),
    "layer norm": (
        sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.LayerNorm(5), nn.Linear(5, 2), site=1),
        "no factor passes layer_norm in '2'; nor into the layer that gives it: no factor passes sigmoid in '1'",
    ),
    "softmax": (
        sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Softmax(-1), nn.Linear(5, 2), site=1),
        "no factor passes softmax in '2'",
    ),
    "output": (sequential(nn.Linear(4, 5), nn.Sigmoid(), site=1), "it is part of the net's output"),
    "tied": ((Tied(), "act", torch.randn(3, 4)), "weights are tied: 'second.weight' and 'third.weight' are one tensor"),
    "called twice": (
        (Twice(), "act", torch.randn(3, 4)),
        "weights are used more than once: 'linear.weight' is read by another call too",
    ),
    "control flow": ((Gated(), "act", torch.randn(3, 4)), "float reads single numbers of it"),
    "computed weights": (
        sequential(
            nn.Linear(4, 5),
            nn.Sigmoid(),
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 2)),
            site=1,
        ),
        "the weights of linear in '2' are computed from others",
    ),
    "batch norm without weights": (
        sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 2), site=1),
        "batch_norm in '2' has no weights of its own",
    ),
    "batch norm by the batch": (
        sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.BatchNorm1d(5, track_running_stats=False), site=1),
        "batch_norm in '2' normalises by the batch",
    ),
    "dropout in evaluation": (
        sequential(
            nn.Linear(4, 5),
            nn.Sigmoid(),
            AlwaysDropping(),
            nn.Linear(5, 2),
            site=1,
        ),
        "dropout in '2' is at work in evaluation mode too",
    ),
    "mixed units": (
        sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.MaxPool1d(2), nn.Linear(3, 2), site=1),
        "max_pool1d in '2' brings units with scales of their own together",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_is_refused_with_the_reason(case):
    (net, name, example), reason = REFUSED[case]
    sites = find_sites(net, name, example=example)
    (plan,) = plan_fold(net, sites, example)
    assert not plan.foldable and plan.where.startswith("not foldable: ")
    before = fingerprint(net)
    with pytest.raises(FoldError, match=f"1 of 1 sites cannot be folded: '{name}'.*({reason})"):
        fold(net, random_adapter(sites), example)
    assert fingerprint(net) == before


def test_scales_per_band_fold_where_every_band_has_its_own_weights():
    images = torch.randn(2, 1, 5, 6)
    flat = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(90, 2))
    sites = find_sites(flat, "1", example=images, per_band=True)
    fold(flat, random_adapter(sites), images)
    shared = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Sigmoid(), nn.Conv2d(3, 2, 3))
    sites = find_sites(shared, "1", example=images, per_band=True)
    with pytest.raises(FoldError, match="conv2d in '2' shares its weights among units with scales of their own"):
        fold(shared, random_adapter(sites), images)


def test_a_site_ahead_of_a_residual_folds_into_own_rows_if_it_rectifies():
    net, example = Residual(nn.ReLU), torch.randn(3, 4)
    sites = find_sites(net, "act", example=example)
    assert str(plan_fold(net, sites, example)[0]) == "'act': into own rows of 'first'"
    adapter = random_adapter(sites)
    folded = fold(net, adapter, example)
    torch.testing.assert_close(folded.first.bias, net.first.bias * adapter.scales()["act"])
    negative = LhucAdapter({"act": torch.tensor([1.0, -1.0, 1.0, 0.0])}, Amplitude.identity)
    with pytest.raises(FoldError, match="it has negative scales, and none passes relu in 'act'"):
        fold(net, negative, example)


def test_rows_are_refused_when_somebody_else_reads_them():
    class Skipping(Residual):
        def forward(self, x):
            h = self.first(x)
            return self.last(h + self.act(h))

    net, example = Skipping(nn.ReLU), torch.randn(3, 4)
    with pytest.raises(FoldError, match="nor into the layer that gives it: it is added to what is not scaled"):
        fold(net, random_adapter(find_sites(net, "act", example=example)), example)


def test_a_shared_layer_folds_once_when_all_its_calls_read_the_same_scales():
    class Stepping(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)

        def forward(self, x):
            return torch.stack([self.last(self.act(self.first(frame))) for frame in x.unbind(1)], 1)

    net, example = Stepping(), torch.randn(2, 3, 4)
    sites = find_sites(net, "act", example=example, shared=True)
    adapter = random_adapter(sites)
    folded = fold(net, adapter, example)
    torch.testing.assert_close(folded.last.weight, net.last.weight * adapter.scales()["act"])


def test_every_site_that_cannot_be_folded_is_named():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.LayerNorm(4), nn.Linear(4, 4), nn.Sigmoid())
    sites = find_sites(net, ["1", "3", "4"], layout="*H")
    with pytest.raises(FoldError, match=r"2 of 3 sites cannot be folded: '1': .*; '4': not foldable: it is part of"):
        fold(net, random_adapter(sites), torch.randn(3, 4))


class Hidden(nn.Module):
    """What it keeps between calls the trace cannot see; the proof at the end does."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)

    def forward(self, x):
        h = self.act(self.first(x))
        return self.last(h) + torch.from_numpy(h.detach().numpy().sum(-1, keepdims=True))


def test_what_escapes_the_trace_is_found_out():
    net, example = Hidden(), torch.randn(3, 4)
    sites = find_sites(net, "act", example=example)
    with pytest.raises(FoldError, match=r"cannot be folded|differ by \d.* on the example, more than 1e-05"):
        fold(net, random_adapter(sites), example)


def test_a_profile_folds_into_its_own_model_only():
    net, example = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2)), torch.randn(4, 3)
    adapter = random_adapter(find_sites(net, "1"))
    profile = Profile.from_adapter(adapter, speaker="0024", base_fingerprint=fingerprint(net))
    assert fingerprint(fold(net, profile, example)) == fingerprint(fold(net, adapter, example))
    with torch.no_grad():
        net[0].bias += 1
    with pytest.raises(ProfileError, match=r"'0024' was learnt for model .*, this model is"):
        fold(net, profile, example)


def test_nothing_is_folded_while_an_adapter_is_attached():
    net, example = nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2)), torch.randn(4, 3)
    adapter = random_adapter(find_sites(net, "1"))
    with adapter.attached(net), pytest.raises(SiteError, match="attached to '1' already"):
        fold(net, adapter, example)
