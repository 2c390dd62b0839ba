"""A network that learns to tell speakers apart: how it learns, what it says of strangers, and how that is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.toy_voices import DIM, FEATURES, toy_feats, toy_speech
from lhuc_asr.conditioning.embedding import LevelledFeatures, VoiceEmbedding
from lhuc_asr.conditioning.embedding_training import EmbeddingTraining
from lhuc_asr.conditioning.speaker_network import EmbeddingConfig, SpeakerNetwork
from lhuc_asr.conditioning.speaker_task import SpeakerTask
from lhuc_asr.conditioning.verification import equal_error_rate, verify
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.system.training_speech import TrainingSpeech
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.optimiser import OptimiserConfig, OptimiserKind
from lhuc_asr.training.schedule.newbob import NewbobConfig

SMALL = EmbeddingConfig(
    hidden_dim=12,
    dilations=[1, 0],
    num_dims=6,
    chunk_seconds=0.3,
    num_chunks=8,
    training=TrainingConfig(
        optimiser=OptimiserConfig(kind=OptimiserKind.adam), newbob=NewbobConfig(initial_lr=0.02, max_epochs=6)
    ),
)


def network() -> SpeakerNetwork:
    return SpeakerNetwork(SMALL, DIM, 3, seed=1).eval()


def task(speech: TrainingSpeech, *, warp: float = 0.0) -> SpeakerTask:
    held_out = [name for name in speech.feats if name.endswith("-0")]
    voices = TrainingVoices(speech, FEATURES, [name for name in speech.feats if name not in held_out], warp=warp)
    return SpeakerTask(voices, held_out, LevelledFeatures(FEATURES), warp=warp, num_frames=30, num_chunks=4)


@given(st.integers(1, 30), st.floats(-5, 5))
def test_any_length_has_an_embedding_and_the_level_does_not_show(num_frames: int, level: float) -> None:
    embed, feats = VoiceEmbedding(network(), FEATURES), toy_feats(0, num_frames)
    assert embed(feats).shape == (6,) and np.isfinite(embed(feats)).all()
    np.testing.assert_allclose(embed(feats + np.float32(level)), embed(feats), atol=1e-3)


def test_mean_and_deviation_over_time_are_those_of_numpy() -> None:
    plain = SpeakerNetwork(EmbeddingConfig(hidden_dim=DIM, dilations=[0], num_dims=2 * DIM), DIM, 2).eval()
    with torch.no_grad():
        for weight, value in (
            (plain.layers[0].conv.weight, torch.eye(DIM)[:, :, None]),
            (plain.embedding.weight, torch.eye(2 * DIM)),
        ):
            weight.copy_(value)  # type: ignore[operator]
        plain.embedding.bias.zero_()
    feats = np.abs(toy_feats(0, 50)) + 1
    found = plain.embed(torch.from_numpy(feats)[None])[0].detach().numpy()
    scale = 1 / np.sqrt(1 + plain.layers[0].norm.eps)  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(found, np.concatenate([feats.mean(0), feats.std(0)]) * scale, rtol=1e-3)


def test_every_speaker_with_another_vocal_tract_is_another_one(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path, num_speakers=3)
    assert task(speech).num_outputs == 3 and task(speech, warp=0.2).num_outputs == 9
    batches = [batch for epoch in range(30) for batch in task(speech, warp=0.2).batches(epoch) if batch is not None]
    assert {int(speaker) for batch in batches for speaker in batch.speakers} == set(range(9))
    for batch in batches:
        assert batch.chunks.shape == (4, 30, DIM)
        assert [int(name[1]) for name in batch.utterances] == [int(number) % 3 for number in batch.speakers]


def test_a_run_that_is_taken_up_again_sees_the_same_stretches(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path, num_speakers=4, num_utterances=4)
    whole = [batch for batch in task(speech, warp=0.1).batches(3) if batch is not None]
    rest = [batch for batch in task(speech, warp=0.1).batches(3, start=1) if batch is not None]
    assert len(whole) == task(speech).num_batches(3) == 3
    assert all(torch.equal(one.chunks, other.chunks) for one, other in zip(rest, whole[1:], strict=True))


def test_it_learns_to_tell_apart_speakers_whom_it_has_not_met(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path / "speech", num_speakers=24, num_utterances=6)
    strangers = [name for name in speech.feats if name.startswith("s2")]
    mine = [name for name in speech.feats if name not in strangers]
    training = EmbeddingTraining(
        voices=TrainingVoices(speech, FEATURES, [name for name in mine if not name.endswith("-0")]),
        held_out=[name for name in mine if name.endswith("-0")],
        strangers=strangers,
        features=FEATURES,
        config=SMALL,
        warp=0.0,
        directory=tmp_path / "run",
    )
    listen, report = training.run()
    assert report.num_speakers == 19 and report.num_strangers == 5
    assert report.accuracy > 0.5 and report.verification is not None and report.verification.eer < 0.2
    assert "of 5 held-out speakers, equal error rate" in str(report)
    again, _ = training.run()
    assert np.array_equal(again(toy_feats(0, 40)), listen(toy_feats(0, 40)))


def test_too_few_speakers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 1 speakers with 2 utterances, and 1 to validate on"):
        task(toy_speech(tmp_path, num_speakers=1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_dim": 0}, r"hidden_dim must be at least 1, got 0"),
        ({"dilations": []}, r"dilations must name 0 or more frames each, got \[\]"),
        ({"num_chunks": 1}, r"num_chunks must be at least 2"),
        ({"chunk_seconds": 0.0}, r"chunk_seconds must be positive, got 0.0"),
    ],
)
def test_shapes_that_cannot_be_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EmbeddingConfig(**settings)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.lists(st.integers(0, 20), min_size=1, max_size=20))
def test_the_equal_error_rate_is_that_of_counting(same: list[int], different: list[int]) -> None:
    best = min(
        (
            (
                sum(score < threshold for score in same) / len(same),
                sum(score >= threshold for score in different) / len(different),
            )
            for threshold in [*sorted({*same, *different}), 99]
        ),
        key=lambda rates: abs(rates[0] - rates[1]),
    )
    found = equal_error_rate(np.array(same, float), np.array(different, float))
    assert abs(found - sum(best) / 2) < 1e-9


def test_utterances_without_pairs_cannot_be_compared() -> None:
    assert verify(np.eye(3), ["a", "b", "c"]) is None and verify(np.eye(2), ["a", "a"]) is None
