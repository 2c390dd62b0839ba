"""PEFT and all of our own ways do the same work: the scales that they learn are the same."""

from __future__ import annotations

import sys

import pytest
import torch

from lhuc_asr.bench.ia3 import ia3_updates, minibatches
from lhuc_asr.bench.nets import BenchNet, build_net
from lhuc_asr.bench.ours import our_updates
from lhuc_asr.bench.timing import Rounds
from lhuc_asr.bench.updates import Updates, measure_updates, update_config

CPU = torch.device("cpu")
ONE_ROUND = Rounds(seconds=0.0, fewest=1)
AMONG_OURS, FROM_PEFT = 1e-6, 1e-5


@pytest.fixture(params=["dnn_4x512", "conformer"])
def bench(request: pytest.FixtureRequest) -> BenchNet:
    return build_net(request.param, CPU, quick=True)


def furthest(found, wanted):
    return max(float((found[who][site] - r).abs().max()) for who, own in wanted.items() for site, r in own.items())


def test_peft_learns_the_same_scales(bench: BenchNet) -> None:
    pytest.importorskip("peft")
    config, speech = update_config(bench), bench.speech()
    theirs = ia3_updates(bench, speech, config)()
    assert list(theirs) == [one.name for one in speech]
    assert list(theirs["speaker 0"]) == [site.name for site in bench.sites]
    started = {who: {site: torch.ones_like(r) for site, r in own.items()} for who, own in theirs.items()}
    assert furthest(theirs, started) > 100 * FROM_PEFT, "the scales have hardly moved"
    for name, run in our_updates(bench, speech, config, num_jobs=2):
        assert furthest(run(), theirs) < FROM_PEFT, name


def test_a_run_begins_anew_every_time(bench: BenchNet) -> None:
    pytest.importorskip("peft")
    run = ia3_updates(bench, bench.speech(), update_config(bench))
    assert furthest(run(), run()) == 0.0


def test_speakers_learn_different_scales(bench: BenchNet) -> None:
    for _, run in our_updates(bench, bench.speech(), update_config(bench), num_jobs=1):
        learnt = run()
        first, second = learnt["speaker 0"], learnt["speaker 1"]
        assert any(float((first[site] - second[site]).abs().max()) > AMONG_OURS for site in first)


def test_the_items_come_in_the_order_of_the_update(bench: BenchNet) -> None:
    config = update_config(bench)
    batches = minibatches(5, config)
    per_epoch = len(batches) // config.num_epochs
    for epoch in range(config.num_epochs):
        joined = torch.cat(batches[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(joined.tolist()) == [0, 1, 2, 3, 4]
    assert all(len(batch) <= config.batch_size for batch in batches)


def check(found: Updates, bench: BenchNet) -> None:
    speech = bench.speech()
    assert found.speech == pytest.approx(len(speech) * speech[0].seconds)
    assert found.num_updated == 3 * sum(one.targets.numel() for one in speech)
    for variant in found.variants:
        assert found.throughput(variant.name).median > 0
        assert found.throughput_per_core(variant.name).median > 0
        assert found.share_of_limit(variant.name).median > 0
    assert all(found.limit_gflops(name).median > 0 for name in found.limits)


def test_everything_is_measured(bench: BenchNet) -> None:
    pytest.importorskip("peft")
    found = measure_updates(bench, ONE_ROUND, quick=True)
    check(found, bench)
    assert not found.missing
    assert set(found.limits) == {"float32", "bfloat16"}
    names = [variant.name for variant in found.variants]
    assert names[0] == "PEFT (IA)^3, float32" and names[0] not in found.differences
    assert set(found.differences) == set(names[1:])
    assert all(value < (1e-2 if "bfloat16" in name else FROM_PEFT) for name, value in found.differences.items())


def test_without_peft_the_rest_is_measured(bench: BenchNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    found = measure_updates(bench, ONE_ROUND, quick=True)
    check(found, bench)
    assert "peft cannot be loaded" in found.missing["PEFT (IA)^3"]
    assert "pip install 'lhuc_asr[pretrained]'" in found.missing["PEFT (IA)^3"]
    assert [variant.against for variant in found.variants] == [""] * len(found.variants)
    assert all(value < (1e-2 if "bfloat16" in name else AMONG_OURS) for name, value in found.differences.items())
