"""Whole adaptations of networks that give fewer outputs than frames, or read whole utterances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers.attentive import Attentive
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.objectives import utterances as pieces
from lhuc_asr.adaptation.outcome import Updated
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.grouping import GroupSizes
from lhuc_asr.adaptation.updating import update_speakers
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import SiteError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.lhuc.finding import choose_sites
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.models.blstm import Blstm, BlstmConfig
from lhuc_asr.models.conformer import Conformer
from lhuc_asr.models.conformer_config import ConformerConfig
from lhuc_asr.models.kinds import NETWORKS as NETWORK_CLASSES
from lhuc_asr.models.kinds import build_network
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.models.tdnnf import TdnnF, TdnnFConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.sites import proved_sites

DIM = 4
HMM = HmmModel.monophone(("SIL", "SPN", "A"))
BY_3 = TdnnConfig(hidden_dim=7, dilations=[1, 3], subsampling=3)


def frozen(network: AcousticNetwork) -> AcousticNetwork:
    return network.requires_grad_(False).eval()


NETWORKS: dict[str, AcousticNetwork] = {
    "tdnn": frozen(Tdnn(TdnnConfig(hidden_dim=7, dilations=[1, 3]), DIM, HMM.num_pdfs)),
    "tdnn_by_3": frozen(Tdnn(BY_3, DIM, HMM.num_pdfs)),
    "tdnnf_by_3": frozen(
        TdnnF(TdnnFConfig(hidden_dim=7, bottleneck_dim=3, dilations=[1, 3], subsampling=3), DIM, HMM.num_pdfs)
    ),
    "blstm": frozen(Blstm(BlstmConfig(num_layers=2, hidden_dim=5), DIM, HMM.num_pdfs)),
    "conformer_by_3": frozen(
        Conformer(
            ConformerConfig(num_layers=1, stream_dim=8, hidden_dim=7, num_heads=2, num_channels=2, subsampling=3),
            DIM,
            HMM.num_pdfs,
        )
    ),
    "attentive": frozen(Attentive(DIM, HMM.num_pdfs)),
}


@dataclass
class Peaks:
    """Stands in for the search: the path visits the state that fits each output frame best."""

    num_calls: int = 0

    def decode_all(self, items: Any, *, num_jobs: int, meter: Any, on_failure: Any) -> Iterator[Hypothesis]:
        for utterance, log_likes in items:
            self.num_calls += 1
            path = np.searchsorted(HMM.transitions.pdf_of[1:], log_likes.argmax(axis=1)).astype(np.int32) + 1
            meter.add(num_frames=len(path), cpu=0.0, frame_shift_ms=30.0)
            yield Hypothesis(utterance, (Word("A", 0.0, 0.1),), path, 1.0, 2.0)


class System(SimpleNamespace):
    def log_likes(self, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            log_likes: NDArray[np.float32] = self.network(torch.from_numpy(feats)[None])[0].numpy()
        return log_likes


@pytest.fixture
def system(tmp_path: Path) -> Any:
    graph = tmp_path / "HCLG.fst"
    graph.write_bytes(b"graph")
    network = NETWORKS["tdnn_by_3"]
    return System(
        network=network,
        log_prior=torch.full((HMM.num_pdfs,), -np.log(HMM.num_pdfs), dtype=torch.float32),
        hmm=HMM,
        lexicon=Lexicon({"A": (("A",),)}),
        decoding=DecodingConfig(),
        features=SimpleNamespace(dim=DIM, frame_shift_ms=10.0),
        output_shift_ms=30.0,
        fingerprint="f" * 64,
        graph_path=graph,
    )


def data(num_speakers: int, *, num_frames: int = 61) -> tuple[Manifest, dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    names = [f"{speaker}/{number}" for speaker in range(num_speakers) for number in range(4)]
    manifest = (Utterance(name, Recording(name, "x.wav"), f"s{name[0]}", 0.0, 0.6, transcript="A A") for name in names)
    return Manifest(tuple(manifest)), {name: rng.normal(size=(num_frames, DIM)).astype(np.float32) for name in names}


def session(system: Any, directory: Path, **changes: Any) -> AdaptationSession:
    adapt = AdaptConfig(**{"lr": 0.2, "min_seconds": 0.01, **changes})
    settings = AdaptationSettings(lhuc=LhucConfig(), adapt=adapt, protocol=ProtocolConfig())
    return AdaptationSession(system, settings, directory, decoder=Peaks())


def results(run: AdaptationSession, *arguments: Any) -> list[SpeakerResult]:
    outcomes = list(run.run(*arguments))
    assert all(isinstance(outcome, SpeakerResult) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, SpeakerResult)]


def r_of(result: SpeakerResult) -> torch.Tensor:
    return torch.cat(list(load_profile(result.profile, fingerprint="f" * 64).r.values()))


@pytest.mark.parametrize("supervision", [Supervision.one_best, Supervision.oracle])
def test_seconds_are_those_of_the_audio(system: Any, tmp_path: Path, supervision: Supervision) -> None:
    run = session(system, tmp_path, supervision=supervision)
    for result in results(run, *data(2)):
        assert result.update.objective_after < result.update.objective_before
        assert result.seconds == pytest.approx(4 * 21 * 0.03)
        assert result.second_pass is not None
        assert {len(hypothesis.transition_ids) for hypothesis in result.second_pass.values()} == {21}
    assert {stage: speed.audio for stage, speed in run.speed.items()} == pytest.approx(
        {"first_pass": 8 * 0.63, "update": 8 * 0.63, "second_pass": 8 * 0.63}
    )


def test_too_little_speech_is_counted_in_seconds(system: Any, tmp_path: Path) -> None:
    (outcome,) = session(system, tmp_path, min_seconds=3.0).run(*data(1))
    assert isinstance(outcome, SpeakerFailure)
    assert "of speech in 2.5 s of audio; at least 3 s are needed" in outcome.reason


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_an_interrupted_run_goes_on_to_the_same_end(system: Any, tmp_path: Path, stop_after: int) -> None:
    manifest, feats = data(3)
    whole = results(session(system, tmp_path / "whole"), manifest, feats)
    outcomes = session(system, tmp_path / "parts").run(manifest, feats)
    for _ in range(stop_after):
        next(outcomes)
    outcomes.close()
    rest = results(session(system, tmp_path / "parts"), manifest, feats)
    assert [result.resumed for result in rest] == [True] * stop_after + [False] * (3 - stop_after)
    assert all(torch.equal(r_of(one), r_of(other)) for one, other in zip(whole, rest, strict=True))
    again = session(system, tmp_path / "parts")
    assert all(result.resumed for result in results(again, manifest, feats))
    assert isinstance(again.decoder, Peaks)
    assert again.decoder.num_calls == 0


def test_the_second_pass_uses_the_profile(system: Any, tmp_path: Path) -> None:
    manifest, feats = data(1)
    (result,) = results(session(system, tmp_path, lr=0.5, num_epochs=9), manifest, feats)
    assert result.second_pass is not None
    profile = load_profile(result.profile, fingerprint="f" * 64)
    for utterance, hypothesis in result.second_pass.items():
        with profile.adapter().attached(system.network):
            wanted = system.log_likes(feats[utterance]).argmax(axis=1)
        assert np.array_equal(HMM.pdfs(hypothesis.transition_ids), wanted)


def learn(
    network: AcousticNetwork,
    targets: dict[str, SpeakerTargets],
    feats: dict[str, NDArray[np.float32]],
    *,
    by_kind: bool = False,
    num_jobs: int = 1,
) -> dict[str, Updated | str]:
    sites = choose_sites(network, network.adaptation_sites, []) if by_kind else proved_sites(network, [])
    adapt = AdaptConfig(lr=0.2, batch_size=16)
    settings = AdaptationSettings(lhuc=LhucConfig(), adapt=adapt, protocol=ProtocolConfig())
    return dict(update_speakers(network, sites, targets, feats, settings=settings, num_jobs=num_jobs))


def targets_of(
    network: AcousticNetwork, feats: dict[str, NDArray[np.float32]], *, seed: int = 0
) -> dict[str, SpeakerTargets]:
    rng = np.random.default_rng(seed)
    targets: dict[str, SpeakerTargets] = {}
    for name, matrix in feats.items():
        num_outputs = -(-len(matrix) // network.subsampling)
        own = targets.get(f"s{name[0]}", SpeakerTargets({}, 0, 0))
        pdfs = {**own.pdfs, name: rng.integers(HMM.num_pdfs, size=num_outputs).astype(np.int32)}
        targets[f"s{name[0]}"] = replace(own, pdfs=pdfs, num_frames=own.num_frames + num_outputs)
    return targets


def parameters(outcome: Updated | str) -> torch.Tensor:
    assert isinstance(outcome, Updated), outcome
    return torch.cat([torch.from_numpy(values) for values in outcome.r.values()])


@pytest.mark.parametrize("kind", NETWORKS)
def test_neither_company_nor_processes_nor_layouts_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = GroupSizes(rows=48 * NETWORKS[kind].subsampling, frames=10**6, at_least=1)
    monkeypatch.setattr(GroupSizes, "for_device", staticmethod(lambda device, units: sizes))
    network, (_, feats) = NETWORKS[kind], data(4, num_frames=20)
    targets = targets_of(network, feats)
    together, in_two = learn(network, targets, feats), learn(network, targets, feats, num_jobs=2)
    one_by_one = learn(network, targets, feats, by_kind=kind != "attentive")
    for speaker, own in targets.items():
        alone = learn(network, {speaker: own}, feats)[speaker]
        assert torch.equal(parameters(together[speaker]), parameters(in_two[speaker]))
        torch.testing.assert_close(parameters(together[speaker]), parameters(alone), atol=1e-5, rtol=0)
        torch.testing.assert_close(parameters(one_by_one[speaker]), parameters(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("tdnn_by_3", "20 frames, which give 7 outputs (one for every 3 frames), but 20 targets"),
        ("blstm", "20 frames but 19 targets"),
    ],
)
def test_targets_that_do_not_fit_are_told(kind: str, found: str) -> None:
    network, (_, feats) = NETWORKS[kind], data(2, num_frames=20)
    targets = targets_of(network, feats)
    wrong = np.zeros(20 if network.subsampling > 1 else 19, np.int32)
    targets["s1"] = replace(targets["s1"], pdfs={**targets["s1"].pdfs, "1/2": wrong})
    outcomes = learn(network, targets, feats)
    assert isinstance(outcomes["s0"], Updated)
    assert outcomes["s1"] == f"speaker 's1': utterance '1/2' has {found}"


def test_features_of_another_dimension_are_told() -> None:
    network, (_, feats) = NETWORKS["tdnn"], data(2, num_frames=20)
    targets = targets_of(network, feats)
    feats["1/2"] = feats["1/2"][:, :3]
    outcomes = learn(network, targets, feats)
    assert isinstance(outcomes["s0"], Updated)
    assert outcomes["s1"] == "speaker 's1': utterance '1/2' has 3 features a frame, the network takes 4"


def test_stacks_of_layers_over_a_window_learn_from_frames_and_all_others_from_utterances() -> None:
    learn_from_frames = {
        kind.name
        for kind, classes in NETWORK_CLASSES.items()
        if build_network(classes.config(), feat_dim=40, num_outputs=3).learns_from_frames  # type: ignore[call-arg]
    }
    assert learn_from_frames == {"dnn", "cnn", "maxout", "maxout_cnn"}


@pytest.mark.parametrize("kind", ["tdnn_by_3", "blstm"])
def test_long_utterances_are_cut_where_that_is_exact_and_else_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, (_, feats) = NETWORKS[kind], data(2, num_frames=20)
    feats["1/2"] = np.concatenate([feats["1/2"]] * 3)
    targets = targets_of(network, feats)
    whole = learn(network, targets, feats)
    for limit in ("PIECE_FRAMES", "MOST_FRAMES"):
        monkeypatch.setattr(pieces, limit, 50)
    limited = learn(network, targets, feats)
    assert torch.equal(parameters(limited["s0"]), parameters(whole["s0"]))
    if network.has_windows:
        assert isinstance(limited["s1"], Updated)
        assert limited["s1"].num_frames == 3 * 7 + 20
    else:
        assert isinstance(limited["s1"], str)
        assert limited["s1"].startswith("speaker 's1': utterance '1/2' has 60 frames; every output of this network")


@pytest.mark.parametrize("kind", NETWORKS)
def test_sites_of_whole_utterances_tell_them_apart(kind: str) -> None:
    sites = proved_sites(NETWORKS[kind], [1])
    assert [site.name for site in sites] == [NETWORKS[kind].adaptation_sites[0]]
    assert all(site.layout.tells_utterances_apart for site in sites)
    with pytest.raises(SiteError, match=r"no hidden layer 7; the model has 1 to \d"):
        proved_sites(NETWORKS[kind], [7])
