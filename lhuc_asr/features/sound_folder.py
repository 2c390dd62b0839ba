"""A folder of the user's sound files, noises or room impulse responses, found once and read when they are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.data.audio import read_audio
from lhuc_asr.data.manifest import Recording, Utterance
from lhuc_asr.errors import DataError
from lhuc_asr.units import Hertz

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})


class SoundFolder:
    """All sound files below a folder, in the order of their names; of several channels the first is used.

    Args:
        path: the folder.
        what: what its files are, for error messages.
        sampling_rate: the files are converted to this rate.

    Raises:
        DataError: there is no such folder, or no sound file in it.

    Example:
        >>> import tempfile
        >>> from lhuc_asr.data.audio import write_audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_audio(Path(folder) / "hum.wav", np.full(800, 0.5, dtype=np.float32), 8000)
        ...     hums = SoundFolder(Path(folder), "noises", 16000)
        ...     len(hums.draw(np.random.default_rng(1)))
        1600
    """

    def __init__(self, path: Path, what: str, sampling_rate: Hertz) -> None:
        self.path, self.what, self.sampling_rate = path, what, sampling_rate
        if not path.is_dir():
            raise DataError(f"the folder {str(path)!r} for {what} does not exist")
        found = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        self.names = tuple(sorted(file.relative_to(path).as_posix() for file in found))
        if not self.names:
            raise DataError(f"the folder {str(path)!r} holds no {what}; files end in {', '.join(sorted(SUFFIXES))}")

    def draw(self, random: np.random.Generator) -> NDArray[np.float32]:
        """(N,) the samples of one file, drawn with equal chances.

        Raises:
            AudioError: the file cannot be read.
            DataError: all its samples are 0.
        """
        name = self.names[random.integers(len(self.names))]
        source = Recording(name, str(self.path / name))
        samples = read_audio(Utterance(name, source, speaker=name), sampling_rate=self.sampling_rate)
        if not samples.any():
            raise DataError(f"{str(self.path / name)!r} is silent and cannot serve among {self.what}")
        return samples

    @property
    def key(self) -> str:
        """A text that changes when a file comes, goes or has another size."""
        return "\n".join(f"{name} {(self.path / name).stat().st_size}" for name in self.names)
