"""Scales around the training of every kind of network: each utterance its speaker, row 0 folded, profiles kept."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.toy_lessons import SPEECH, lessons
from helpers.toy_utterances import CHAIN, DIM
from lhuc_asr.errors import ConfigError, SiteError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.sat import SatConfig, TableDevice
from lhuc_asr.lhuc.sites import Site
from lhuc_asr.models.dnn import DnnConfig
from lhuc_asr.models.kinds import NETWORKS, build_network
from lhuc_asr.models.network import NetworkConfig
from lhuc_asr.profiles.store import ProfileStore
from lhuc_asr.system.lessons import make_task
from lhuc_asr.system.speaker_adaptive import fold_and_save, with_scales
from lhuc_asr.system.trained_scales import TrainedScales
from lhuc_asr.training.criteria.criterion import CriterionConfig, CriterionKind
from lhuc_asr.training.examples.sequence_batches import SequenceConfig
from lhuc_asr.training.loop import TrainingConfig, train
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.processes.shares import Share
from lhuc_asr.training.schedule.newbob import NewbobConfig

SMALL: dict[str, dict[str, object]] = {
    "dnn": {"num_layers": 2, "batch_norm": True},
    "cnn": {"num_layers": 1, "num_filters": 3, "filter_bands": 2},
    "maxout": {"num_layers": 1},
    "maxout_cnn": {"num_layers": 1, "num_filters": 3, "filter_bands": 2},
    "tdnn": {"dilations": [1, 2]},
    "tdnnf": {"dilations": [1, 2], "bottleneck_dim": 3},
    "blstm": {"num_layers": 1},
    "conformer": {"num_layers": 1, "num_heads": 2},
}
SPEAKER_OF = {name: f"s{number % 3}" for number, name in enumerate(SPEECH.names[:-2])}
CONFIG = TrainingConfig(
    batch_size=64,
    optimiser=OptimiserConfig(kind=OptimiserKind.adam),
    newbob=NewbobConfig(initial_lr=0.02, max_epochs=1),
    sequences=SequenceConfig(max_frames=120),
)


def small(kind: str) -> NetworkConfig:
    """A network of this kind, small enough for a test."""
    classes = next(classes for name, classes in NETWORKS.items() if name.name == kind)
    return classes.config(hidden_dim=8, **SMALL[kind])


def trained(
    directory: Path, config: NetworkConfig, sat: SatConfig, criterion: CriterionKind = CriterionKind.cross_entropy
) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The folded network, what it gives for speech, and what it gave before with row 0 attached."""
    hmm = CHAIN if criterion is CriterionKind.lfmmi else lessons().hmm
    network = build_network(config, DIM, hmm.num_pdfs)
    task = make_task(lessons(hmm), network, CriterionConfig(kind=criterion), CONFIG)
    conditioned, adaptive = with_scales(task, network, SPEAKER_OF, sat, CONFIG)
    train(network, conditioned, CONFIG, directory / "training")
    speech = torch.randn(1, 30, DIM)
    with torch.no_grad(), adaptive.attached(network):
        wanted = network(speech)
    fold_and_save(network, adaptive, directory)
    with torch.no_grad():
        return network, network(speech), wanted


@pytest.mark.parametrize("kind", SMALL)
def test_row_0_goes_into_the_weights_of_every_kind_of_network(kind: str, tmp_path: Path) -> None:
    _, found, wanted = trained(tmp_path, small(kind), SatConfig(share=0.5))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    scales = TrainedScales.load(tmp_path)
    assert scales is not None and list(scales.row_of) == ["s0", "s1", "s2"]
    assert int(scales.r.any(dim=1).sum()) >= 3, "row 0 and two of three speakers: of six utterances, chance leaves some"


