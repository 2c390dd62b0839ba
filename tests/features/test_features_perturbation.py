"""A perturbed corpus is what its settings say, and depends on seed and ids alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal
from torchaudio.compliance import kaldi

from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.extraction import extract
from lhuc_asr.features.fbank import FbankConfig
from lhuc_asr.features.noise import NoiseConfig, NoiseKind, NoiseSource, Talkers, add_noise, pink_noise
from lhuc_asr.features.perturbation import PerturbationConfig, PerturbedCorpus
from lhuc_asr.features.pipeline import FeatureConfig, FeatureKind, compute_feats
from lhuc_asr.features.reverberation import ReverberationConfig, Rooms, reverberate, simulated_response
from lhuc_asr.features.speed import changed_level, changed_speed
from lhuc_asr.features.vocal_tract import warped_feats
from lhuc_asr.parallel import map_in_processes

RATE = 16000
Samples = NDArray[np.float32]
IDS = {"anna-1": "anna", "anna-2": "anna", "bo-1": "bo", "cy-1": "cy"}
EVERYTHING = PerturbationConfig(
    speeds=[0.9, 1.0, 1.1],
    num_copies=2,
    level_db=6,
    warp=0.1,
    reverberation=ReverberationConfig(share=0.5),
    noise=NoiseConfig(share=0.8, num_talkers=2),
)
SPEEDS = PerturbationConfig(speeds=[0.9, 1.0, 1.1])


def tone(frequency: float, num_samples: int = RATE) -> Samples:
    return (0.3 * np.sin(2 * np.pi * frequency / RATE * np.arange(num_samples))).astype(np.float32)


def speech(utterance: str) -> Samples:
    random = np.random.default_rng(sum(map(ord, utterance)))
    return (0.1 * random.standard_normal(3000 + 500 * len(utterance))).astype(np.float32)


def manifest(order: int = 1) -> Manifest:
    names = list(IDS)[::order]
    return Manifest(tuple(Utterance(name, Recording(name, name), IDS[name], transcript=name) for name in names))


def corpus(config: PerturbationConfig = EVERYTHING, order: int = 1, **more: Any) -> PerturbedCorpus:
    return PerturbedCorpus(manifest(order), speech, config, sampling_rate=RATE, **more)


def power(samples: NDArray[Any]) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def pitch(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


@pytest.mark.parametrize(("factor", "length"), [(0.9, 17778), (1.0, 16000), (1.1, 14546), (1.15, 13914)])
def test_speed_moves_length_and_pitch_together(factor: float, length: int) -> None:
    changed = changed_speed(tone(1000), factor)
    assert len(changed) == length
    assert pitch(changed) == pytest.approx(1000 * factor, abs=2)
    assert power(changed[500:-500]) == pytest.approx(power(tone(1000)), rel=0.01)


def test_speed_agrees_with_an_independent_resampler() -> None:
    slow = np.sin(np.cumsum(np.linspace(0.01, 0.6, RATE))).astype(np.float32)
    expected = signal.resample_poly(slow.astype(np.float64), 10, 9, window=("kaiser", 12.0))
    np.testing.assert_allclose(changed_speed(slow, 0.9)[300:-300], expected[300:-300], atol=0.01)


def test_level_changes_by_decibels() -> None:
    louder = changed_level(tone(300), 20.0)
    np.testing.assert_allclose(louder, 10 * tone(300), rtol=1e-6)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 13.3, 40.0])
@pytest.mark.parametrize("kind", [NoiseKind.white, NoiseKind.pink, NoiseKind.babble])
def test_noise_has_the_ratio_that_was_asked_for(snr_db: float, kind: NoiseKind) -> None:
    source = NoiseSource(NoiseConfig(kinds=[kind]), sampling_rate=RATE, talkers=Talkers(IDS, speech))
    mixed = add_noise(tone(440), source.draw(np.random.default_rng(3), RATE, speaker="anna"), snr_db)
    noise = mixed.astype(np.float64) - tone(440)
    assert 10 * np.log10(power(tone(440)) / power(noise)) == pytest.approx(snr_db, abs=0.1)


def test_pink_noise_has_the_same_power_in_every_octave() -> None:
    noise = pink_noise(np.random.default_rng(0), 1 << 18)
    assert power(noise) == pytest.approx(1, rel=1e-5)
    frequencies, density = signal.welch(noise, fs=RATE, nperseg=4096)
    octaves = [(100 * 2**k, 200 * 2**k) for k in range(6)]
    powers = [density[(low <= frequencies) & (frequencies < high)].sum() for low, high in octaves]
    assert max(powers) / min(powers) < 1.3


def test_silence_stays_silence() -> None:
    silent = np.zeros(100, dtype=np.float32)
    assert add_noise(silent, tone(100, 100), 10) is silent
    np.testing.assert_array_equal(reverberate(silent, np.array([1, 0.5], dtype=np.float32)), silent)


def test_nobody_babbles_behind_themselves() -> None:
    asked: list[str] = []

    def read(utterance: str) -> Samples:
        asked.append(utterance)
        return speech(utterance)

    config = PerturbationConfig(num_copies=5, noise=NoiseConfig(share=1, kinds=[NoiseKind.babble], num_talkers=2))
    babbled = PerturbedCorpus(manifest(), read, config, sampling_rate=RATE)
    for copy in range(1, 6):
        asked.clear()
        babbled.samples(f"aug{copy}-anna-1")
        assert asked[0] == "anna-1" and set(asked[1:]) == {"bo-1", "cy-1"}
    alone = Manifest(tuple(manifest().of_speaker("anna")))
    with pytest.raises(DataError, match="two speakers"):
        PerturbedCorpus(alone, read, config, sampling_rate=RATE)


def test_the_users_noises_are_repeated_and_cut(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_audio(tmp_path / "deep" / "hum.wav", tone(50, 400), RATE)
    config = NoiseConfig(kinds=[NoiseKind.files], folder=str(tmp_path))
    source = NoiseSource(config, sampling_rate=RATE)
    for length in (100, 400, 5000):
        noise = source.draw(np.random.default_rng(length), length, speaker="anna")
        assert len(noise) == length and 0.2 < np.abs(noise).max() < 0.31


def test_folders_without_noise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no noises"):
        NoiseSource(NoiseConfig(kinds=[NoiseKind.files], folder=str(tmp_path)), sampling_rate=RATE)
    with pytest.raises(DataError, match="does not exist"):
        NoiseSource(NoiseConfig(kinds=[NoiseKind.files], folder=str(tmp_path / "no")), sampling_rate=RATE)
    write_audio(tmp_path / "nothing.wav", np.zeros(100, dtype=np.float32), RATE)
    silent = NoiseSource(NoiseConfig(kinds=[NoiseKind.files], folder=str(tmp_path)), sampling_rate=RATE)
    with pytest.raises(DataError, match=r"nothing.wav.*silent"):
        silent.draw(np.random.default_rng(0), 100, speaker="anna")


@pytest.mark.parametrize(("rt60", "drr_db"), [(0.2, 0.0), (0.5, 6.0), (1.0, -3.0)])
def test_a_simulated_room_has_its_decay_and_its_direct_path(rt60: float, drr_db: float) -> None:
    response = simulated_response(np.random.default_rng(1), RATE, rt60=rt60, drr_db=drr_db).astype(np.float64)
    assert response[0] == 1 and len(response) == round(rt60 * RATE)
    assert -10 * np.log10(np.square(response[1:]).sum()) == pytest.approx(drr_db, abs=0.01)
    left = np.cumsum(np.square(response[1:])[::-1])[::-1]  # Schroeder's backward integration
    decay_db = 10 * np.log10(left / left[0])
    five, twenty_five = (int(np.argmax(decay_db < -level)) for level in (5, 25))
    assert 3 * (twenty_five - five) / RATE == pytest.approx(rt60, rel=0.1)


@pytest.mark.parametrize("delay", [0, 1, 137])
def test_the_direct_path_stays_in_its_place(delay: int) -> None:
    response = np.concatenate([np.zeros(delay), simulated_response(np.random.default_rng(2), RATE, rt60=0.3, drr_db=6)])
    said = np.zeros(4000, dtype=np.float32)
    said[1000] = 0.5
    heard = reverberate(said, response.astype(np.float32))
    assert len(heard) == len(said) and np.abs(heard).argmax() == 1000
    assert np.abs(heard[:1000]).max() < 1e-6
    assert power(heard) == pytest.approx(power(said), rel=1e-4)


def test_reverberation_is_a_convolution() -> None:
    said, response = speech("anna-1"), np.array([0.2, 1.0, -0.4, 0.1], dtype=np.float32)
    expected = signal.convolve(said.astype(np.float64), response)[1 : 1 + len(said)]
    expected *= np.sqrt(power(said) / power(expected))
    np.testing.assert_allclose(reverberate(said, response), expected, atol=1e-6)


def test_the_users_rooms_are_used(tmp_path: Path) -> None:
    write_audio(tmp_path / "hall.wav", np.array([0, 0.9, 0.3], dtype=np.float32), RATE)
    drawn = Rooms(ReverberationConfig(folder=str(tmp_path)), sampling_rate=RATE).draw(np.random.default_rng(0))
    np.testing.assert_allclose(drawn, [0, 0.9, 0.3], atol=1e-4)


@pytest.mark.parametrize("warp", [0.85, 0.93, 1.1])
def test_a_warped_filterbank_hears_a_tone_at_another_frequency(warp: float) -> None:
    config = FeatureConfig(fbank=FbankConfig(num_mel_bins=80))
    heard = warped_feats(tone(1000), config, warp)[20:80].mean(0)
    expected = compute_feats(tone(1000 * warp), config)[20:80].mean(0)
    assert abs(int(heard.argmax()) - int(expected.argmax())) <= 1
    assert int(heard.argmax()) != int(compute_feats(tone(1000), config)[20:80].mean(0).argmax())


def warped_hertz(hertz: NDArray[np.float64], warp: float) -> NDArray[np.float64]:
    """Where Kaldi puts a filter's edge or centre, for a band of 20 to 8000 Hz: three straight lines."""
    low, high = 100 * max(1.0, warp), 7500 * min(1.0, warp)
    return np.interp(hertz, [20, low, high, 8000], [20, low / warp, high / warp, 8000])


