"""Speech in simulated environments: which there are, how loud the noise is, and what a handset passes."""

from __future__ import annotations

import numpy as np
import pytest

from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.environments import (
    ChannelKind,
    Condition,
    Environment,
    EnvironmentConfig,
    EnvironmentCorpus,
    through_handset,
)
from lhuc_asr.features.noise import NoiseKind

RATE = 8000


def speech(name: str) -> np.ndarray:
    return np.random.default_rng(len(name)).normal(0, 0.1, 4000).astype(np.float32)


def corpus(**settings: object) -> EnvironmentCorpus:
    said = [Utterance(f"{who}-{n}", Recording(f"{who}-{n}", "x.wav"), who) for who in ("ann", "ben") for n in range(2)]
    return EnvironmentCorpus(Manifest(tuple(said)), speech, EnvironmentConfig(**settings), sampling_rate=RATE)


def test_every_noise_is_heard_without_and_with_every_channel() -> None:
    config = EnvironmentConfig()
    names = [environment.name for environment in config.all]
    assert names[:4] == ["clean", "handset", "room", "white"] and len(set(names)) == 12
    found = {condition: [e for e in config.all if e.condition is condition] for condition in Condition}
    assert {condition.name: len(some) for condition, some in found.items()} == {
        "clean": 1, "noise": 3, "channel": 2, "both": 6,
    }  # fmt: skip


def test_a_speaker_in_an_environment_is_a_speaker_of_its_own() -> None:
    made = corpus(noises=[NoiseKind.pink], channels=[])
    assert made.manifest.speaker_of["pink-ann-0"] == "pink-ann"
    assert len(made.manifest) == 8
    heard = made.heard["pink-ann-0"]
    assert (heard.source, heard.speaker, heard.environment) == ("ann-0", "ann", Environment(NoiseKind.pink))


def test_clean_speech_is_left_as_it_is_and_any_order_gives_the_same() -> None:
    made = corpus()
    np.testing.assert_array_equal(made.samples("clean-ann-1"), speech("ann-1"))
    names = [name for name in made.heard if "ann-1" in name]
    forward = {name: made.samples(name) for name in names}
    again = corpus()
    for name in reversed(names):
        np.testing.assert_array_equal(again.samples(name), forward[name])
    assert len({samples.tobytes() for samples in forward.values()}) == len(names)


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0])
@pytest.mark.parametrize("kind", [NoiseKind.white, NoiseKind.pink, NoiseKind.babble])
def test_noise_has_the_ratio_that_was_asked_for(kind: NoiseKind, snr_db: float) -> None:
    made = corpus(noises=[kind], channels=[], min_snr_db=snr_db, max_snr_db=snr_db)
    clean = speech("ann-0").astype(np.float64)
    noise = made.samples(f"{kind.name}-ann-0") - clean
    assert 10 * np.log10((clean**2).mean() / (noise**2).mean()) == pytest.approx(snr_db, abs=0.01)


def test_a_handset_passes_its_band_and_delays_nothing() -> None:
    times = np.arange(RATE) / RATE

    def passed(hz: float) -> np.ndarray:
        return through_handset(np.sin(2 * np.pi * hz * times).astype(np.float32), RATE)

    np.testing.assert_allclose(passed(1000), np.sin(2 * np.pi * 1000 * times), atol=0.01)
    for hz in (300, 3400):
        assert 20 * np.log10(np.abs(passed(hz)).max()) == pytest.approx(-3, abs=0.1)
    assert 20 * np.log10(np.abs(passed(75)).max()) == pytest.approx(-24, abs=0.5)
    assert through_handset(np.zeros(5, np.float32), RATE).tolist() == [0.0] * 5


def test_some_environments_may_be_drawn_for_each_speaker() -> None:
    made = corpus(num_per_speaker=3)
    for who in ("ann", "ben"):
        own = {heard.utterance.speaker for heard in made.heard.values() if heard.speaker == who}
        assert len(own) == 3
    assert len(made.manifest) == 12
    assert list(corpus(num_per_speaker=3).heard) == list(made.heard)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"min_snr_db": 9.0, "max_snr_db": 8.0}, "must not lie above max_snr_db, got 9.0 and 8.0"),
        ({"num_per_speaker": 13}, "must be from 0 to 12"),
        ({"noises": [NoiseKind.files]}, "noise_folder must name a folder"),
        ({"channels": [ChannelKind.room], "min_rt60": 2.0}, "must lie in order"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        EnvironmentConfig(**wrong)