def test_networks_of_windows_learn_from_whole_utterances_too(tmp_path: Path) -> None:
    config = DnnConfig(hidden_dim=8, num_layers=1)
    _, found, wanted = trained(tmp_path, config, SatConfig(share=0.3), CriterionKind.lfmmi)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_speakers_are_kept_relative_to_row_0(tmp_path: Path) -> None:
    trained(tmp_path, small("dnn"), SatConfig(share=0.5))
    scales = TrainedScales.load(tmp_path)
    assert scales is not None
    known = {"base_fingerprint": "f" * 64, "seconds": dict.fromkeys(scales.row_of, 2.0), "settings": {}}
    scales.write_profiles(tmp_path / "speakers", **known)
    profile = ProfileStore.open(tmp_path / "speakers").get("s1")
    assert torch.equal(torch.cat([*profile.r.values()]), scales.r[2] - scales.r[0])


def test_speakers_who_learnt_nothing_have_no_profile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site("layer", (2,))
    r = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 0.1]])
    scales = TrainedScales(r=r, amplitude=Amplitude.exp, sites=(site,), row_of={"anna": 1, "ben": 2})
    known = {"base_fingerprint": "f" * 64, "seconds": {"anna": 2.0, "ben": 2.0}, "settings": {}}
    with caplog.at_level(logging.WARNING):
        scales.write_profiles(tmp_path / "speakers", **known)
    assert ProfileStore.open(tmp_path / "speakers").speakers() == ["ben"]
    assert "1 of 2 training speakers have no profile" in caplog.text and caplog.text.strip().endswith("'anna'")


def test_with_a_share_of_1_no_speaker_has_a_profile_and_the_log_tells_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(tmp_path, small("dnn"), SatConfig(share=1.0))
    scales = TrainedScales.load(tmp_path)
    assert scales is not None and bool(scales.r[0].any())
    with caplog.at_level(logging.WARNING):
        scales.write_profiles(tmp_path / "speakers")
    assert "3 of 3 training speakers have no profile" in caplog.text and "with 1 nothing" in caplog.text
    assert not (tmp_path / "speakers").exists()


def test_what_cannot_be_told_relative_to_row_0_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, small("dnn"), SatConfig(share=0.5, amplitude=Amplitude.sigmoid2))
    scales = TrainedScales.load(tmp_path)
    assert scales is not None and not scales.can_be_profiles
    with caplog.at_level(logging.WARNING):
        scales.write_profiles(tmp_path / "speakers")
    assert "sat.amplitude=exp or sat.learn_independent=false" in caplog.text
    assert not (tmp_path / "speakers").exists()
    at_identity = scales.r.clone()
    at_identity[0] = 0.0
    assert replace(scales, r=at_identity).can_be_profiles


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(small("dnn"), DIM, lessons().hmm.num_pdfs)
    task = make_task(lessons(), network, CriterionConfig(), CONFIG)
    conditioned, _ = with_scales(task, network, SPEAKER_OF, SatConfig(share=0.5), CONFIG)
    monkeypatch.setattr("lhuc_asr.training.tasks.conditioned_task.own_share", lambda: Share(0, 2))
    with pytest.raises(ConfigError, match="runs in one process, torchrun started 2: start lhuc-train without torchrun"):
        conditioned.check(network)


@pytest.mark.parametrize(("table", "device"), [(TableDevice.auto, "meta"), (TableDevice.cpu, "cpu")])
def test_the_table_may_lie_elsewhere_than_the_network(
    table: TableDevice, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lhuc_asr.system.speaker_adaptive.own_device", lambda _: torch.device("meta"))
    network = build_network(small("dnn"), DIM, lessons().hmm.num_pdfs)
    task = make_task(lessons(), network, CriterionConfig(), CONFIG)
    _, adaptive = with_scales(task, network, SPEAKER_OF, SatConfig(share=0.5, table=table), CONFIG)
    assert adaptive.table.r.device.type == device


def test_layers_that_there_are_not_are_refused() -> None:
    network = build_network(small("dnn"), DIM, lessons().hmm.num_pdfs)
    task = make_task(lessons(), network, CriterionConfig(), CONFIG)
    with pytest.raises(SiteError, match="there is no hidden layer 3; the model has 1 to 2"):
        with_scales(task, network, SPEAKER_OF, SatConfig(share=0.5, layers=[3]), CONFIG)
