"""A network with a gate: the same as without at the start, every window in its own voice, nothing else is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers.toy_voices import DIM, FEATURES, toy_feats, toy_speech
from lhuc_asr.conditioning.attributes import Attribute, Attributes
from lhuc_asr.conditioning.conditioner import (
    PAGE,
    Conditioner,
    load_conditioner,
    save_conditioner,
    shrink_frames,
)
from lhuc_asr.conditioning.description import VoiceDescriber, learn_describer
from lhuc_asr.conditioning.embedding import VoiceEmbedding
from lhuc_asr.conditioning.hearing import HearingRecogniser
from lhuc_asr.conditioning.network import ConditionedNetwork, row_sites
from lhuc_asr.conditioning.people import Who
from lhuc_asr.conditioning.projection import Projection
from lhuc_asr.conditioning.settings import ConditionConfig, Hearing, VectorKind
from lhuc_asr.conditioning.sources import listeners_of
from lhuc_asr.conditioning.speaker_network import EmbeddingConfig, SpeakerNetwork
from lhuc_asr.conditioning.table import SpeakerTable
from lhuc_asr.conditioning.vector_file import VectorFile
from lhuc_asr.conditioning.voice_task import HeardFrames, Hearer, VoiceTask
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.errors import ConfigError, ModelError
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.gate import Gate, GateConfig
from lhuc_asr.models.cnn import CnnConfig
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.models.kinds import build_network
from lhuc_asr.models.maxout import MaxoutConfig
from lhuc_asr.models.network import AcousticNetwork, NetworkConfig
from lhuc_asr.system.sites import proved_sites
from lhuc_asr.system.training_speech import TrainingSpeech
from lhuc_asr.training.loop import TrainingConfig, train
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.schedule.newbob import NewbobConfig

STATES, K = 3, 4
DNN = DnnConfig(num_layers=2, hidden_dim=6, context=1)
KINDS = [DNN, MaxoutConfig(num_layers=2, context=1), CnnConfig(context=2)]


def base_of(config: NetworkConfig) -> AcousticNetwork:
    return build_network(config, 40 if isinstance(config, CnnConfig) else DIM, STATES).requires_grad_(False).eval()


def stir(gate: Gate) -> None:
    for head in gate.heads:
        torch.nn.init.normal_(head.weight)  # type: ignore[arg-type]


def conditioned(base: AcousticNetwork, *, stirred: bool = False, trains_base: bool = False) -> ConditionedNetwork:
    sites = row_sites(proved_sites(base, []))
    gate = Gate.for_sites(sites, K)
    if stirred:
        stir(gate)
    return ConditionedNetwork(base, sites, gate, trains_base=trains_base)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind.name)
def test_every_window_is_heard_in_its_own_voice(config: NetworkConfig) -> None:
    base = base_of(config)
    windows, z = torch.randn(5, 2 * base.context + 1, base.feat_dim), torch.randn(5, K)
    plain = base.forward_windows(windows)
    fresh, network = conditioned(base), conditioned(base, stirred=True)
    with fresh.attached(), fresh.hearing(z):
        assert torch.equal(fresh.forward_windows(windows), plain)
    with network.attached():
        with network.hearing(z):
            together = network.forward_windows(windows)
        for row in range(5):
            with network.hearing(z[row : row + 1]):
                alone = network.forward_windows(windows[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone)
    assert not torch.allclose(together, plain, atol=1e-3)
    assert torch.equal(base.forward_windows(windows), plain)


def test_whole_utterances_have_one_voice_or_one_for_each_frame() -> None:
    base = base_of(DNN)
    network, feats = conditioned(base, stirred=True), torch.randn(1, 7, DIM)
    z = torch.randn(1, 7, K)
    with network.attached():
        with network.hearing(z):
            by_frame = network(feats)
        for frame in range(7):
            with network.hearing(z[:, frame]):
                torch.testing.assert_close(network(feats)[:, frame], by_frame[:, frame])


def test_a_frozen_network_does_not_stir_and_a_joint_one_does() -> None:
    base = base_of(DnnConfig(num_layers=1, hidden_dim=4, context=0, batch_norm=True, dropout=0.5))
    before = fingerprint(base)
    for trains_base in (False, True):
        network = conditioned(base, trains_base=trains_base).train()
        assert network.gate.training and base.training is trains_base
        with network.attached(), network.hearing(torch.randn(9, K)):
            network.forward_windows(torch.randn(9, 1, DIM)).square().sum().backward()
        assert all(weight.grad is not None for weight in network.gate.heads.parameters())
        assert all((weight.grad is not None) is trains_base for weight in base.parameters())
        assert (fingerprint(base) != before) is trains_base


@pytest.fixture
def speech(tmp_path: Path) -> TrainingSpeech:
    return toy_speech(tmp_path / "speech", num_speakers=16, num_utterances=4)


def describer(speech: TrainingSpeech, config: ConditionConfig) -> VoiceDescriber:
    voices = TrainingVoices(speech, FEATURES, list(speech.feats))
    heard = (voices.voice(name, 0) for name in speech.feats)
    shrink = shrink_frames(config, FEATURES)
    return learn_describer(listeners_of(config, FEATURES), heard, config.projection, shrink_frames=shrink)


def toy_states(speech: TrainingSpeech) -> dict[str, NDArray[np.int32]]:
    """A frame is of state 1 where its first filter lies above a threshold of the speaker's own: how high the second
    filter is, against all others, which normalisation takes away.
    """
    found = {}
    for name, feats in speech.feats.items():
        voice = toy_feats(int(name[1 : name.index("-")]), 10000).mean(axis=0)
        found[name] = (feats[:, 0] > voice[1] - voice.mean()).astype(np.int32)
    return found


def test_a_gate_helps_speakers_whom_it_has_not_met(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path / "speech", num_speakers=60, num_utterances=2)
    states, config = toy_states(speech), ConditionConfig()
    describe = describer(speech, config)
    held_out = [name for name in speech.feats if name.startswith(("s3", "s5"))]
    base, linear = Dnn(DnnConfig(num_layers=1, hidden_dim=32, context=0), DIM, 2), GateConfig(hidden_dims=[])
    sites = row_sites(proved_sites(base.eval(), []))
    network = ConditionedNetwork(base, sites, Gate.for_sites(sites, describe.parts, linear), trains_base=True)
    z = {name: describe(speech.feats.raw[name]) for name in held_out}
    task = VoiceTask(
        TrainingVoices(speech, FEATURES, [name for name in speech.feats if name not in held_out]),
        Hearer(describe, states, 0),
        HeardFrames.gather(held_out, speech.feats, z, states, context=0),
        batch_size=32,
        noise=0.05,
        dropout=0.1,
    )
    training = TrainingConfig(
        optimiser=OptimiserConfig(kind=OptimiserKind.adam), newbob=NewbobConfig(initial_lr=0.01, max_epochs=6)
    )
    with network.attached():
        train(network, task, training, tmp_path / "run")
        heard, average = task.score(network), task.score_of_average(network)
    assert heard.loss < 0.9 * average.loss


def test_a_run_that_is_taken_up_again_sees_the_same_minibatches(speech: TrainingSpeech) -> None:
    describe, states = describer(speech, ConditionConfig()), toy_states(speech)
    held = HeardFrames.gather(["s0-0"], speech.feats, {"s0-0": describe(toy_feats(0, 30))}, states, context=0)

    def batches(start: int) -> list[torch.Tensor]:
        voices = TrainingVoices(speech, FEATURES, list(speech.feats), warp=0.1, frames_per_epoch=300)
        task = VoiceTask(voices, Hearer(describe, states, 0), held, batch_size=100, noise=0.1, dropout=0.5)
        assert task.num_batches(2) == len(list(task.batches(2)))
        found = [batch for batch in task.batches(2, start=start) if batch is not None]
        return [tensor for batch in found for tensor in (batch.windows, batch.states, batch.z)]

    assert all(torch.equal(one, other) for one, other in zip(batches(1), batches(0)[3:], strict=True))


@pytest.mark.parametrize("other", [{"warp": 0.2}, {"seed": 1}, {"frames_per_epoch": 200}])
def test_a_run_in_other_voices_is_another_run(speech: TrainingSpeech, other: dict[str, Any]) -> None:
    describe, states = describer(speech, ConditionConfig()), toy_states(speech)
    held = HeardFrames.gather(["s0-0"], speech.feats, {"s0-0": describe(toy_feats(0, 30))}, states, context=0)

    def identity(**changes: Any) -> dict[str, Any]:
        settings = {"warp": 0.1, "frames_per_epoch": 300, "seed": 0} | changes
        voices = TrainingVoices(speech, FEATURES, list(speech.feats), **settings)
        return VoiceTask(voices, Hearer(describe, states, 0), held, batch_size=100).identity()

    assert identity() == identity() != identity(**other)


def trained(speech: TrainingSpeech) -> tuple[AcousticNetwork, Conditioner]:
    base, config = base_of(DNN), ConditionConfig()
    sites, describe = row_sites(proved_sites(base, [])), describer(speech, config)
    gate = Gate.for_sites(sites, describe.parts, config.gate)
    stir(gate)
    gate.requires_grad_(False).eval()
    return base, Conditioner("f" * 64, sites, describe, gate, config, {"seconds": 1.0})


def test_a_gate_is_the_same_after_a_round_trip(speech: TrainingSpeech, tmp_path: Path) -> None:
    base, conditioner = trained(speech)
    save_conditioner(conditioner, tmp_path / "gate")
    again = load_conditioner(tmp_path / "gate", FEATURES, fingerprint="f" * 64)
    raw, feats = toy_feats(99, 40), torch.randn(1, 40, DIM)
    with conditioner.hearing(base, raw):
        expected = base(feats)
    with again.hearing(base, raw):
        assert torch.equal(base(feats), expected)
    assert not torch.allclose(base(feats), expected)
    assert (again.sha256, again.config, again.report) == (conditioner.sha256, conditioner.config, conditioner.report)


def test_every_kind_of_vectors_is_the_same_after_a_round_trip(speech: TrainingSpeech, tmp_path: Path) -> None:
    config = ConditionConfig(vectors=list(VectorKind), embedding=EmbeddingConfig(hidden_dim=4, num_dims=3))
    embedding = VoiceEmbedding(SpeakerNetwork(config.embedding, DIM, 5, seed=3), FEATURES)
    written = Attributes((Attribute("spk2age", (), (7.0,)),), {"spk2age": {"s0": "9", "s1": "5", "s2": "7"}})
    file = VectorFile("memory", {name: np.array([number, 1], np.float32) for number, name in enumerate(("s0", "s1"))})
    voices = TrainingVoices(speech, FEATURES, list(speech.feats))
    listeners, known = listeners_of(config, FEATURES, embedding), {"file": file, "attributes": written}
    heard = (voices.voice(name, 0) for name in speech.feats)
    describe = learn_describer(listeners, heard, config.projection, shrink_frames=3, known=known)
    table = SpeakerTable(["s0", "s5"], config.table.num_dims, start=sum(describe.parts.values()), seed=4)
    describe = describe.with_known("table", table.learnt(), Projection.identity(config.table.num_dims))
    sites = row_sites(proved_sites(base_of(DNN), []))
    gate = Gate.for_sites(sites, describe.parts, config.gate).requires_grad_(False)
    conditioner = Conditioner(
        "f" * 64, sites, replace(describe, shrink_frames=shrink_frames(config, FEATURES)), gate, config
    )
    save_conditioner(conditioner, tmp_path / "gate")
    again = load_conditioner(tmp_path / "gate", FEATURES, fingerprint="f" * 64)
    assert list(again.describe.parts) == ["statistics", "embedding", "file", "attributes", "table"]
    assert again.sha256 == conditioner.sha256
    for who in (Who("s0-0", "s0"), Who("s1-0", "s1"), Who("x", "stranger")):
        raw = toy_feats(3, 30)
        assert np.array_equal(again.knowing(known).describe(raw, [who]), conditioner.describe(raw, [who]))


def test_a_gate_that_cannot_be_meant_is_refused(speech: TrainingSpeech, tmp_path: Path) -> None:
    _, conditioner = trained(speech)
    gate = tmp_path / "gate"
    with pytest.raises(ModelError, match=r"holds no 'condition.json'; make it with lhuc-condition"):
        load_conditioner(gate, FEATURES, fingerprint="f" * 64)
    save_conditioner(conditioner, gate)
    with pytest.raises(ModelError, match="was trained for model ffffffffffff, this model is eeeeeeeeeeee"):
        load_conditioner(gate, FEATURES, fingerprint="e" * 64)
    page = json.loads((gate / PAGE).read_text())
    (gate / PAGE).write_text(json.dumps({**page, "base_fingerprint": "e" * 64}))
    with pytest.raises(ModelError, match="was altered"):
        load_conditioner(gate, FEATURES, fingerprint="e" * 64)
    save_conditioner(conditioner, gate)
    content = bytearray((gate / "condition.safetensors").read_bytes())
    content[-1] ^= 1
    (gate / "condition.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="missing or was altered"):
        load_conditioner(gate, FEATURES, fingerprint="f" * 64)


def test_what_is_heard_decides_what_is_predicted(speech: TrainingSpeech) -> None:
    _, conditioner = trained(speech)
    raw, speaker_of, describe = speech.feats.raw, speech.manifest.speaker_of, conditioner.describe

    def z(hearing: Hearing, *utterances: str) -> NDArray[np.float32]:
        recogniser = HearingRecogniser(conditioner, raw, speaker_of, ConditionConfig(hearing=hearing), 10.0)
        return [recogniser.z(utterance) for utterance in utterances][-1]

    assert np.array_equal(z(Hearing.utterance, "s0-0", "s0-1")[0], describe(raw["s0-1"]))
    both = describe(np.concatenate([raw["s0-0"], raw["s0-1"]]))
    assert np.array_equal(z(Hearing.session, "s0-0", "s1-0", "s0-1")[0], both)
    causal = z(Hearing.causal, "s0-1")[0]
    assert causal.shape[0] == len(raw["s0-1"]) and not causal[:20].any()
    assert np.array_equal(causal[20], describe(raw["s0-1"][:20]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vectors": []}, "at least one kind and each once"),
        ({"warp": 0.5}, "condition.warp must be at least 0 and below 0.5"),
        ({"noise": -1.0}, "condition.noise must be 0 or more"),
        ({"dropout": 1.0}, r"condition.dropout must lie in \[0, 1\)"),
        ({"update_seconds": 0.0}, "condition.update_seconds must be positive"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ConditionConfig(**settings)  # type: ignore[arg-type]
