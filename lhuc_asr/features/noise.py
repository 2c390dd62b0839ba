"""Noise at a drawn signal-to-noise ratio: white, pink, other people talking, or the user's recordings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lhuc_asr.data.audio import Samples
from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.sound_folder import SoundFolder
from lhuc_asr.ranges import require_at_least, require_share
from lhuc_asr.units import Decibels, Hertz

_LOG = logging.getLogger(__name__)


class NoiseKind(Enum):
    """What disturbs the speech."""

    white = "white"
    pink = "pink"
    babble = "babble"
    files = "files"


@dataclass(kw_only=True, slots=True)
class NoiseConfig:
    """Which noise, how often and how loud.

    Attributes:
        share: share of the utterances that get noise; 0 is none.
        kinds: one of these is drawn for each utterance, with equal chances.
        min_snr_db: the signal-to-noise ratio is drawn from here, in decibels,
        max_snr_db: up to here.
        num_talkers: people who speak in a babble.
        folder: the user's sound files, for the kind ``files``; empty is none.
    """

    share: float = 0.0
    kinds: list[NoiseKind] = field(default_factory=lambda: [NoiseKind.white, NoiseKind.pink, NoiseKind.babble])
    min_snr_db: float = 5.0
    max_snr_db: float = 20.0
    num_talkers: int = 4
    folder: str = ""

    def __post_init__(self) -> None:
        require_share(self, "perturbation.noise", "share")
        if self.min_snr_db > self.max_snr_db:
            raise ConfigError(
                "perturbation.noise.min_snr_db must not lie above max_snr_db, "
                f"got {self.min_snr_db} and {self.max_snr_db}"
            )
        require_at_least(1, self, "perturbation.noise", "num_talkers")
        if not self.kinds:
            possible = ", ".join(kind.name for kind in NoiseKind)
            raise ConfigError(f"perturbation.noise.kinds is empty; possible: {possible}")
        if NoiseKind.files in self.kinds and not self.folder:
            raise ConfigError(
                "perturbation.noise.kinds holds 'files', so noise.folder must name a folder of sound files"
            )


@dataclass(frozen=True)
class Talkers:
    """Whose utterances make a babble.

    Attributes:
        speaker_of: utterance id -> who said it.
        read: utterance id -> (N,) samples.
    """

    speaker_of: Mapping[str, str]
    read: Callable[[str], Samples]


class NoiseSource:
    """Draws noises of any length.

    Args:
        config: which kinds.
        sampling_rate: of the noises.
        talkers: for the kind ``babble``.

    Raises:
        DataError: the user's folder holds no sound files, or nobody can babble.

    Example:
        >>> source = NoiseSource(NoiseConfig(kinds=[NoiseKind.pink]), sampling_rate=16000)
        >>> source.draw(np.random.default_rng(1), 8000, speaker="anna").shape
        (8000,)
    """

    def __init__(self, config: NoiseConfig, *, sampling_rate: Hertz, talkers: Talkers | None = None) -> None:
        self.config, self.talkers = config, talkers
        wanted = NoiseKind.files in config.kinds
        self.folder = SoundFolder(Path(config.folder), "noises", sampling_rate) if wanted else None
        self._by_speaker: dict[str, list[str]] = {}
        if talkers is not None:
            for utterance in sorted(talkers.speaker_of):
                self._by_speaker.setdefault(talkers.speaker_of[utterance], []).append(utterance)
        if NoiseKind.babble in config.kinds and len(self._by_speaker) < 2:
            raise DataError("noise of the kind 'babble' needs utterances of at least two speakers")

    def draw(self, random: np.random.Generator, num_samples: int, *, speaker: str) -> Samples:
        """Draw a noise of one of the kinds.

        Args:
            random: decides everything.
            num_samples: N.
            speaker: who is disturbed, and therefore does not take part in the babble.

        Returns:
            (N,) float32, of any loudness.
        """
        kind = self.config.kinds[random.integers(len(self.config.kinds))]
        if kind is NoiseKind.white:
            return random.standard_normal(num_samples, dtype=np.float32)
        if kind is NoiseKind.pink:
            return pink_noise(random, num_samples)
        if kind is NoiseKind.files:
            assert self.folder is not None
            return fitted(self.folder.draw(random), num_samples, random)
        return self._babble(random, num_samples, speaker)

    def _babble(self, random: np.random.Generator, num_samples: int, speaker: str) -> Samples:
        """Several people at once, all equally loud."""
        assert self.talkers is not None
        others = [name for name in sorted(self._by_speaker) if name != speaker]
        heard = np.zeros(num_samples, dtype=np.float32)
        for who in random.choice(len(others), self.config.num_talkers, replace=len(others) < self.config.num_talkers):
            said = self._by_speaker[others[who]]
            speech = fitted(self.talkers.read(said[random.integers(len(said))]), num_samples, random)
            heard += speech / max(_rms(speech), 1e-8)
        return heard


def pink_noise(random: np.random.Generator, num_samples: int) -> Samples:
    """Noise with equal power in every octave: white noise whose amplitudes fall with the root of the frequency.

    Returns:
        (N,) float32 with mean power 1, without a constant part.
    """
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, num_samples)
    return (noise / max(_rms(noise), 1e-12)).astype(np.float32)


def fitted(samples: Samples, num_samples: int, random: np.random.Generator) -> Samples:
    """A stretch of that length, from a drawn place on; what is too short is repeated."""
    if len(samples) <= num_samples:
        start = int(random.integers(len(samples)))
        return np.resize(np.roll(samples, -start), num_samples)
    start = int(random.integers(len(samples) - num_samples + 1))
    return samples[start : start + num_samples]


def add_noise(samples: Samples, noise: Samples, snr_db: Decibels) -> Samples:
    """Speech with noise, mixed so that their mean powers have this ratio; the speech itself keeps its loudness.

    Args:
        samples: (N,) speech. Where all of it is 0 no ratio exists, and it comes back as it is.
        noise: (N,).
        snr_db: mean power of the speech over that of the noise, in decibels.

    Returns:
        (N,) float32; may leave [-1, 1].
    """
    if not samples.any() or not noise.any():
        _LOG.warning("%s is silent, so no noise was added", "the noise" if samples.any() else "an utterance")
        return samples
    mix = import_torchaudio("functional").add_noise
    mixed = mix(torch.from_numpy(samples).double(), torch.from_numpy(noise).double(), torch.tensor(float(snr_db)))
    result: Samples = mixed.float().numpy()
    return result


def _rms(samples: Sequence[float] | NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
