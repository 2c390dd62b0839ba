"""One corpus in many simulated environments: clean, in noise, through another channel, or both (the Aurora4 design).

A speaker in one environment counts as a speaker of his own, ``<environment>-<speaker>``, because features are
normalised for each. Training and test corpora differ in their signal-to-noise ratios, which are lower in the test.

Source: Aurora4's conditions A (clean), B (noise), C (channel), D (both), as used in Swietojanski, Li & Renals 2016,
section VII: 10 to 20 dB in training, 5 to 15 dB in the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import product

import numpy as np

from lhuc_asr.data.audio import Samples
from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.noise import NoiseConfig, NoiseKind, NoiseSource, Talkers, add_noise
from lhuc_asr.features.reverberation import ReverberationConfig, Rooms, reverberate
from lhuc_asr.features.streams import random_stream
from lhuc_asr.units import Hertz

HANDSET_BAND_HZ = (300.0, 3400.0)
"""The band of an analogue telephone line."""

CLEAN = "clean"


class ChannelKind(Enum):
    """Through what the speech is heard: a ``handset`` that passes 300 to 3400 Hz, or the echoes of a ``room``."""

    handset = "handset"
    room = "room"


class Condition(Enum):
    """What an environment has; Aurora4 calls them A, B, C and D."""

    clean = "clean"
    noise = "noise"
    channel = "channel"
    both = "both"


@dataclass(frozen=True, slots=True)
class Environment:
    """Where speech is heard.

    Attributes:
        noise: what disturbs it, if anything.
        channel: through what it is heard, if not by a close microphone.

    Example:
        >>> Environment(NoiseKind.babble, ChannelKind.room).name, Environment().name
        ('babble+room', 'clean')
    """

    noise: NoiseKind | None = None
    channel: ChannelKind | None = None

    @property
    def name(self) -> str:
        """Noise and channel, or ``clean``."""
        return "+".join(part.name for part in (self.noise, self.channel) if part is not None) or CLEAN

    @property
    def condition(self) -> Condition:
        """Which of the four."""
        if self.noise is None:
            return Condition.clean if self.channel is None else Condition.channel
        return Condition.noise if self.channel is None else Condition.both


@dataclass(kw_only=True, slots=True)
class EnvironmentConfig:
    """Which environments, and how loud the noise is.

    Attributes:
        noises: kinds of noise.
        channels: kinds of channels; every noise is heard without and with each.
        min_snr_db: the signal-to-noise ratio of each utterance is drawn from here, in decibels,
        max_snr_db: up to here.
        min_rt60: the time in which sound falls by 60 dB in a room is drawn from here, in seconds,
        max_rt60: up to here.
        num_per_speaker: environments that are drawn for each speaker; 0 takes all.
        noise_folder: sound files, for the noise ``files``.
    """

    noises: list[NoiseKind] = field(default_factory=lambda: [NoiseKind.white, NoiseKind.pink, NoiseKind.babble])
    channels: list[ChannelKind] = field(default_factory=lambda: [ChannelKind.handset, ChannelKind.room])
    min_snr_db: float = 10.0
    max_snr_db: float = 20.0
    min_rt60: float = 0.3
    max_rt60: float = 0.6
    num_per_speaker: int = 0
    noise_folder: str = ""

    def __post_init__(self) -> None:
        if self.min_snr_db > self.max_snr_db:
            raise ConfigError(
                f"environments.min_snr_db must not lie above max_snr_db, got {self.min_snr_db} and {self.max_snr_db}"
            )
        if not 0 <= self.num_per_speaker <= len(self.all):
            raise ConfigError(
                f"environments.num_per_speaker must be from 0 to {len(self.all)}, the number of environments, "
                f"got {self.num_per_speaker}"
            )
        if NoiseKind.files in self.noises and not self.noise_folder:
            raise ConfigError("environments.noises holds 'files', so environments.noise_folder must name a folder")
        self.rooms  # noqa: B018 - checks its ranges

    @property
    def all(self) -> tuple[Environment, ...]:
        """Every environment, the clean one first."""
        return tuple(Environment(*parts) for parts in product((None, *self.noises), (None, *self.channels)))

    @property
    def rooms(self) -> ReverberationConfig:
        """What the room is like."""
        return ReverberationConfig(share=1.0, min_rt60=self.min_rt60, max_rt60=self.max_rt60, max_drr_db=6.0)


@dataclass(frozen=True, slots=True)
class HeardUtterance:
    """One utterance in one environment.

    Attributes:
        utterance: with its new id and speaker.
        source: id of the original.
        speaker: of the original.
        environment: where it is heard.
    """

    utterance: Utterance
    source: str
    speaker: str
    environment: Environment


class EnvironmentCorpus:
    """A corpus in its environments: a manifest, and waveforms that are computed when they are asked for.

    What is random in an utterance depends on the seed and its new id alone (a babble also on who else speaks).

    Args:
        manifest: the clean corpus.
        read: id of an original -> (N,) samples in [-1, 1] at ``sampling_rate``.
        config: which environments.
        sampling_rate: of all waveforms.
        seed: of everything random, from 0.

    Raises:
        DataError: a folder holds no sound files, or nobody can babble.

    Example:
        >>> from lhuc_asr.data.manifest import Recording
        >>> anna = Utterance("anna-1", Recording("anna-1", "anna-1.wav"), "anna", transcript="HELLO")
        >>> config = EnvironmentConfig(noises=[NoiseKind.pink], channels=[ChannelKind.handset])
        >>> silence = np.zeros(900, np.float32)
        >>> corpus = EnvironmentCorpus(Manifest((anna,)), lambda _: silence, config, sampling_rate=16000)
        >>> [heard.utterance.speaker for heard in corpus.heard.values()]
        ['clean-anna', 'handset-anna', 'pink+handset-anna', 'pink-anna']
    """

    def __init__(
        self,
        manifest: Manifest,
        read: Callable[[str], Samples],
        config: EnvironmentConfig,
        *,
        sampling_rate: Hertz,
        seed: int = 0,
    ) -> None:
        self.config, self.sampling_rate, self.seed, self._read = config, sampling_rate, seed, read
        heard = {one.utterance.id: one for one in _all_heard(manifest, config, seed)}
        self.heard = {name: heard[name] for name in sorted(heard)}
        talkers = Talkers(manifest.speaker_of, read)
        self._noises = {
            kind: NoiseSource(
                NoiseConfig(share=1.0, kinds=[kind], folder=config.noise_folder),
                sampling_rate=sampling_rate,
                talkers=talkers,
            )
            for kind in config.noises
        }
        self._rooms = Rooms(config.rooms, sampling_rate=sampling_rate)

    @property
    def manifest(self) -> Manifest:
        """All utterances; they say whose they are and in which environment by the name of their speaker."""
        return Manifest(tuple(one.utterance for one in self.heard.values()))

    def samples(self, utterance: str) -> Samples:
        """(N,) the waveform of one utterance in its environment; noise is heard through the channel as well.

        Raises:
            AudioError: the original, or a file of noise, cannot be read.
        """
        one = self.heard[utterance]
        samples = self._read(one.source)
        if one.environment.noise is not None:
            samples = self._in_noise(samples, one)
        return self._through_channel(samples, one)

    def _in_noise(self, samples: Samples, one: HeardUtterance) -> Samples:
        assert one.environment.noise is not None
        stream = random_stream(self.seed, one.utterance.id, "noise")
        snr_db = stream.uniform(self.config.min_snr_db, self.config.max_snr_db)
        noise = self._noises[one.environment.noise].draw(stream, len(samples), speaker=one.speaker)
        return add_noise(samples, noise, snr_db)

    def _through_channel(self, samples: Samples, one: HeardUtterance) -> Samples:
        if one.environment.channel is ChannelKind.handset:
            return through_handset(samples, self.sampling_rate)
        if one.environment.channel is ChannelKind.room:
            stream = random_stream(self.seed, one.utterance.id, "room")
            return reverberate(samples, self._rooms.draw(stream))
        return samples


def through_handset(samples: Samples, sampling_rate: Hertz) -> Samples:
    """Speech through a telephone's handset: what lies outside of 300 to 3400 Hz falls off, and nothing is delayed.

    Args:
        samples: (N,).
        sampling_rate: of the samples.

    Returns:
        (N,) float32; 3 dB down at both ends of the band, 12 dB an octave below it and 24 dB an octave above.
    """
    low_hz, high_hz = HANDSET_BAND_HZ
    frequencies = np.fft.rfftfreq(len(samples), 1 / sampling_rate)
    with np.errstate(divide="ignore"):
        gains = 1 / np.sqrt((1 + (low_hz / frequencies) ** 4) * (1 + (frequencies / high_hz) ** 8))
    heard: Samples = np.fft.irfft(gains * np.fft.rfft(samples), len(samples)).astype(np.float32)
    return heard


def _all_heard(manifest: Manifest, config: EnvironmentConfig, seed: int) -> Iterator[HeardUtterance]:
    for utterance in manifest:
        for environment in _environments_of(utterance.speaker, config, seed):
            prefix = f"{environment.name}-"
            renamed = replace(utterance, id=prefix + utterance.id, speaker=prefix + utterance.speaker)
            yield HeardUtterance(renamed, utterance.id, utterance.speaker, environment)


def _environments_of(speaker: str, config: EnvironmentConfig, seed: int) -> list[Environment]:
    """The same for all utterances of a speaker."""
    if not config.num_per_speaker:
        return list(config.all)
    stream = random_stream(seed, speaker, "environments")
    return [config.all[index] for index in stream.permutation(len(config.all))[: config.num_per_speaker]]
