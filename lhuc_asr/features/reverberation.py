"""Speech as it sounds in a room: simulated impulse responses, or the user's measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lhuc_asr.data.audio import Samples
from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.sound_folder import SoundFolder
from lhuc_asr.ranges import require_share
from lhuc_asr.units import Decibels, Hertz, Seconds, seconds_to_samples

_FIRST_REFLECTION: Seconds = 0.002
_FALL_OF_60_DB = 3 * np.log(10)


@dataclass(kw_only=True, slots=True)
class ReverberationConfig:
    """How often speech is put into a room, and into which.

    Attributes:
        share: share of the utterances that are put into a room; 0 is none.
        min_rt60: the time in which sound falls by 60 dB is drawn from here, in seconds,
        max_rt60: up to here.
        min_drr_db: the ratio of direct to reflected energy is drawn from here, in decibels,
        max_drr_db: up to here.
        folder: the user's impulse responses, used instead of simulated ones; empty is none.
    """

    share: float = 0.0
    min_rt60: float = 0.15
    max_rt60: float = 0.7
    min_drr_db: float = 0.0
    max_drr_db: float = 12.0
    folder: str = ""

    def __post_init__(self) -> None:
        require_share(self, "perturbation.reverberation", "share")
        if not 0.01 <= self.min_rt60 <= self.max_rt60 <= 10:
            raise ConfigError(
                "perturbation.reverberation.min_rt60 and max_rt60 must lie in order between 0.01 and 10 s, "
                f"got {self.min_rt60} and {self.max_rt60}"
            )
        if self.min_drr_db > self.max_drr_db:
            raise ConfigError(
                "perturbation.reverberation.min_drr_db must not lie above max_drr_db, "
                f"got {self.min_drr_db} and {self.max_drr_db}"
            )


class Rooms:
    """Draws impulse responses.

    Args:
        config: of which rooms.
        sampling_rate: of the impulse responses.

    Raises:
        DataError: the user's folder holds no sound files.

    Example:
        >>> rooms = Rooms(ReverberationConfig(max_rt60=0.2), sampling_rate=16000)
        >>> float(rooms.draw(np.random.default_rng(1))[0])
        1.0
    """

    def __init__(self, config: ReverberationConfig, *, sampling_rate: Hertz) -> None:
        self.config, self.sampling_rate = config, sampling_rate
        folder = Path(config.folder)
        self.folder = SoundFolder(folder, "impulse responses", sampling_rate) if config.folder else None

    def draw(self, random: np.random.Generator) -> Samples:
        """(K,) one impulse response."""
        if self.folder is not None:
            return self.folder.draw(random)
        rt60 = random.uniform(self.config.min_rt60, self.config.max_rt60)
        drr_db = random.uniform(self.config.min_drr_db, self.config.max_drr_db)
        return simulated_response(random, self.sampling_rate, rt60=rt60, drr_db=drr_db)


def simulated_response(
    random: np.random.Generator, sampling_rate: Hertz, *, rt60: Seconds, drr_db: Decibels
) -> Samples:
    """The impulse response of a room: the direct path, then noise that dies away exponentially.

    Args:
        random: decides the reflections.
        sampling_rate: of the response.
        rt60: the time in which the reflections fall by 60 dB.
        drr_db: energy of the direct path over that of all reflections, in decibels.

    Returns:
        (K,) the direct path, 1, at sample 0; it ends 60 dB down.

    Source: Polack 1988, "La transmission de l'energie sonore dans les salles" (doctoral thesis, Le Mans): the
    statistical model of late reverberation; here it begins 2 ms after the direct path.
    """
    times = np.arange(max(seconds_to_samples(rt60, sampling_rate), 2)) / sampling_rate
    reflections = random.standard_normal(len(times)) * np.exp(-_FALL_OF_60_DB * times / rt60)
    reflections[: max(seconds_to_samples(_FIRST_REFLECTION, sampling_rate), 1)] = 0
    reflections *= np.sqrt(10 ** (-drr_db / 10) / np.square(reflections).sum())
    reflections[0] = 1
    response: Samples = reflections.astype(np.float32)
    return response


def reverberate(samples: Samples, response: Samples) -> Samples:
    """Speech in a room, as long, as loud and as early as before, so that alignments and transcripts still hold.

    Args:
        samples: (N,) speech.
        response: (K,) impulse response; its largest value is taken as the direct path.

    Returns:
        (N,) with the direct path in the place of the original, and the original's mean power.
    """
    convolve = import_torchaudio("functional").fftconvolve
    late = int(np.abs(response).argmax())
    full = convolve(torch.from_numpy(samples).double(), torch.from_numpy(response).double()).numpy()
    heard = full[late : late + len(samples)]
    power = np.square(heard).sum()
    scale = np.sqrt(np.square(samples, dtype=np.float64).sum() / power) if power > 0 else 1.0
    result: Samples = (scale * heard).astype(np.float32)
    return result
