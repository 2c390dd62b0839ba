"""A tiny but real recogniser with an output for every third frame: adapted, stopped and resumed, proved, used again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from helpers.tiny_recogniser import DIM, LEXICON, learning_from, num_right, recogniser, sentences, speak
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.passes.known_profiles import KnownProfiles
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.results import SpeakerResult
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.models.blstm import Blstm, BlstmConfig
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.profiles.verification import ProfileVerifier
from lhuc_asr.system.model_directory import AcousticSystem, load_system
from lhuc_asr.system.recognise import all_log_likes, decoder_of, recognise_all

ACCENT = 0.45
Feats = dict[str, NDArray[np.float32]]


def slowly(feats: NDArray[np.float32], subsampling: int) -> NDArray[np.float32]:
    """Every frame so many times, but the last one only once."""
    return np.repeat(feats, subsampling, axis=0)[: (len(feats) - 1) * subsampling + 1]


def trained(network: AcousticNetwork, hmm: HmmModel) -> AcousticNetwork:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    spoken = [speak(hmm, words, rng) for words in sentences(rng, 60)]
    feats = [torch.from_numpy(slowly(matrix, network.subsampling)) for matrix, _ in spoken]
    lens = torch.tensor(list(map(len, feats)))
    targets = pad_sequence([torch.from_numpy(path) for _, path in spoken], batch_first=True, padding_value=-100)
    feats_BTF = pad_sequence(feats, batch_first=True)
    for batch in [batch for _ in range(12) for batch in torch.randperm(len(feats)).split(10)]:
        optimiser.zero_grad()
        log_probs = network(feats_BTF[batch], lens[batch])
        torch.nn.functional.nll_loss(log_probs.transpose(1, 2), targets[batch]).backward()
        optimiser.step()
    return network


@pytest.fixture(scope="module", params=["tdnn_by_3", "blstm"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AcousticSystem:
    hmm = HmmModel.monophone(LEXICON.phones, loop_probability=0.5)
    network: AcousticNetwork
    if request.param == "blstm":
        network = Blstm(BlstmConfig(num_layers=1, hidden_dim=16), DIM, hmm.num_pdfs)
    else:
        network = Tdnn(TdnnConfig(hidden_dim=32, dilations=[1, 3], subsampling=3), DIM, hmm.num_pdfs)
    system: AcousticSystem = recogniser(tmp_path_factory.mktemp("model"), trained(network, hmm), hmm)
    return system


def spoken(system: AcousticSystem) -> tuple[Manifest, Feats]:
    rng, subsampling = np.random.default_rng(2), system.network.subsampling
    utterances, feats = [], {}
    for speaker, accent in (("plain", 0.0), ("strange", ACCENT)):
        for number, words in enumerate(sentences(rng, 30)):
            name = f"{speaker}-{number:02}"
            utterances.append(Utterance(name, Recording(name, "x.wav"), speaker, transcript=" ".join(words)))
            feats[name] = slowly(speak(system.hmm, words, rng, accent=accent)[0], subsampling)
    return Manifest(tuple(utterances)), feats


def session(system: AcousticSystem, directory: Path, supervision: Supervision) -> AdaptationSession:
    adapt = learning_from(supervision, lr=0.3, num_epochs=6)
    settings = AdaptationSettings(lhuc=LhucConfig(), adapt=adapt, protocol=ProtocolConfig())
    return AdaptationSession(system, settings, directory, num_jobs=2)


def results(outcomes: Iterator[object]) -> list[SpeakerResult]:
    return [outcome for outcome in outcomes if isinstance(outcome, SpeakerResult)]


@pytest.mark.parametrize("supervision", [Supervision.one_best, Supervision.oracle])
def test_a_strange_speaker_is_understood_better(
    system: AcousticSystem, tmp_path: Path, supervision: Supervision
) -> None:
    manifest, feats = spoken(system)
    plain, strange = results(session(system, tmp_path, supervision).run(manifest, feats))
    assert plain.second_pass is not None
    assert strange.second_pass is not None
    assert num_right(strange.second_pass, manifest) > num_right(strange.first_pass, manifest)
    assert num_right(plain.second_pass, manifest) > 0.9 * 4 * len(plain.plan.evaluation)
    assert strange.update.objective_after < strange.update.objective_before
    seconds = 0.01 * sum(len(feats[name]) for name in strange.plan.adaptation)
    assert strange.seconds == pytest.approx(seconds, abs=0.021 * len(strange.plan.adaptation))
    for name, hypothesis in strange.second_pass.items():
        assert max(word.start + word.duration for word in hypothesis.words) <= 0.01 * len(feats[name]) + 0.02
    assert load_system(system.directory).fingerprint == system.fingerprint


@pytest.mark.parametrize("supervision", [Supervision.lattice, Supervision.entropy])
def test_softer_targets_are_learnt_and_do_no_harm_to_whom_the_model_knows(
    system: AcousticSystem, tmp_path: Path, supervision: Supervision
) -> None:
    manifest, feats = spoken(system)
    plain, strange = results(session(system, tmp_path, supervision).run(manifest, feats))
    assert plain.second_pass is not None
    assert num_right(plain.second_pass, manifest) > 0.9 * 4 * len(plain.plan.evaluation)
    for result in (plain, strange):
        assert result.update.objective_after < result.update.objective_before


def test_stopped_resumed_proved_and_used_again(system: AcousticSystem, tmp_path: Path) -> None:
    manifest, feats = spoken(system)
    whole = results(session(system, tmp_path / "whole", Supervision.one_best).run(manifest, feats))
    stopped = session(system, tmp_path / "parts", Supervision.one_best).run(manifest, feats)
    next(stopped)
    stopped.close()
    again = load_system(system.directory)
    rest = results(session(again, tmp_path / "parts", Supervision.one_best).run(manifest, feats))
    assert [result.resumed for result in rest] == [True, False]
    verifier = ProfileVerifier(again.network, again.fingerprint, torch.randn(2, 24, DIM))
    for one, other in zip(whole, rest, strict=True):
        r, resumed = (load_profile(result.profile, fingerprint=again.fingerprint) for result in (one, other))
        assert all(torch.equal(r.r[name], resumed.r[name]) for name in r.r)
        assert one.second_pass is not None
        assert other.second_pass is not None
        assert {h.utterance: h.text for h in one.second_pass.values()} == {
            h.utterance: h.text for h in other.second_pass.values()
        }
        assert verifier.verify(resumed).effect > 0
    speaker_of = {utterance.id: utterance.speaker for utterance in manifest}
    profiles = KnownProfiles.open(tmp_path / "parts" / "profiles", manifest.speakers, fingerprint=again.fingerprint)
    items = all_log_likes(again, feats, adapted=profiles.adapting(again.network, speaker_of), num_jobs=2)
    found = recognise_all(decoder_of(again), items, num_utterances=len(feats), num_jobs=2)
    texts = {name: hypothesis.text for result in whole for name, hypothesis in (result.second_pass or {}).items()}
    assert {name: hypothesis.text for name, hypothesis in found.hypotheses.items()} == texts
    assert found.speed.audio == pytest.approx(0.01 * sum(map(len, feats.values())), abs=0.021 * len(feats))
