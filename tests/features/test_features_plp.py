"""PLPs are cepstra of an all-pole envelope; filters by kaldi-native-fbank, prediction by SciPy, cepstra by Fourier."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz

from lhuc_asr.features.framing import filter_centres
from lhuc_asr.features.mfcc import MfccConfig, mfcc
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind, compute_feats
from lhuc_asr.features.plp import PlpConfig, plp
from lhuc_asr.features.vocal_tract import warped_feats


def speechlike(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise, of which every frame has another loudness and colour."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(num_samples)
    coloured = noise + 0.9 * np.roll(noise, 1) * np.sin(np.arange(num_samples) / 3000)
    return (0.1 * coloured * (1 + np.sin(np.arange(num_samples) / 900))).astype(np.float32)


def mel_energies(samples: NDArray[np.float32], sampling_rate: int, config: PlpConfig) -> NDArray[np.float64]:
    """(T, M) of the power spectrum."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = sampling_rate, 0.0
    options.frame_opts.snip_edges = options.use_log_fbank = False
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq, options.mel_opts.high_freq = config.low_freq, config.high_freq
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(sampling_rate, (samples * 32768).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)]).astype(np.float64)


def centres(sampling_rate: int, config: PlpConfig) -> NDArray[np.float64]:
    """(M,) in hertz."""
    high = config.high_freq if config.high_freq > 0 else sampling_rate / 2 + config.high_freq
    low_mel, high_mel = (1127.0 * np.log(1 + freq / 700) for freq in (config.low_freq, high))
    step = (high_mel - low_mel) / (config.num_mel_bins + 1)
    return np.array([700 * (np.exp((low_mel + step * (m + 1)) / 1127) - 1) for m in range(config.num_mel_bins)])


def textbook_frame(power_M: NDArray[np.float64], hertz_M: NDArray[np.float64], config: PlpConfig) -> list[float]:
    """Hermansky 1990, one frame, sum by sum."""
    ear = (hertz_M**2 / (hertz_M**2 + 1.6e5)) ** 2 * (hertz_M**2 + 1.44e6) / (hertz_M**2 + 9.61e6)
    loud = np.cbrt(power_M * ear)
    spectrum = [loud[0], *loud, loud[-1]]
    last = len(spectrum) - 1
    correlation = [
        (
            spectrum[0]
            + 2 * sum(spectrum[j] * np.cos(np.pi * lag * j / last) for j in range(1, last))
            + spectrum[last] * np.cos(np.pi * lag)
        )
        / (2 * last)
        for lag in range(config.lpc_order + 1)
    ]
    lpc = solve_toeplitz(correlation[:-1], [-one for one in correlation[1:]])
    residual = correlation[0] + float(np.dot(lpc, correlation[1:]))
    envelope = -np.log(np.abs(np.fft.rfft([1.0, *lpc], 8192)))
    cepstra = [np.log(residual), *(2 * np.fft.irfft(envelope)[1 : config.num_ceps])]
    return [one * (1 + 11 * np.sin(np.pi * n / 22)) for n, one in enumerate(cepstra)]


@pytest.mark.parametrize(
    ("sampling_rate", "config"),
    [(16000, PlpConfig()), (8000, PlpConfig()), (16000, PlpConfig(num_ceps=9, lpc_order=16, high_freq=-400.0))],
)
def test_plp_is_the_textbooks(sampling_rate: int, config: PlpConfig) -> None:
    samples = speechlike(9000)
    hertz_M = centres(sampling_rate, config)
    wanted = [textbook_frame(power_M, hertz_M, config) for power_M in mel_energies(samples, sampling_rate, config)]
    np.testing.assert_allclose(plp(samples, sampling_rate, config), wanted, rtol=2e-3, atol=2e-3)


def test_louder_speech_differs_in_the_first_coefficient_alone() -> None:
    samples = speechlike(8000)
    loud, soft = plp(samples, 16000), plp(samples / 8, 16000)
    np.testing.assert_allclose(loud[:, 1:], soft[:, 1:], atol=1e-3)
    np.testing.assert_allclose(loud[:, 0] - soft[:, 0], 2 / 3 * np.log(8), atol=1e-4)


def test_the_energy_may_stand_first() -> None:
    samples = speechlike(8000)
    found = plp(samples, 16000, PlpConfig(use_energy=True))
    np.testing.assert_allclose(found[:, 0], mfcc(samples, 16000, MfccConfig(use_energy=True))[:, 0], atol=1e-5)
    np.testing.assert_array_equal(found[:, 1:], plp(samples, 16000)[:, 1:])


@settings(max_examples=30, deadline=None)
@given(scale=st.sampled_from([0.0, 1e-6, 1.0]), num_samples=st.integers(400, 4000), seed=st.integers(0, 9))
def test_whatever_is_heard_coefficients_are_finite(scale: float, num_samples: int, seed: int) -> None:
    samples = (scale * speechlike(num_samples, seed)).astype(np.float32)
    assert np.isfinite(plp(samples, 16000)).all() and np.isfinite(plp(samples, 16000, PlpConfig(use_energy=True))).all()


def test_other_vocal_tracts_change_plps_a_little() -> None:
    config = FeatureConfig(kind=FeatureKind.plp, delta_order=2)
    samples = speechlike(8000)
    plain, warped = compute_feats(samples, config), warped_feats(samples, config, 1.05)
    assert plain.shape == warped.shape == (50, 39)
    assert 0 < np.abs(plain - warped).mean() < 0.5 * plain.std()


def test_filters_of_other_vocal_tracts_are_as_loud_as_the_ear_hears_them_there() -> None:
    config = PlpConfig()
    plain, warped = filter_centres(config, 16000), filter_centres(config, 16000, vtln_warp=1.1, vtln_high=7500.0)
    np.testing.assert_allclose(plain, centres(16000, config), rtol=1e-4)
    inside = (plain > 200) & (plain < 5000)
    np.testing.assert_allclose(warped[inside], plain[inside] / 1.1, rtol=1e-3)