@pytest.mark.parametrize("warp", [0.9, 1.1])
def test_warped_filters_are_kaldis(warp: float) -> None:
    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127 * np.log1p(hertz / 700)

    said = speech("anna-1")
    wave = torch.from_numpy(said * 32768)[None]
    power_TK = kaldi.spectrogram(wave, dither=0.0, snip_edges=False).double().exp().numpy()[:, 1:256]
    places = np.linspace(mel(np.array(20.0)), mel(np.array(8000.0)), 42)
    points = mel(warped_hertz(700 * np.expm1(places / 1127), warp))
    bins = mel(np.arange(1, 256) * RATE / 512)
    weights = [np.interp(bins, points[m : m + 3], [0, 1, 0]) for m in range(40)]
    expected = np.log(power_TK @ np.stack(weights, 1))
    np.testing.assert_allclose(warped_feats(said, FeatureConfig(), warp), expected, atol=2e-3)


@pytest.mark.parametrize("kind", list(FeatureKind))
def test_no_warp_is_no_change(kind: FeatureKind) -> None:
    config = FeatureConfig(kind=kind, delta_order=1)
    given = speech("anna-1")
    np.testing.assert_array_equal(warped_feats(given, config, 1.0), compute_feats(given, config))
    nearly = warped_feats(given, config, 1.0 + 1e-6)
    np.testing.assert_allclose(nearly, compute_feats(given, config), atol=0.05)
    assert warped_feats(given, config, 1.1).shape == compute_feats(given, config).shape


