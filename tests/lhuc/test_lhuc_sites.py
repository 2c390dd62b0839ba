"""Layers are found by number, name and wildcard; what matches nothing is said together with what there is."""

import re

import pytest
import torch
from torch import nn

from lhuc_asr.errors import ConfigError, SiteError
from lhuc_asr.lhuc.finding import choose_sites, find_sites
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import LhucConfig, Site
from lhuc_asr.models.dnn import Dnn, DnnConfig

NATURAL = tuple(f"layers.{index}.activation" for index in range(3))


@pytest.fixture
def network():
    return Dnn(DnnConfig(num_layers=3, hidden_dim=5, context=1, batch_norm=True), feat_dim=4, num_outputs=6)


def test_wildcard_finds_all_bottom_to_top(network):
    assert find_sites(network, "layers.*.activation") == tuple(Site(name, (5,)) for name in NATURAL)


def test_order_and_number_do_not_depend_on_the_patterns(network):
    patterns = ["layers.2.activation", "layers.?.activation", "layers.0.activation"]
    assert find_sites(network, patterns) == find_sites(network, "layers.*.activation")


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([], NATURAL),
        ([1, 3], (NATURAL[0], NATURAL[2])),
        ([2, "layers.0.*tion"], NATURAL[:2]),
        (["layers.1.linear"], ("layers.1.linear",)),
    ],
)
def test_layers_of_a_configuration(network, layers, names):
    assert tuple(site.name for site in choose_sites(network, network.adaptation_sites, layers)) == names


def test_widths_come_from_the_layer_before(network):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 7), nn.LayerNorm(7), nn.Dropout(0.1), nn.Tanh())
    assert [site.num_units for site in find_sites(net, ["1", "3", "5"])] == [4, 7, 7]


def test_a_pattern_without_a_match_names_what_exists(network):
    with pytest.raises(SiteError, match=r"'encoder\.\*' matches no layer; the model has: .*layers\.0\.activation"):
        find_sites(network, ["layers.0.activation", "encoder.*"])


@pytest.mark.parametrize("number", [0, 4, -1])
def test_a_number_without_a_layer(network, number):
    with pytest.raises(SiteError, match="the model has 1 to 3"):
        choose_sites(network, network.adaptation_sites, [number])


def test_unknown_width_is_refused():
    with pytest.raises(SiteError, match="cannot tell how many units '0'"):
        find_sites(nn.Sequential(nn.Sigmoid(), nn.Linear(2, 3)), "0")


def test_config_counts_from_one():
    with pytest.raises(ConfigError, match="from 1 at the bottom, got 0"):
        LhucConfig(layers=[0])


@pytest.mark.parametrize(
    "pattern",
    [
        "layers.*.activation",
        re.compile(r"layers\.\d\.activation"),
        nn.Sigmoid,
        list(NATURAL),
        ["layers.0.activation", re.compile(".*[12].activation")],
        (nn.Sigmoid, NATURAL[1]),
    ],
)
def test_all_kinds_of_patterns(network, pattern):
    assert tuple(site.name for site in find_sites(network, pattern)) == NATURAL


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ([*NATURAL, "layers.*.activatoin"], "'layers.*.activatoin'"),
        ([*NATURAL, re.compile("activation")], "'activation'"),
        ([*NATURAL, nn.ReLU], "kind ReLU"),
        ("layers.[1-2", "'layers.[1-2'"),
    ],
)
def test_every_pattern_must_match(network, pattern, told):
    with pytest.raises(SiteError, match=re.escape(told) + " matches no layer; the model has: .*layers.0.linear"):
        find_sites(network, pattern)


def test_no_pattern_is_no_site(network):
    with pytest.raises(SiteError, match="no pattern was given, so nothing would be scaled; the model has: layers"):
        find_sites(network, [])


def test_names_with_brackets_mean_themselves():
    net = nn.Sequential()
    net.add_module("block[0]", nn.Linear(2, 3))
    assert find_sites(net, "block[0]")[0].units == (3,)


