"""Targets of every kind from first passes of a tiny real recogniser: what they promise, and what is kept on disk."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from helpers.tiny_lattices import all_paths, lattices
from helpers.tiny_recogniser import data
from lhuc_asr.adaptation.keys import AdaptationSettings, search_key, speaker_keys
from lhuc_asr.adaptation.parameters.estimate_config import PriorShape
from lhuc_asr.adaptation.passes.pass_store import PassStore
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig, SpeakerPlan
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
from lhuc_asr.adaptation.session import AdaptationSession
from lhuc_asr.adaptation.targets.config import Confidence, Selection, Supervision, TargetConfig, Weighting
from lhuc_asr.adaptation.targets.doubt import Doubt
from lhuc_asr.adaptation.targets.frame_targets import EntropyTargets
from lhuc_asr.adaptation.targets.making import TargetMaker, sentence_states
from lhuc_asr.adaptation.targets.posteriors import mixed, of_log_probs, of_path, sharpened
from lhuc_asr.adaptation.targets.supervision import SpeakerTargets
from lhuc_asr.adaptation.targets.weighting import (
    FrameConfidences,
    FrameWeighting,
    weighted,
    word_confidences_by_frame,
)
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.decoding.calibration import Calibration
from lhuc_asr.decoding.confidence import Confidences
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.reading import HypothesisKind, LatticeReader
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import AcousticSystem, load_system
from lhuc_asr.system.recognise import all_log_likes, decoder_of, recognise_all


@pytest.fixture(scope="module")
def system(directory: Path) -> AcousticSystem:
    return load_system(directory)


@pytest.fixture(scope="module")
def first(system: AcousticSystem) -> tuple[SpeakerPlan, SpeakerPass, dict[str, Any]]:
    """Some utterances of the strange speaker, decoded with their lattices."""
    _, feats = data(system.hmm)
    own = {name: matrix for name, matrix in feats.items() if name.startswith("strange-0")}
    found: dict[str, Lattice] = {}
    decoded = recognise_all(
        decoder_of(system),
        all_log_likes(system, own),
        num_utterances=len(own),
        on_lattice=lambda lattice: found.update({lattice.utterance: lattice}),
    )
    names = tuple(own)
    return SpeakerPlan("strange", names, names), SpeakerPass(decoded.hypotheses, {}, found), own


def made(system: AcousticSystem, first: Any, *, calibration: Calibration | None = None, **config: Any) -> Any:
    plan, found, feats = first
    return TargetMaker(system, TargetConfig(**config), feats, calibration)(plan, found, found.lattices)


def line(hypothesis: Hypothesis) -> Lattice:
    """The lattice of one path and no other."""
    count = len(hypothesis.transition_ids)
    states, none = np.arange(count, dtype=np.int32), np.zeros(count, np.float32)
    ends = np.full(count + 1, np.inf, np.float32)
    ends[-1] = 0.5
    words = np.zeros(count, np.int32)
    return Lattice(
        hypothesis.utterance, states, states + 1, hypothesis.transition_ids, words, none + 0.3, none - 2, ends, 0.1
    )


@pytest.mark.parametrize("kind", [Supervision.lattice, Supervision.n_best])
def test_lattices_of_one_path_give_the_best_path_bit_for_bit(system: AcousticSystem, first: Any, kind: Any) -> None:
    plan, found, feats = first
    alone = SpeakerPass(found.hypotheses, {}, {name: line(own) for name, own in found.hypotheses.items()})
    best = made(system, first).tensors(whole=True)
    other = made(system, (plan, alone, feats), supervision=kind, lattice_scale=0.7).tensors(whole=True)
    assert all(isinstance(own, torch.Tensor) and torch.equal(own, best[name]) for name, own in other.items())


def test_words_of_least_risk_are_weighed_by_the_scale_that_is_given(system: AcousticSystem, first: Any) -> None:
    _, found, _ = first
    targets = made(system, first, supervision=Supervision.mbr, lattice_scale=0.05)
    read = LatticeReader(system.hmm, system.lexicon, HypothesisKind.mbr, system.output_shift_ms, 0.05)
    assert targets.paths.keys() == found.lattices.keys()
    for name, lattice in found.lattices.items():
        np.testing.assert_array_equal(targets.paths[name], read(lattice).transition_ids)


@given(lattices(num_transition_ids=4))
@settings(max_examples=40, deadline=None)
def test_sentences_share_frames_by_their_best_paths(lattice: Lattice) -> None:
    hmm: Any = SimpleNamespace(pdfs=lambda ids: (ids - 1) // 2, num_pdfs=2)
    best: dict[tuple[int, ...], Any] = {}
    for path in all_paths(lattice):
        if path.words not in best or path.cost < best[path.words].cost:
            best[path.words] = path
    chosen = sorted(best.values(), key=lambda path: path.cost)[:3]
    weights = np.exp(-np.array([path.cost for path in chosen]))
    wanted = np.zeros((lattice.num_frames, 2))
    for path, chance in zip(chosen, weights / weights.sum(), strict=True):
        ids = lattice.transition_id[list(path.arcs)]
        wanted[np.arange(lattice.num_frames), hmm.pdfs(ids[ids > 0])] += chance
    costs = sorted(path.cost for path in best.values())
    if any(abs(one - other) < 1e-3 for one, other in pairwise(costs)):
        return  # either may be taken
    found = sentence_states(lattice, hmm, num_sentences=3).dense()
    paths = defaultdict(list)
    for path in all_paths(lattice):
        paths[path.words].append(path.cost)
    if all(len(own) == 1 or sorted(own)[1] - min(own) > 1e-3 for own in paths.values()):
        np.testing.assert_allclose(found, wanted, atol=5e-4)  # determinisation takes costs for equal within 1/1024


def test_mixtures_and_powers_are_those_of_dense_tables() -> None:
    rng = np.random.default_rng(0)
    log_probs = rng.normal(size=(7, 5)).astype(np.float32)
    dense = np.exp(log_probs) / np.exp(log_probs).sum(1, keepdims=True)
    network = of_log_probs(log_probs + 3)
    np.testing.assert_allclose(network.dense(), dense, atol=1e-6)
    path = rng.integers(5, size=7).astype(np.int32)
    wanted = 0.3 * dense + 0.7 * np.eye(5)[path]
    np.testing.assert_allclose(mixed([(0.7, of_path(path, 5)), (0.3, network)]).dense(), wanted, atol=1e-6)
    cubed = dense**3 / (dense**3).sum(1, keepdims=True)
    np.testing.assert_allclose(sharpened(network, 3.0).dense(), cubed, atol=1e-6)
    assert sharpened(network, 1.0) is network


def test_kl_mixes_what_the_network_says_into_all_kinds(system: AcousticSystem, first: Any) -> None:
    _, _, feats = first
    for kind in (Supervision.one_best, Supervision.lattice):
        plain, mild = made(system, first, supervision=kind), made(system, first, supervision=kind, kl=0.4)
        for name, pdfs in plain.pdfs.items():
            alone = plain.posteriors.get(name) or of_path(pdfs, system.hmm.num_pdfs)
            log_probs = system.log_likes(feats[name]) + system.log_prior.numpy()
            wanted = 0.6 * alone.dense() + 0.4 * np.exp(log_probs)
            np.testing.assert_allclose(mild.posteriors[name].dense(), wanted, atol=1e-2)


def test_entropy_is_anchored_in_what_the_network_says(system: AcousticSystem, first: Any) -> None:
    free = made(system, first, supervision=Supervision.entropy)
    held = made(system, first, supervision=Supervision.entropy, kl=0.25, weights=Weighting.frame)
    for name, targets in free.tensors(whole=True).items():
        assert isinstance(targets, EntropyTargets)
        assert bool((targets.weights == 1).all()) and not targets.anchor.shares.any()
        assert targets.doubt == Doubt()
        other = held.tensors(whole=True)[name]
        torch.testing.assert_close(other.anchor.shares.sum(1) * 3, other.weights)


def test_doubt_is_measured_as_the_settings_say(system: AcousticSystem, first: Any) -> None:
    made_so = made(system, first, supervision=Supervision.entropy, entropy_order=1.5, confusion=0.25)
    for targets in made_so.tensors(whole=True).values():
        assert isinstance(targets, EntropyTargets) and targets.doubt == Doubt(order=1.5, confusion=0.25)


def test_weights_follow_confidences(system: AcousticSystem, first: Any) -> None:
    frame = made(system, first, weights=Weighting.frame)
    unsure = made(system, first, weights=Weighting.word, calibration=Calibration(slope=0.0, offset=0.0))
    for name in frame.pdfs:
        assert frame.weights[name].min() >= 0 and frame.weights[name].max() <= 1
        np.testing.assert_allclose(unsure.weights[name], 0.5)
    kept = made(system, first, confidence=Confidence.frame, min_confidence=0.9)
    for name in frame.pdfs:
        np.testing.assert_array_equal(kept.weights[name], frame.weights[name] >= 0.9)
    assert kept.num_speech_frames <= kept.num_kept_frames < kept.num_frames
    half = made(system, first, best_share=0.5)
    assert half.kept()["num_kept_utterances"] == 5 and half.kept()["num_utterances"] == 10
    with pytest.raises(SpeakerError, match=r"in 10 utterances none counts .*; possible: a lower adapt.min_confidence"):
        made(system, first, min_confidence=0.6, calibration=Calibration(slope=0.0, offset=0.0))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"only_agreed": True}, "adapt.only_agreed=true; possible: adapt.only_agreed=false"),
        (
            {"weights": Weighting.word, "best_share": 0.5},
            "adapt.weights=word and adapt.best_share=0.5; possible: adapt.weights=none or a higher adapt.best_share",
        ),
    ],
)
def test_where_nothing_counts_the_settings_at_work_are_named(settings: dict[str, Any], told: str) -> None:
    config = TargetConfig(supervision=Supervision.words, words_from="x", **settings)
    targets, weights = SpeakerTargets({"u": np.zeros(5, np.int32)}, 5, 5), {"u": np.zeros(5, np.float32)}
    with pytest.raises(SpeakerError) as problem:
        weighted(targets, weights, 0, speaker="s", config=config)
    assert str(problem.value).endswith(f"of 5 frames in 1 utterances none counts with {told}")


def test_words_are_as_sure_over_all_their_frames() -> None:
    words = (Word("A", 0.03, 0.06), Word("B", 0.12, 0.03))
    hypothesis = Hypothesis("u", words, np.ones(6, np.int32), 0.0, 0.0, frame_shift_ms=30.0)
    sure = word_confidences_by_frame(hypothesis, Confidences("u", (0.8, 0.4), np.zeros(6, np.float32), 0.0))
    np.testing.assert_allclose(sure, [0.6, 0.8, 0.8, 0.6, 0.4, 0.6])
    silent = replace(hypothesis, words=())
    mute = word_confidences_by_frame(silent, Confidences("u", (), np.full(6, 0.25, np.float32), 0.0))
    np.testing.assert_allclose(mute, 0.25)


def test_the_surest_utterances_are_chosen_and_their_number_rounded_up() -> None:
    means = {"a": 0.2, "b": 0.9, "c": 0.9, "d": 0.5}
    sure = {name: FrameConfidences(np.full(3, mean, np.float32)) for name, mean in means.items()}
    for share, chosen in ((1.0, "abcd"), (0.5, "bc"), (0.6, "bcd"), (0.01, "b")):
        config = TargetConfig(confidence=Confidence.frame, best_share=share)
        weights = FrameWeighting(config).weights(sure)
        assert "".join(sorted(name for name, own in weights.items() if own.all())) == chosen


def test_the_surest_frames_and_words_are_chosen_and_words_stay_whole() -> None:
    frame = np.array([0.1, 0.9, 0.5, 0.8], np.float32)
    word = np.array([0.7, 0.7, 0.7, 0.2], np.float32)
    sure = {"a": FrameConfidences(frame, word), "b": FrameConfidences(frame / 2, word / 2)}

    def chosen(confidence: Confidence, share: float) -> list[float]:
        config = TargetConfig(confidence=confidence, best_share=share, share_of=Selection.frames)
        return [float(x) for own in FrameWeighting(config).weights(sure).values() for x in own]

    assert chosen(Confidence.frame, 3 / 8) == [0, 1, 1, 1, 0, 0, 0, 0]
    assert chosen(Confidence.word, 1 / 8) == [1, 1, 1, 0, 0, 0, 0, 0], "the rest of the word comes along"
    assert chosen(Confidence.word, 0.5) == [1, 1, 1, 0, 1, 1, 1, 0]
    assert chosen(Confidence.utterance, 0.1) == [1, 1, 1, 1, 0, 0, 0, 0]


def test_an_utterance_counts_as_its_words_do_on_average() -> None:
    words = {"a": [0.9, 0.3], "b": [0.2, 0.2]}
    sure = {name: FrameConfidences(np.ones(2, np.float32), np.array(own, np.float32)) for name, own in words.items()}
    weights = FrameWeighting(TargetConfig(weights=Weighting.utterance)).weights(sure)
    np.testing.assert_allclose(np.concatenate([*weights.values()]), [0.6, 0.6, 0.2, 0.2], rtol=1e-6)
    config = TargetConfig(min_confidence=0.5, confidence=Confidence.utterance)
    assert config.needs_words and config.needs_calibration and not config.weighs_frames
    assert np.concatenate([*FrameWeighting(config).weights(sure).values()]).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"entropy_order": 0.0, "supervision": Supervision.entropy}, "adapt.entropy_order must be positive"),
        ({"temperature": 0.0, "supervision": Supervision.entropy}, "adapt.temperature must be positive"),
        ({"negatives": 1.5, "supervision": Supervision.entropy}, r"adapt\.negatives must lie in \[0, 1\]"),
        ({"confusion": 1.5, "supervision": Supervision.entropy}, r"adapt\.confusion must lie in \[0, 1\]"),
        ({"supervision": Supervision.soft}, "learns nothing by itself"),
        ({"supervision": Supervision.oracle, "best_share": 0.5}, "for targets that may be wrong"),
        ({"kl": 1.0}, r"adapt\.kl must lie in \[0, 1\), got 1.0"),
        ({"min_confidence": 1.5}, r"adapt\.min_confidence must lie in \[0, 1\]"),
        ({"best_share": 0.0}, "adapt.best_share must be above 0"),
        ({"sharpness": 0.0}, "adapt.sharpness must be positive"),
        ({"num_sentences": 0}, "adapt.num_sentences must be at least 1"),
        ({"lattice_scale": -1.0}, "adapt.lattice_scale must be 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AdaptConfig(**wrong)


def session(system: AcousticSystem, out: Path, shared: Path | None = None, **adapt: Any) -> AdaptationSession:
    chosen = AdaptationSettings(lhuc=LhucConfig(), adapt=AdaptConfig(**adapt), protocol=ProtocolConfig())
    return AdaptationSession(system, chosen, out, first_pass_directory=shared)


def some(system: AcousticSystem, per_speaker: int = 8) -> tuple[Any, Any]:
    manifest, feats = data(system.hmm)
    return manifest.where(lambda utterance: int(utterance.id[-2:]) < per_speaker), feats


def test_lattices_are_kept_beside_the_pass_and_made_where_they_are_missing(
    system: AcousticSystem, tmp_path: Path
) -> None:
    manifest, feats = some(system)
    shared = tmp_path / "first"
    plain = list(session(system, tmp_path / "a", shared).run(manifest, feats))
    assert not list(shared.rglob("lattices*"))
    more = session(system, tmp_path / "b", shared, supervision=Supervision.lattice)
    soft = list(more.run(manifest, feats))
    assert "first_pass" in more.speed and len(list(shared.rglob("lattices.safetensors"))) == 2
    for one, other in zip(plain, soft, strict=True):
        assert isinstance(one, SpeakerResult) and isinstance(other, SpeakerResult)
        for name, hypothesis in one.first_pass.items():
            np.testing.assert_array_equal(hypothesis.transition_ids, other.first_pass[name].transition_ids)
    again = session(system, tmp_path / "c", shared, supervision=Supervision.lattice, sharpness=2.0)
    assert len(list(again.run(manifest, feats))) == 2 and "first_pass" not in again.speed
    assert PassStore(shared).get("plain", "another key", with_lattices=True) is None


def test_stopped_and_resumed_gives_what_an_uninterrupted_run_gives(system: AcousticSystem, tmp_path: Path) -> None:
    manifest, feats = some(system)
    config = {"supervision": Supervision.lattice, "weights": Weighting.word, "kl": 0.2, "best_share": 0.8}
    whole = list(session(system, tmp_path / "whole", **config).run(manifest, feats))
    stopped = session(system, tmp_path / "parts", **config).run(manifest, feats)
    next(stopped)
    stopped.close()
    rest = list(session(load_system(system.directory), tmp_path / "parts", **config).run(manifest, feats))
    for one, other in zip(whole, rest, strict=True):
        assert isinstance(one, SpeakerResult) and isinstance(other, SpeakerResult)
        profiles = [load_profile(result.profile, fingerprint=system.fingerprint) for result in (one, other)]
        assert profiles[0].sha256 == profiles[1].sha256
        assert one.kept == other.kept and one.kept["num_kept_utterances"] == 7 and one.share_kept < 1
        assert profiles[0].supervision == "lattice"


def test_a_speaker_of_whom_nothing_is_sure_fails_with_the_reason(system: AcousticSystem, tmp_path: Path) -> None:
    manifest, feats = some(system, 2)
    strict = session(system, tmp_path, confidence=Confidence.frame, min_confidence=1.0, lattice_scale=1e-3)
    outcomes = list(strict.run(manifest, feats))
    assert all(isinstance(outcome, SpeakerFailure) for outcome in outcomes)
    assert all("0.0 s of speech that counts in" in outcome.reason for outcome in outcomes)


def test_every_setting_is_another_result_of_the_same_first_pass(system: AcousticSystem) -> None:
    _, feats = some(system)
    names = ("plain-00", "plain-01")
    changes: list[dict[str, Any]] = [
        {}, {"supervision": Supervision.lattice}, {"supervision": Supervision.mbr}, {"kl": 0.5},
        {"supervision": Supervision.lattice, "lattice_scale": 0.5},
        {"supervision": Supervision.lattice, "sharpness": 2.0},
        {"supervision": Supervision.n_best}, {"supervision": Supervision.n_best, "num_sentences": 3},
        {"weights": Weighting.frame}, {"weights": Weighting.word}, {"min_confidence": 0.5}, {"best_share": 0.5},
        {"min_confidence": 0.5, "confidence": Confidence.frame}, {"weights": Weighting.utterance},
        {"best_share": 0.5, "share_of": Selection.frames}, {"min_confidence": 0.5, "confidence": Confidence.utterance},
        {"supervision": Supervision.entropy}, {"supervision": Supervision.entropy, "entropy_order": 1.5},
        {"supervision": Supervision.entropy, "confusion": 0.7}, {"tied": True}, {"prior": 1.0},
        {"lr_layers": [1.0, 0.5]},
        {"prior": 1.0, "prior_shape": PriorShape.laplace},
    ]  # fmt: skip
    plan, search = SpeakerPlan("plain", names, names), search_key(system)

    def keys(change: dict[str, Any], calibration: Calibration | None = None) -> Any:
        chosen = AdaptationSettings(lhuc=LhucConfig(), adapt=AdaptConfig(**change), protocol=ProtocolConfig())
        return speaker_keys(plan, feats, {}, chosen, search, calibration=calibration)

    found = [keys(change) for change in changes]
    assert len({one.update for one in found}) == len(changes) and len({one.first_pass for one in found}) == 1
    other = Calibration(slope=0.5)
    assert keys({"weights": Weighting.word}, other).update != keys({"weights": Weighting.word}).update
    assert keys({}, other) == keys({})
