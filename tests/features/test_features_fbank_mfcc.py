"""Filterbanks and MFCCs have Kaldi's numbers; kaldi-native-fbank is the independent witness."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.fbank import FbankConfig, fbank
from lhuc_asr.features.mfcc import MfccConfig, mfcc
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind, compute_feats
from lhuc_asr.features.plp import PlpConfig
from lhuc_asr.units import samples_to_frames


def noise(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def chirp_with_tones(num_samples: int, sampling_rate: int) -> NDArray[np.float32]:
    time = np.arange(num_samples) / sampling_rate
    # The noise is as strong as in a recording. In bins 60 dB below their neighbours, float32 decides the third decimal:
    # there kaldi-native-fbank is itself 0.002 from what float64 gives.
    wave = 0.3 * np.sin(2 * np.pi * (100 + 700 * time) * time) + 0.2 * np.sin(2 * np.pi * 440 * time)
    return (wave + 0.02 * np.random.default_rng(1).standard_normal(num_samples)).astype(np.float32)


def kaldi_frames(computer: object) -> NDArray[np.float32]:
    return np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])  # type: ignore[attr-defined]


def kaldi_fbank(samples: NDArray[np.float32], sampling_rate: int, config: FbankConfig) -> NDArray[np.float32]:
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = sampling_rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.frame_opts.frame_length_ms = config.frame_length_ms
    options.frame_opts.frame_shift_ms = config.frame_shift_ms
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq = config.low_freq
    options.mel_opts.high_freq = config.high_freq
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(sampling_rate, (samples * 32768).tolist())
    computer.input_finished()
    return kaldi_frames(computer)


def kaldi_mfcc(samples: NDArray[np.float32], sampling_rate: int, config: MfccConfig) -> NDArray[np.float32]:
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = sampling_rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq = config.low_freq
    options.mel_opts.high_freq = config.high_freq
    options.num_ceps = config.num_ceps
    options.use_energy = config.use_energy
    computer = knf.OnlineMfcc(options)
    computer.accept_waveform(sampling_rate, (samples * 32768).tolist())
    computer.input_finished()
    return kaldi_frames(computer)


WAVES = [
    pytest.param(noise(16000), 16000, id="noise"),
    pytest.param(chirp_with_tones(23456, 16000), 16000, id="tones"),
    pytest.param(chirp_with_tones(8011, 8000), 8000, id="tones at 8 kHz"),
    pytest.param(noise(400), 16000, id="one window"),
]


@pytest.mark.parametrize(("samples", "sampling_rate"), WAVES)
@pytest.mark.parametrize("num_mel_bins", [40, 80])
def test_fbank_equals_kaldi(samples: NDArray[np.float32], sampling_rate: int, num_mel_bins: int) -> None:
    low_freq = 20.0 if sampling_rate == 16000 or num_mel_bins == 40 else 100.0
    config = FbankConfig(num_mel_bins=num_mel_bins, low_freq=low_freq)
    found, wanted = fbank(samples, sampling_rate, config), kaldi_fbank(samples, sampling_rate, config)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape == (samples_to_frames(len(samples), sampling_rate), num_mel_bins)
    assert np.abs(found - wanted).max() < 1e-3


def test_fbank_equals_kaldi_with_other_settings() -> None:
    config = FbankConfig(num_mel_bins=24, frame_length_ms=32.0, frame_shift_ms=8.0, low_freq=60.0, high_freq=-400.0)
    samples = chirp_with_tones(12345, 16000)
    assert np.abs(fbank(samples, 16000, config) - kaldi_fbank(samples, 16000, config)).max() < 1e-3


@pytest.mark.parametrize(("samples", "sampling_rate"), WAVES)
@pytest.mark.parametrize("use_energy", [False, True])
def test_mfcc_equals_kaldi(samples: NDArray[np.float32], sampling_rate: int, use_energy: bool) -> None:
    config = MfccConfig(use_energy=use_energy)
    found, wanted = mfcc(samples, sampling_rate, config), kaldi_mfcc(samples, sampling_rate, config)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-3


def test_high_resolution_mfcc_equals_kaldi() -> None:
    config = MfccConfig(num_ceps=40, num_mel_bins=40, low_freq=20.0, high_freq=-400.0)
    samples = noise(8000, seed=3)
    found, wanted = mfcc(samples, 16000, config), kaldi_mfcc(samples, 16000, config)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_digital_silence_gives_finite_features() -> None:
    silence = np.zeros(1600, dtype=np.float32)
    assert np.isfinite(fbank(silence, 16000)).all()
    assert np.isfinite(mfcc(silence, 16000)).all()
    assert np.isfinite(mfcc(silence, 16000, MfccConfig(use_energy=True))).all()


@settings(max_examples=30, deadline=None)
@given(num_samples=st.integers(400, 6000))
def test_one_frame_per_shift(num_samples: int) -> None:
    config = FeatureConfig(delta_order=1)
    feats = compute_feats(noise(num_samples), config)
    assert feats.shape == (samples_to_frames(num_samples, 16000), config.dim)


def test_samples_are_not_changed() -> None:
    samples = noise(1600)
    before = samples.copy()
    fbank(samples, 16000)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("kind", list(FeatureKind))
@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (np.zeros(0, dtype=np.float32), "0 samples .* too short: one frame needs 400"),
        (np.zeros(399, dtype=np.float32), "399 samples .* too short"),
        (np.full(1600, np.nan, dtype=np.float32), "1600 of 1600 samples are not finite"),
        (np.r_[np.zeros(999), np.inf, np.zeros(9)].astype(np.float32), "the first is number 999"),
        (np.zeros((1600, 2), dtype=np.float32), "one dimension"),
    ],
)
def test_unusable_audio_is_refused(kind: FeatureKind, samples: NDArray[np.float32], text: str) -> None:
    with pytest.raises(DataError, match=text):
        compute_feats(samples, FeatureConfig(kind=kind))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FbankConfig(num_mel_bins=2),
        lambda: FbankConfig(frame_shift_ms=0.0),
        lambda: FbankConfig(frame_shift_ms=30.0),
        lambda: FbankConfig(low_freq=-1.0),
        lambda: FbankConfig(low_freq=300.0, high_freq=200.0),
        lambda: MfccConfig(num_ceps=24),
        lambda: MfccConfig(num_mel_bins=1, num_ceps=1),
        lambda: FeatureConfig(sampling_rate=100),
        lambda: FeatureConfig(delta_order=-1),
        lambda: FeatureConfig(sampling_rate=8000, fbank=FbankConfig(high_freq=7000.0)),
        lambda: FeatureConfig(kind=FeatureKind.mfcc, mfcc=MfccConfig(high_freq=-8000.0)),
        lambda: PlpConfig(lpc_order=11),
        lambda: PlpConfig(lpc_order=24),
        lambda: PlpConfig(num_ceps=0),
        lambda: FeatureConfig(kind=FeatureKind.plp, plp=PlpConfig(high_freq=-8000.0)),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]
