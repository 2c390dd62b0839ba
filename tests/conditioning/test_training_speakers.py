"""What a gate predicts for its training speakers, as profiles: of a table and a linear gate, a learned subspace."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.toy_voices import DIM, FEATURES, toy_speech
from lhuc_asr.adaptation.parameters.spaces import Subspace
from lhuc_asr.conditioning.conditioner import Conditioner
from lhuc_asr.conditioning.description import VoiceDescriber, learn_describer
from lhuc_asr.conditioning.network import row_sites
from lhuc_asr.conditioning.projection import Projection
from lhuc_asr.conditioning.settings import ConditionConfig
from lhuc_asr.conditioning.sources import listeners_of
from lhuc_asr.conditioning.table import SpeakerTable
from lhuc_asr.conditioning.training_speakers import TrainingSpeakers
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.errors import ProfileError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.gate import Gate, GateConfig
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.profiles.prior_learning import learn_prior
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore
from lhuc_asr.system.sites import proved_sites
from lhuc_asr.system.training_speech import TrainingSpeech

K, SPEAKERS = 3, 10


@pytest.fixture
def speech(tmp_path: Path) -> TrainingSpeech:
    return toy_speech(tmp_path / "speech", num_speakers=SPEAKERS, num_utterances=2)


def of_table(num_speakers: int) -> tuple[VoiceDescriber, SpeakerTable]:
    """A describer that knows so many speakers by a table, and hears nothing."""
    table = SpeakerTable([f"s{number}" for number in range(num_speakers)], K, start=0, seed=1)
    describe = VoiceDescriber({}, {}).with_known("table", table.learnt(), Projection.identity(K))
    return describe, table


def predicted(
    speech: TrainingSpeech, describe: VoiceDescriber, amplitude: Amplitude, *, gamma: float = 2.0
) -> TrainingSpeakers:
    """A gate that has learnt something, and its speakers."""
    network = Dnn(DnnConfig(num_layers=2, hidden_dim=6, context=0), DIM, 3).eval()
    sites, config = proved_sites(network, []), ConditionConfig(gate=GateConfig(hidden_dims=[], bias=False, gamma=gamma))
    gate = Gate.for_sites(row_sites(sites), describe.parts, config.gate)
    for number, head in enumerate(gate.heads):
        torch.nn.init.normal_(head.weight, std=0.5, generator=torch.Generator().manual_seed(number))  # type: ignore[arg-type]
    gate.requires_grad_(False).eval()
    conditioner = Conditioner(fingerprint(network), row_sites(sites), describe, gate, config)
    return TrainingSpeakers(
        conditioner=conditioner,
        network=network,
        sites=sites,
        amplitude=amplitude,
        speech=speech,
        manifest=speech.manifest,
        frame_shift_ms=FEATURES.frame_shift_ms,
    )


def profiles_of(speakers: TrainingSpeakers, directory: Path) -> dict[str, Profile]:
    speakers.write(directory)
    store = ProfileStore.open(directory, fingerprint=speakers.conditioner.base_fingerprint)
    return {speaker: store.get(speaker) for speaker in store.speakers()}


def joined(r: dict[str, Tensor]) -> Tensor:
    return torch.cat([values.flatten(1) for values in r.values()], dim=1)


def test_the_directions_of_a_linear_gate_are_found_again_and_hold_every_speaker(
    speech: TrainingSpeech, tmp_path: Path
) -> None:
    describe, table = of_table(SPEAKERS)
    speakers = predicted(speech, describe, Amplitude.sigmoid2)
    found = profiles_of(speakers, tmp_path / "speakers")
    r = {name: torch.stack([found[s].r[name] for s in table.speakers]) for name in found["s0"].r}
    weights_DK = torch.cat([head.weight for head in speakers.conditioner.gate.heads])  # type: ignore[misc]
    torch.testing.assert_close(joined(r), table.rows().detach() @ weights_DK.T, rtol=1e-4, atol=1e-5)

    prior = learn_prior(list(found.values()))
    assert prior.num_directions == K, "as many as the gate has, without being told"
    prior.require_fits(speakers.sites, Amplitude.sigmoid2, all_sites=True)
    space = Subspace(prior, list(r), 0, torch.zeros(0))
    torch.testing.assert_close(joined(space.r(space.numbers(r))), joined(r), rtol=1e-4, atol=1e-5)
    basis_KD = joined({name: prior.directions[name] for name in r})
    learnt_KD = torch.linalg.qr(weights_DK).Q.T
    torch.testing.assert_close(basis_KD.T @ basis_KD, learnt_KD.T @ learnt_KD, rtol=1e-3, atol=1e-4)
    with pytest.raises(ProfileError, match=f"differ in {K} directions, {K + 1} were asked for"):
        learn_prior(list(found.values()), num_directions=K + 1)


@pytest.mark.parametrize("amplitude", list(Amplitude))
def test_a_profile_scales_as_the_gate_does(speech: TrainingSpeech, tmp_path: Path, amplitude: Amplitude) -> None:
    describe, table = of_table(SPEAKERS)
    speakers = predicted(speech, describe, amplitude)
    profile = profiles_of(speakers, tmp_path / "speakers")["s4"]
    expected = speakers.conditioner.scales(table.rows()[4].detach().numpy())
    for name, factors in profile.adapter().scales().items():
        torch.testing.assert_close(factors, expected[name])
    assert profile.amplitude is amplitude and profile.supervision == "training"
    assert profile.seconds == pytest.approx(0.65)  # 30 and 35 frames of 10 ms
    assert profile.settings == {"gate": speakers.conditioner.sha256}


def test_what_is_heard_is_all_of_a_speakers_speech(speech: TrainingSpeech, tmp_path: Path) -> None:
    config = ConditionConfig()
    voices = TrainingVoices(speech, FEATURES, list(speech.feats))
    heard = (voices.voice(name, 0) for name in speech.feats)
    describe = learn_describer(listeners_of(config, FEATURES), heard, config.projection, shrink_frames=5)
    speakers = predicted(speech, describe, Amplitude.exp)
    found = profiles_of(speakers, tmp_path / "speakers")
    assert len(found) == SPEAKERS
    raw = np.concatenate([speech.feats.raw["s2-0"], speech.feats.raw["s2-1"]])
    for name, factors in speakers.conditioner.scales(describe(raw)).items():
        torch.testing.assert_close(found["s2"].adapter().scales()[name], factors)


def test_whoever_is_not_known_has_no_profile_and_is_told(
    speech: TrainingSpeech, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    speakers = predicted(speech, of_table(SPEAKERS - 1)[0], Amplitude.exp)
    with caplog.at_level(logging.WARNING):
        found = profiles_of(speakers, tmp_path / "speakers")
    assert sorted(found) == [f"s{number}" for number in range(SPEAKERS - 1)]
    assert "1 of 10 training speakers have no profile, for nothing is known of them: 's9'" in caplog.text


def test_scales_that_an_amplitude_cannot_give_are_not_kept(
    speech: TrainingSpeech, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    describe, _ = of_table(SPEAKERS)
    predicted(speech, describe, Amplitude.exp, gamma=3.0).write(tmp_path / "speakers")
    with caplog.at_level(logging.WARNING):
        predicted(speech, describe, Amplitude.sigmoid2, gamma=3.0).write(tmp_path / "speakers")
    assert "gamma 3 gives scales that sigmoid2 cannot; lhuc.amplitude=exp" in caplog.text
    assert not (tmp_path / "speakers").exists(), "nothing of an earlier gate stays behind"
