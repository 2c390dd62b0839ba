"""What tells voices apart: statistics, projections, warped voices, and what is known while speech is streaming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.toy_voices import DIM, FEATURES, toy_feats, toy_speech
from lhuc_asr.conditioning.description import VoiceDescriber, learn_describer
from lhuc_asr.conditioning.hearing import RunningDescription, causal_z
from lhuc_asr.conditioning.projection import Projection, ProjectionConfig, ProjectionKind
from lhuc_asr.conditioning.statistics import StatisticsConfig, VoiceStatistics
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.conditioning.warping import WarpedFeatures
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.cmvn import CmvnMode, CmvnStats
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind

ALL = StatisticsConfig(quantiles=[0.1, 0.5])


def describer(shrink_frames: float = 0.0) -> VoiceDescriber:
    statistics = VoiceStatistics(ALL, FEATURES)
    identity = Projection(np.zeros(statistics.dim), np.eye(statistics.dim))
    return VoiceDescriber({"statistics": statistics}, {"statistics": identity}, shrink_frames)


def test_statistics_are_those_of_numpy() -> None:
    feats = toy_feats(0, 200)
    found = VoiceStatistics(StatisticsConfig(quantiles=[0.25], loud_share=0.3), FEATURES)(feats)
    loud = feats[np.argsort(-feats.mean(axis=1))[:60]].astype(np.float64)
    expected = [loud.mean(0) - loud.mean(), np.log(loud.std(0)), np.quantile(loud, 0.25, axis=0) - loud.mean()]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-5)


@given(st.floats(-5, 5), st.integers(0, 100), st.integers(20, 60))
def test_neither_level_nor_order_of_the_frames_shows(level: float, seed: int, num_frames: int) -> None:
    statistics, feats = VoiceStatistics(ALL, FEATURES), toy_feats(seed, num_frames)
    shuffled = np.random.default_rng(seed).permutation(feats) + np.float32(level)
    np.testing.assert_allclose(statistics(shuffled), statistics(feats), atol=2e-3)


def test_deltas_do_not_count_and_cepstra_keep_their_level() -> None:
    with_deltas = FeatureConfig(sampling_rate=8000, fbank=FEATURES.fbank, delta_order=1)
    feats = toy_feats(0, 50)
    doubled = np.concatenate([feats, toy_feats(1, 50)], axis=1)
    assert np.array_equal(VoiceStatistics(ALL, with_deltas)(doubled), VoiceStatistics(ALL, FEATURES)(feats))
    cepstra = VoiceStatistics(ALL, FeatureConfig(kind=FeatureKind.mfcc))
    assert not np.allclose(cepstra(toy_feats(0, 50, dim=13)), cepstra(toy_feats(0, 50, dim=13) + 1))


@pytest.mark.parametrize("bad", [np.zeros((0, DIM), np.float32), np.full((3, DIM), np.nan, np.float32)])
def test_nothing_can_be_said_of_no_voice(bad: NDArray[np.float32]) -> None:
    with pytest.raises(DataError, match="frames that are there and finite"):
        VoiceStatistics(ALL, FEATURES)(bad)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mean": False, "deviation": False}, "at least one of mean, deviation and quantiles"),
        ({"quantiles": [1.5]}, "between 0 and 1, got"),
        ({"loud_share": 0.0}, "above 0 and at most 1, got 0.0"),
    ],
)
def test_statistics_that_say_nothing_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        StatisticsConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [ProjectionKind.standard, ProjectionKind.pca, ProjectionKind.lda])
def test_training_vectors_come_out_with_mean_0_and_variance_1(kind: ProjectionKind) -> None:
    rng = np.random.default_rng(0)
    speakers = [f"s{number % 7}" for number in range(70)]
    vectors = rng.normal(size=(70, 5)) * [1, 10, 0.1, 1, 1] + 3 + np.arange(70)[:, None] % 7
    vectors[:, 4] = 2.0  # tells nothing
    projection = Projection.fit(vectors, speakers, ProjectionConfig(kind=kind, num_dims=3))
    projected = projection.apply(vectors)
    assert projected.shape == (70, 5 if kind is ProjectionKind.standard else 3) == (70, projection.num_dims)
    np.testing.assert_allclose(projected.mean(0), 0, atol=1e-4)
    told = projected.std(0) if kind is not ProjectionKind.standard else projected[:, :4].std(0)
    np.testing.assert_allclose(told, 1, rtol=1e-3)
    again = Projection.from_tensors(projection.tensors())
    assert np.array_equal(again.apply(vectors), projected)


def test_lda_looks_where_speakers_differ_and_not_where_utterances_do() -> None:
    rng = np.random.default_rng(1)
    speakers = np.repeat(np.arange(30), 20)
    vectors = np.stack([rng.normal(size=30)[speakers], 50 * rng.normal(size=600)], axis=1)
    vectors[:, 0] += 0.3 * rng.normal(size=600)
    turned = vectors @ np.array([[0.6, 0.8], [-0.8, 0.6]])
    found = Projection.fit(turned, [str(s) for s in speakers], ProjectionConfig(num_dims=1, shrinkage=0.0))
    assert abs(np.corrcoef(found.apply(turned)[:, 0], vectors[:, 0])[0, 1]) > 0.9


def test_few_speakers_fill_few_directions() -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 6))
    found = Projection.fit(vectors, ["a", "b", "c"] * 4, ProjectionConfig(num_dims=5))
    assert found.num_dims == 2
    for kind, speakers in ((ProjectionKind.lda, ["a"] * 12), (ProjectionKind.pca, ["a"])):
        with pytest.raises(DataError, match="two are needed"):
            Projection.fit(vectors[: len(speakers)], speakers, ProjectionConfig(kind=kind))
    with pytest.raises(DataError, match="alike"):
        Projection.fit(np.ones((4, 2)), ["a", "a", "b", "b"], ProjectionConfig())


@pytest.mark.parametrize("mode", CmvnMode)
def test_a_warp_of_1_changes_nothing(mode: CmvnMode, tmp_path: Path) -> None:
    speech = toy_speech(tmp_path, mode=mode)
    warped = WarpedFeatures(speech.feats, speech.manifest.speaker_of, FEATURES)
    for name, feats in speech.feats.items():
        raw = warped.raw(name, 1.0)
        np.testing.assert_allclose(raw, speech.feats.raw[name], atol=1e-5)
        np.testing.assert_allclose(warped.normalised(raw, name, 1.0), feats, atol=1e-3)


def test_a_warped_speaker_is_normalised_by_all_of_the_warped_speech(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path)
    warped = WarpedFeatures(speech.feats, speech.manifest.speaker_of, FEATURES)
    own = [warped.raw(name, 1.2) for name in ("s1-0", "s1-1", "s1-2")]
    expected = CmvnStats.of(own).apply(own[0])
    np.testing.assert_allclose(warped.normalised(own[0], "s1-0", 1.2), expected, atol=1e-3)
    assert not np.allclose(own[0], speech.feats.raw["s1-0"], atol=0.1)


@pytest.mark.parametrize("mode", [CmvnMode.utterance, CmvnMode.none])
def test_models_for_streams_get_warped_utterances_as_they_want_them(mode: CmvnMode, tmp_path: Path) -> None:
    speech = toy_speech(tmp_path, mode=mode)
    voice = TrainingVoices(speech, FEATURES, list(speech.feats), warp=0.3).voice("s1-0", 2)
    assert not np.allclose(voice.raw, speech.feats.raw["s1-0"], atol=0.1)
    expected = voice.raw if mode is CmvnMode.none else CmvnStats.of([voice.raw]).apply(voice.raw)
    assert np.array_equal(voice.feats, expected)


def test_cepstra_cannot_be_warped(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path)
    with pytest.raises(ConfigError, match=r"the model has mfcc: set condition.warp=0"):
        WarpedFeatures(speech.feats, speech.manifest.speaker_of, FeatureConfig(kind=FeatureKind.mfcc))


def test_an_epoch_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path)
    names = list(speech.feats)

    def heard(seed: int, epoch: int) -> tuple[list[str], NDArray[np.float32]]:
        voices = TrainingVoices(speech, FEATURES, names, warp=0.2, frames_per_epoch=100, seed=seed)
        return voices.chosen(epoch), voices.voice("s0-1", epoch).raw

    chosen, raw = heard(3, 1)
    assert heard(3, 1)[0] == chosen and np.array_equal(heard(3, 1)[1], raw)
    assert len(set(chosen)) == len(chosen) < len(names)
    num_frames = [speech.num_frames[name] for name in chosen]
    assert sum(num_frames[:-1]) < 100 <= sum(num_frames)
    for seed, epoch in ((3, 2), (4, 1)):
        others, other = heard(seed, epoch)
        assert others != chosen and not np.allclose(other, raw, atol=1e-3)


def test_all_utterances_of_a_speaker_have_one_vocal_tract_in_an_epoch(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path)
    voices = TrainingVoices(speech, FEATURES, list(speech.feats), warp=0.2)
    factors = {name: voices.factor(name, 0) for name in speech.feats}
    assert factors["s0-0"] == factors["s0-1"] != factors["s1-0"]
    assert all(0.8 <= factor <= 1.2 for factor in factors.values())
    assert voices.voice("s0-0", 0).speaker == voices.voice("s0-1", 0).speaker != voices.voice("s0-0", 1).speaker


def test_descriptions_of_training_voices_tell_speakers_apart(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path, num_speakers=6)
    voices = TrainingVoices(speech, FEATURES, list(speech.feats))
    listeners = {"statistics": VoiceStatistics(StatisticsConfig(), FEATURES)}
    describe = learn_describer(
        listeners, (voices.voice(name, 0) for name in speech.feats), ProjectionConfig(num_dims=4), shrink_frames=0
    )
    assert describe.parts == {"statistics": 4}
    mine, again, other = (describe(toy_feats(speaker, length)) for speaker, length in ((2, 90), (2, 91), (3, 90)))
    assert np.linalg.norm(mine - again) < 0.5 * np.linalg.norm(mine - other)


def test_the_less_is_heard_the_nearer_to_the_average_voice() -> None:
    feats = toy_feats(0, 60)
    plain, drawn = describer()(feats), describer(shrink_frames=20)(feats)
    np.testing.assert_allclose(drawn, plain * 60 / 80, rtol=1e-5)


@given(st.integers(1, 50), st.integers(1, 30), st.integers(5, 100))
def test_a_causal_description_knows_what_came_before_and_no_more(length: int, every: int, max_frames: int) -> None:
    describe, feats = describer(shrink_frames=5), toy_feats(7, length)
    z = causal_z(describe, feats, every=every, max_frames=max_frames)
    assert z.shape == (length, describe.parts["statistics"])
    for frame in range(length):
        end = frame // every * every
        expected = np.zeros_like(z[0]) if not end else describe(feats[max(0, end - max_frames) : end], num_frames=end)
        np.testing.assert_allclose(z[frame], expected, atol=1e-5)


def test_at_the_end_of_a_stream_as_much_is_known_as_of_the_whole_utterance() -> None:
    describe, feats = describer(shrink_frames=5), toy_feats(1, 80)
    running = RunningDescription(describe, max_frames=1000)
    for piece in np.split(feats, [3, 50]):
        running.hear(piece)
    assert np.array_equal(running.z(), describe(feats))
