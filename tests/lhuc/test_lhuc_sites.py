"""Layers are found by number, name and wildcard; what matches nothing is said together with what there is."""

import pytest
from torch import nn

from lhuc_asr.errors import ConfigError, SiteError
from lhuc_asr.lhuc.finding import choose_sites, find_sites
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
