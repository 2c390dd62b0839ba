"""How fast speech is decoded."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lhuc_asr.units import Milliseconds, Seconds, frames_to_seconds


def cpu_seconds() -> Seconds:
    """Processor time that this process has used."""
    return time.process_time()


@dataclass(frozen=True, slots=True)
class DecodingSpeed:
    """Time taken against time spoken.

    Attributes:
        audio: seconds of speech that were decoded.
        wall: seconds from the first utterance to the last, with everything that happened meanwhile, so also the
            computation of log-likelihoods, over all cores.
        cpu: seconds of one core that the search alone took, summed over processes.
    """

    audio: Seconds
    wall: Seconds
    cpu: Seconds

    @property
    def real_time_factor(self) -> float:
        """Waiting time per second of speech; below 1 is faster than speech."""
        return self.wall / self.audio if self.audio else 0.0

    @property
    def cpu_real_time_factor(self) -> float:
        """Seconds of one core per second of speech, for the search alone."""
        return self.cpu / self.audio if self.audio else 0.0

    def __str__(self) -> str:
        return (
            f"{self.audio:.1f} s of speech in {self.wall:.1f} s: real-time factor {self.real_time_factor:.4f}, "
            f"search alone {self.cpu_real_time_factor:.4f} on one core"
        )


class SpeedMeter:
    """Adds up utterances while they are decoded; the clock starts when the meter is made.

    Example:
        >>> meter = SpeedMeter()
        >>> meter.add(num_frames=200, cpu=0.1)
        >>> meter.speed.audio, meter.speed.cpu_real_time_factor
        (2.0, 0.05)
    """

    def __init__(self) -> None:
        self._begin = self._end = time.perf_counter()
        self._audio, self._cpu = 0.0, 0.0

    def add(self, *, num_frames: int, cpu: Seconds, frame_shift_ms: Milliseconds = 10.0) -> None:
        """Count one utterance that has just been decoded."""
        self._audio += frames_to_seconds(num_frames, frame_shift_ms)
        self._cpu += cpu
        self._end = time.perf_counter()

    @property
    def speed(self) -> DecodingSpeed:
        """What was measured until the last utterance."""
        return DecodingSpeed(self._audio, self._end - self._begin, self._cpu)