class NeverRuns(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class RunsInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(4, 4), nn.Sigmoid()

    def forward(self, x):
        h = self.linear(x)
        return self.activation(h) if self.training else h.sigmoid()


class Scores(nn.Module):
    """Attention scores: as wide as the input is long."""

    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(4, 4), nn.Softmax(dim=-1)

    def forward(self, x):
        return self.activation(self.linear(x) @ x.transpose(1, 2))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.ModuleDict({"linear": nn.Linear(4, 4)})
        self.block.forward = lambda x: {"hidden": self.block["linear"](x)}

    def forward(self, x):
        return self.block(x)["hidden"]


@pytest.mark.parametrize(
    ("net", "pattern", "reason"),
    [
        (
            NeverRuns(),
            "attention.out_proj",
            r"'attention.out_proj' \(NonDyn.* never runs in evaluation mode: the net reads",
        ),
        (RunsInTraining(), "activation", r"'activation' \(Sigmoid\) never runs in evaluation mode"),
        (nn.Sequential(one := nn.Linear(4, 4), one), "0", "runs 2 times in one pass.*shared=True"),
        (Scores(), "activation", "cannot tell which dimension of the output .3, 5, 5. of 'activation'"),
        (Dictionary(), "block", r"'block' \(ModuleDict\) gives a dict, not a tensor"),
    ],
)
def test_what_an_example_refuses(net, pattern, reason):
    with pytest.raises(SiteError, match=reason):
        find_sites(net, pattern, example=torch.randn(3, 5, 4))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_width_that_changes_with_the_input_is_refused():
    net = Scores()
    with pytest.raises(SiteError, match=r"width of 'activation' changes with the input: 5 units .*, 7 for the other"):
        find_sites(net, "activation", example=torch.randn(3, 5, 4), another=torch.randn(3, 7, 4), layout="BTH")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    bands = {"example": torch.randn(2, 1, 9, 6), "another": torch.randn(2, 1, 9, 8), "per_band": True}
    assert find_sites(net, "1", **bands)[0].units == (2, 7)
    turned = {name: value.transpose(2, 3) if name != "per_band" else value for name, value in bands.items()}
    with pytest.raises(SiteError, match="changes with the input: 2x4 units"):
        find_sites(net, "1", **turned)
    del turned["per_band"]
    assert find_sites(net, "1", **turned, layout="BHTH")[0].units == (2, 7)


def test_flattened_units_are_those_of_a_fixed_length():
    net = nn.Sequential(nn.Linear(4, 4), nn.Flatten())
    assert find_sites(net, "1", example=torch.randn(3, 5, 4))[0] == Site("1", (20,), Layout("BH"))
    with pytest.raises(SiteError, match="the width of '1' changes with the input: 20 units"):
        find_sites(net, "1", example=torch.randn(3, 5, 4), another=torch.randn(3, 6, 4))


def test_bands_need_an_example_and_planes():
    net = nn.Sequential(nn.Conv1d(4, 4, 1), nn.ReLU())
    with pytest.raises(SiteError, match="how many bands '1' has depends on the net's input"):
        find_sites(net, "1", per_band=True)
    with pytest.raises(SiteError, match="channels without bands"):
        find_sites(net, "1", example=torch.randn(2, 4, 5), per_band=True)


def test_a_layout_that_has_more_dimensions_than_the_output_is_refused():
    with pytest.raises(SiteError, match="too few dimensions for layout 'BHTTT'"):
        find_sites(nn.Sequential(nn.Linear(4, 4)), "0", example=torch.randn(2, 5, 4), layout="BHTTT")


@pytest.mark.parametrize(
    ("layers", "letters"),
    [
        ([nn.Linear(4, 6), nn.ReLU()], "*H"),
        ([nn.Conv1d(4, 6, 1), nn.ReLU(), nn.MaxPool1d(2)], "*HT"),
        ([nn.Conv2d(1, 6, 1), nn.BatchNorm2d(6), nn.ReLU()], "*HTT"),
        ([nn.Conv1d(4, 12, 1), nn.GLU(dim=1)], "*HT"),
        ([nn.GRU(4, 3, bidirectional=True)], "*H"),
        ([nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6), nn.Sequential(nn.Tanh(), nn.Dropout())], "*HT"),
    ],
)
def test_without_an_example_the_kind_of_the_layer_tells(layers, letters):
    site = find_sites(nn.Sequential(*layers), str(len(layers) - 1))[0]
    assert (site.units, site.layout.letters) == ((6,), letters)


@pytest.mark.parametrize("layers", [[nn.BatchNorm1d(4)], [nn.Linear(4, 4), nn.Flatten(), nn.ReLU()], [nn.ReLU()]])
def test_without_an_example_doubt_is_an_error(layers):
    with pytest.raises(SiteError, match=r"give (find_sites )?an example"):
        find_sites(nn.Sequential(*layers), str(len(layers) - 1))


def test_a_compiled_net_is_looked_through():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert find_sites(torch.compile(net), "1") == find_sites(net, "1")