def test_warps_work_at_other_rates_and_bands() -> None:
    narrow = FeatureConfig(sampling_rate=8000, fbank=FbankConfig(low_freq=150, high_freq=-400))
    assert np.isfinite(warped_feats(speech("anna-1"), narrow, 0.85)).all()
    with pytest.raises(ConfigError, match="too narrow"):
        warped_feats(speech("a"), FeatureConfig(fbank=FbankConfig(num_mel_bins=8, high_freq=900)), 1.1)
    with pytest.raises(ConfigError, match=r"above 0.5"):
        warped_feats(speech("a"), FeatureConfig(), 2.5)


def test_ids_and_speakers_are_kaldis() -> None:
    found = {utterance.id: utterance for utterance in corpus().manifest}
    assert len(found) == 4 * 3 * 3
    assert found["sp0.9-anna-1"].speaker == "sp0.9-anna" and found["anna-1"].speaker == "anna"
    assert found["aug2-sp1.1-bo-1"].speaker == "aug2-sp1.1-bo"
    assert found["aug2-sp1.1-bo-1"].transcript == "bo-1"
    assert list(found) == sorted(found)


def test_copies_are_aligned_like_the_plain_utterance_of_their_speed() -> None:
    perturbed = corpus()
    assert perturbed.perturbed["aug2-sp1.1-bo-1"].plain == "sp1.1-bo-1"
    for one in perturbed.perturbed.values():
        assert len(perturbed.samples(one.utterance.id)) == len(perturbed.samples(one.plain))


def test_a_perturbed_corpus_is_extracted_once(tmp_path: Path) -> None:
    perturbed, config = corpus(), FeatureConfig()
    names = [utterance.id for utterance in perturbed.manifest]
    store = extract(names, perturbed.samples, config, tmp_path, source_key=perturbed.key)
    assert list(store) == names
    np.testing.assert_array_equal(store["sp0.9-bo-1"], perturbed.feats("sp0.9-bo-1", config))
    written = (tmp_path / "feats.ark").stat().st_mtime_ns
    extract(names, perturbed.samples, config, tmp_path, source_key=perturbed.key)
    assert (tmp_path / "feats.ark").stat().st_mtime_ns == written
    extract(names, perturbed.samples, config, tmp_path, source_key=corpus(seed=9).key)
    assert (tmp_path / "feats.ark").stat().st_mtime_ns != written


