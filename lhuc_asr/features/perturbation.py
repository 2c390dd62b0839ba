"""A corpus made larger: every utterance at other speeds, and in copies with other rooms, noises, levels and voices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.audio import Samples
from lhuc_asr.data.manifest import Manifest, Utterance
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.features.noise import NoiseConfig, NoiseSource, Talkers, add_noise
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.reverberation import ReverberationConfig, Rooms, reverberate
from lhuc_asr.features.speed import changed_level, changed_speed
from lhuc_asr.features.streams import random_stream
from lhuc_asr.features.vocal_tract import require_warp, warped_feats
from lhuc_asr.ranges import require_at_least
from lhuc_asr.units import Hertz


@dataclass(kw_only=True, slots=True)
class PerturbationConfig:
    """What is made of every utterance before its features are computed; the defaults change nothing.

    Attributes:
        speeds: every utterance is used once at each of these speeds; Kaldi's recipes take 0.9, 1.0 and 1.1.
        num_copies: further copies of every utterance and speed, which get what stands below.
        keep_plain: keep the utterances at each speed without anything else, beside the copies.
        level_db: copies become louder or softer by up to this, in decibels.
        warp: copies get vocal tract lengths from 1 - warp to 1 + warp.
        reverberation: into which rooms the copies are put, and how often.
        noise: which noise the copies get, and how often.
    """

    speeds: list[float] = field(default_factory=lambda: [1.0])
    num_copies: int = 0
    keep_plain: bool = True
    level_db: float = 0.0
    warp: float = 0.0
    reverberation: ReverberationConfig = field(default_factory=ReverberationConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def __post_init__(self) -> None:
        if not self.speeds or len({_label(speed) for speed in self.speeds}) < len(self.speeds):
            raise ConfigError(f"perturbation.speeds must name at least one speed and each once, got {self.speeds}")
        if not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise ConfigError(f"perturbation.speeds must lie between 0.5 and 2, got {self.speeds}")
        if any(abs(speed * 100 - round(speed * 100)) > 1e-6 for speed in self.speeds):
            raise ConfigError(f"perturbation.speeds are kept to two decimals, got {self.speeds}")
        if self.num_copies < 0 or (self.num_copies == 0 and not self.keep_plain):
            raise ConfigError("perturbation.num_copies must be at least 0, and above 0 unless keep_plain is true")
        require_at_least(0, self, "perturbation", "level_db")
        require_warp(self.warp, "perturbation")
        if self.num_copies == 0 and (wanted := self._of_copies()):
            raise ConfigError(f"perturbation.{wanted[0]} is for copies, and perturbation.num_copies is 0: ask for 1")

    @property
    def is_active(self) -> bool:
        """Whether the corpus becomes another one at all."""
        return self.num_copies > 0 or any(_label(speed) for speed in self.speeds)

    def _of_copies(self) -> list[str]:
        """Which settings ask for something that only copies get."""
        shares = {"reverberation.share": self.reverberation.share, "noise.share": self.noise.share}
        return [name for name, value in {"level_db": self.level_db, "warp": self.warp, **shares}.items() if value]


@dataclass(frozen=True, slots=True)
class PerturbedUtterance:
    """One utterance of the larger corpus.

    Attributes:
        utterance: with its new id and speaker; its times are those of the original recording.
        source: id of the original.
        speed: how much faster it is than the original.
        copy: which copy, from 1; 0 gets nothing but the speed.
    """

    utterance: Utterance
    source: str
    speed: float
    copy: int

    @property
    def plain(self) -> str:
        """Id of the same utterance at the same speed without anything else; an alignment of it holds for this one."""
        return _label(self.speed) + self.source


class PerturbedCorpus:
    """The larger corpus: its manifest, and its waveforms and features, computed when they are asked for.

    All that is random in an utterance depends on the seed and on its id alone (a babble also on who else there is), so
    the order in which utterances are asked for, and by how many processes, changes nothing.

    Ids are Kaldi's: ``sp0.9-anna-1`` is anna-1 at speed 0.9, ``aug1-sp0.9-anna-1`` its first copy. Speakers get the
    same prefixes, because features are normalised for each speaker.

    Args:
        manifest: the original corpus.
        read: id of an original -> (N,) samples in [-1, 1] at ``sampling_rate``.
        config: what to make of it.
        sampling_rate: of all waveforms.
        seed: of everything random, from 0.

    Raises:
        DataError: a new id exists already, a folder holds no sound files, or nobody can babble.

    Example:
        >>> from lhuc_asr.data.manifest import Recording
        >>> anna = Utterance("anna-1", Recording("anna-1", "anna-1.wav"), "anna", transcript="HELLO")
        >>> corpus = PerturbedCorpus(
        ...     Manifest((anna,)),
        ...     lambda utterance: np.ones(9000, dtype=np.float32),
        ...     PerturbationConfig(speeds=[0.9, 1.0], num_copies=1),
        ...     sampling_rate=16000,
        ... )
        >>> [utterance.id for utterance in corpus.manifest]
        ['anna-1', 'aug1-anna-1', 'aug1-sp0.9-anna-1', 'sp0.9-anna-1']
        >>> len(corpus.samples("sp0.9-anna-1")), corpus.manifest.transcripts["sp0.9-anna-1"]
        (10000, 'HELLO')
    """

    def __init__(
        self,
        manifest: Manifest,
        read: Callable[[str], Samples],
        config: PerturbationConfig,
        *,
        sampling_rate: Hertz,
        seed: int = 0,
    ) -> None:
        self.config, self.seed, self._read = config, seed, read
        self.perturbed = {one.utterance.id: one for one in _all_copies(manifest, config)}
        if len(self.perturbed) < len(manifest) * len(config.speeds) * (config.num_copies + config.keep_plain):
            raise DataError("the corpus holds ids such as 'sp0.9-...' or 'aug1-...' already: it was perturbed before")
        self.manifest = Manifest(tuple(self.perturbed[name].utterance for name in sorted(self.perturbed)))
        active = config.num_copies > 0
        talkers = Talkers(manifest.speaker_of, read)
        rooms = active and config.reverberation.share > 0
        noises = active and config.noise.share > 0
        self._rooms = Rooms(config.reverberation, sampling_rate=sampling_rate) if rooms else None
        self._noises = NoiseSource(config.noise, sampling_rate=sampling_rate, talkers=talkers) if noises else None
        self._speaker_of = manifest.speaker_of

    def samples(self, utterance: str) -> Samples:
        """(N,) the waveform of one utterance of the larger corpus.

        Raises:
            AudioError: the original, or a file of noise, cannot be read.
        """
        one = self.perturbed[utterance]
        samples = changed_speed(self._read(one.source), one.speed)
        if one.copy == 0:
            return samples
        samples = self._in_noise(self._in_room(samples, utterance), utterance)
        if not self.config.level_db:
            return samples
        stream = random_stream(self.seed, utterance, "level")
        return changed_level(samples, stream.uniform(-self.config.level_db, self.config.level_db))

    def warp(self, utterance: str) -> float:
        """How much shorter the vocal tract of an utterance seems; 1 leaves it as it is."""
        if self.perturbed[utterance].copy == 0 or not self.config.warp:
            return 1.0
        stream = random_stream(self.seed, utterance, "warp")
        return float(stream.uniform(1 - self.config.warp, 1 + self.config.warp))

    def feats(self, utterance: str, config: FeatureConfig) -> NDArray[np.float32]:
        """(T, config.dim) features of one utterance of the larger corpus, before normalisation.

        Raises:
            AudioError: the original, or a file of noise, cannot be read.
            DataError: the waveform is shorter than one frame or not finite.
        """
        return warped_feats(self.samples(utterance), config, self.warp(utterance))

    @property
    def key(self) -> str:
        """A text that changes when the waveforms or features of the larger corpus do, the originals being the same."""
        settings = asdict(self.config, dict_factory=lambda items: {name: _plain(value) for name, value in items})
        folders = [source.folder.key for source in (self._rooms, self._noises) if source and source.folder]
        seed = self.seed if self.config.num_copies else None  # speeds are not drawn
        return json.dumps({"format": 1, "seed": seed, "settings": settings, "folders": folders}, sort_keys=True)

    def _in_room(self, samples: Samples, utterance: str) -> Samples:
        stream = random_stream(self.seed, utterance, "reverberation")
        if self._rooms is None or stream.random() >= self.config.reverberation.share:
            return samples
        return reverberate(samples, self._rooms.draw(stream))

    def _in_noise(self, samples: Samples, utterance: str) -> Samples:
        stream = random_stream(self.seed, utterance, "noise")
        if self._noises is None or stream.random() >= self.config.noise.share:
            return samples
        snr_db = stream.uniform(self.config.noise.min_snr_db, self.config.noise.max_snr_db)
        speaker = self._speaker_of[self.perturbed[utterance].source]
        return add_noise(samples, self._noises.draw(stream, len(samples), speaker=speaker), snr_db)


def _all_copies(manifest: Manifest, config: PerturbationConfig) -> Iterator[PerturbedUtterance]:
    first = 0 if config.keep_plain else 1
    for utterance in manifest:
        for speed in config.speeds:
            for copy in range(first, config.num_copies + 1):
                prefix = (f"aug{copy}-" if copy else "") + _label(speed)
                renamed = replace(utterance, id=prefix + utterance.id, speaker=prefix + utterance.speaker)
                yield PerturbedUtterance(renamed, utterance.id, speed, copy)


def _label(speed: float) -> str:
    """Kaldi's prefix of a speed; none for the original."""
    return "" if Fraction(speed).limit_denominator(100) == 1 else f"sp{speed:.4g}-"


def _plain(value: object) -> object:
    """A setting as a JSON value."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.name if isinstance(value, Enum) else value
