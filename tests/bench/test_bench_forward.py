"""All ways to run a batch give the log-probabilities that they must."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from lhuc_asr.bench.forward import batch_make_ups, forward_variants, measure_forward
from lhuc_asr.bench.nets import SHAPES, build_net
from lhuc_asr.bench.timing import Rounds
from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.fingerprint import fingerprint

CPU = torch.device("cpu")
ONE_ROUND = Rounds(seconds=0.0, fewest=1)


@pytest.mark.parametrize("name", SHAPES)
def test_ways_that_must_agree_do(name: str) -> None:
    bench = build_net(name, CPU, quick=True)
    before = fingerprint(bench.net)
    found = measure_forward(bench, ONE_ROUND, num_known=12)
    assert max(found.differences.values()) < 1e-5
    outputs = found.timings.outcomes
    assert float((outputs["bare"] - outputs["adapter attached"]).abs().max()) > 1e-3
    assert float((outputs["bank of 12, identical"] - outputs["bank of 12, all distinct"]).abs().max()) > 1e-3
    assert torch.equal(outputs["bare"], outputs["bare once more"])
    assert fingerprint(bench.net) == before


def test_every_variant_is_compared_with_one_that_is_there() -> None:
    variants = forward_variants(build_net("dnn_4x512", CPU, quick=True), 12)
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names) == 14
    assert [variant.name for variant in variants if not variant.against] == ["bare"]
    assert {variant.against for variant in variants} <= {"", *names}


def test_four_make_ups_of_a_batch() -> None:
    known = [f"speaker {number}" for number in range(1000)]
    make_ups = batch_make_ups(known, 64)
    assert list(make_ups) == ["all distinct", "uniform", "skewed", "identical"]
    assert all(len(speakers) == 64 and set(speakers) <= set(known) for speakers in make_ups.values())
    sizes = {name: len(set(speakers)) for name, speakers in make_ups.items()}
    assert sizes["all distinct"] == 64
    assert 64 >= sizes["uniform"] > sizes["skewed"] > sizes["identical"] == 1
    ((most, count),) = Counter(make_ups["skewed"]).most_common(1)
    assert most in known[:3] and count > 3


def test_an_unknown_net_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no net 'rnn' to measure; there are: dnn_4x512"):
        build_net("rnn", CPU)


def test_the_nets_have_the_sizes_in_their_names() -> None:
    for name, num_layers, width in (("dnn_4x512", 4, 512), ("dnn_6x2048", 6, 2048)):
        bench = build_net(name, CPU)
        assert [site.units for site in bench.sites] == [(width,)] * num_layers
        assert bench.net.feat_dim * (2 * bench.net.context + 1) == 21 * 40
        assert bench.net.num_outputs == 1000


def test_the_forward_passes_of_all_nets_are_of_the_same_size() -> None:
    sizes = {name: (shape.num_utterances, shape.num_frames) for name, shape in SHAPES.items()}
    assert set(sizes.values()) == {(64, 10)}


def test_the_frames_of_the_forward_passes_do_not_touch_what_is_adapted_on() -> None:
    short, long = (build_net("conformer", CPU, quick=True, num_frames=number) for number in (0, 9))
    assert [net.feats().shape[1] for net in (short, long)] == [6, 9]
    for one, other in zip(short.speech(), long.speech(), strict=True):
        assert torch.equal(one.targets, other.targets) and one.targets.shape == (4, 6)
    assert short.items_per_batch == long.items_per_batch == 2