def test_the_defaults_change_nothing() -> None:
    assert SPEEDS.is_active and PerturbationConfig(num_copies=1).is_active
    assert PerturbationConfig(speeds=[0.9]).is_active and not PerturbationConfig().is_active
    plain = corpus(PerturbationConfig())
    assert [one.id for one in plain.manifest] == sorted(IDS)
    np.testing.assert_array_equal(plain.samples("bo-1"), speech("bo-1"))
    assert plain.warp("bo-1") == 1.0


def test_copies_need_not_stand_beside_the_plain_ones() -> None:
    only = corpus(PerturbationConfig(num_copies=1, keep_plain=False, level_db=3))
    assert [one.id for one in only.manifest] == [f"aug1-{name}" for name in sorted(IDS)]


def test_order_and_number_of_jobs_change_nothing() -> None:
    forward, backward, config = corpus(), corpus(order=-1), FeatureConfig()
    names = [utterance.id for utterance in forward.manifest]
    assert names == [utterance.id for utterance in backward.manifest]
    alone = [forward.feats(name, config) for name in names]
    other = {name: backward.feats(name, config) for name in reversed(names)}
    forked = map_in_processes(lambda name: corpus().feats(name, config), names, num_jobs=2)
    for name, first, second in zip(names, alone, forked, strict=True):
        np.testing.assert_array_equal(first, other[name])
        np.testing.assert_array_equal(first, second)


def test_the_seed_changes_copies_and_nothing_else() -> None:
    one, other = corpus(seed=1), corpus(seed=2)
    for name in ("anna-1", "sp0.9-anna-1"):
        np.testing.assert_array_equal(one.samples(name), other.samples(name))
    assert not np.array_equal(one.samples("aug1-anna-1"), other.samples("aug1-anna-1"))
    assert not np.array_equal(one.samples("aug1-anna-1"), one.samples("aug2-anna-1"))
    assert one.warp("aug1-anna-1") != one.warp("aug2-anna-1")
    assert one.key != other.key
    assert corpus(SPEEDS, seed=1).key == corpus(SPEEDS, seed=2).key


def test_draws_do_not_disturb_each_other() -> None:
    quiet = PerturbationConfig(num_copies=1, reverberation=ReverberationConfig(share=1))
    loud = PerturbationConfig(num_copies=1, reverberation=ReverberationConfig(share=1), level_db=6)
    before, after = corpus(quiet).samples("aug1-bo-1"), corpus(loud).samples("aug1-bo-1")
    gains = after[np.abs(before) > 0.01] / before[np.abs(before) > 0.01]
    np.testing.assert_allclose(gains, gains[0], rtol=1e-4)
    assert 0.5 <= gains[0] <= 2 and gains[0] != 1


def test_a_corpus_is_not_perturbed_twice() -> None:
    with pytest.raises(DataError, match="perturbed before"):
        PerturbedCorpus(
            Manifest((*manifest(), Utterance("sp0.9-bo-1", Recording("x", "x"), "sp0.9-bo"))),
            speech,
            PerturbationConfig(speeds=[0.9, 1.0]),
            sampling_rate=RATE,
        )


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (PerturbationConfig, {"speeds": []}),
        (PerturbationConfig, {"speeds": [1.0, 1.0]}),
        (PerturbationConfig, {"speeds": [0.333]}),
        (PerturbationConfig, {"speeds": [3.0]}),
        (PerturbationConfig, {"num_copies": -1}),
        (PerturbationConfig, {"keep_plain": False}),
        (PerturbationConfig, {"warp": 0.5}),
        (PerturbationConfig, {"level_db": -1}),
        (PerturbationConfig, {"level_db": 3}),
        (PerturbationConfig, {"warp": 0.1}),
        (PerturbationConfig, {"noise": NoiseConfig(share=1)}),
        (PerturbationConfig, {"reverberation": ReverberationConfig(share=1)}),
        (NoiseConfig, {"share": 1.5}),
        (NoiseConfig, {"min_snr_db": 30}),
        (NoiseConfig, {"kinds": []}),
        (NoiseConfig, {"kinds": [NoiseKind.files]}),
        (NoiseConfig, {"num_talkers": 0}),
        (ReverberationConfig, {"share": -1}),
        (ReverberationConfig, {"min_rt60": 1.0}),
        (ReverberationConfig, {"min_drr_db": 20}),
    ],
)
def test_settings_that_cannot_work_are_refused(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        kind(**settings)
