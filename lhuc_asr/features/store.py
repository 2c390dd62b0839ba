"""Features on disk: a Kaldi archive with an index, read one utterance at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import kaldi_native_io
import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DataError, LhucError
from lhuc_asr.files import atomic_path, escape_id, unescape_id, write_text

ARCHIVE = "feats.ark"
INDEX = "feats.scp"
LENGTHS = "utt2num_frames"
_MATRIX_HEAD = len(b"\0BFM \4....\4....")


class FeatureStore(Mapping[str, NDArray[np.float32]]):
    """Utterance id -> (T, F) float32 on disk; nothing but the index is held in memory.

    Any number of processes may read at the same time, forked ones with the same object too.

    Args:
        directory: where ``write_store`` or ``extract`` put the features; may be moved.

    Raises:
        DataError: there are no complete features in the directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._places = _read_table(directory / INDEX)
        self._lengths = _read_table(directory / LENGTHS)
        if not (directory / ARCHIVE).is_file() or self._places.keys() != self._lengths.keys():
            raise DataError(f"the features in {str(directory)!r} are not complete; extract them again")

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        place = f"{self.directory / ARCHIVE}:{self._places[utterance]}"
        try:
            matrix = kaldi_native_io.FloatMatrix.read(place)
        except RuntimeError as error:
            raise DataError(f"cannot read the features of {utterance!r} from {place!r}; extract them again") from error
        feats: NDArray[np.float32] = np.array(matrix.numpy(), dtype=np.float32)
        return feats

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, utterance: object) -> bool:
        return utterance in self._places

    def num_frames(self, utterance: str) -> int:
        """Frames of one utterance, without reading them."""
        return self._lengths[utterance]

    @property
    def archive_bytes(self) -> int:
        """Size of the archive on disk."""
        return (self.directory / ARCHIVE).stat().st_size

    @property
    def total_frames(self) -> int:
        """Frames of all utterances."""
        return sum(self._lengths.values())


def write_store(directory: Path, items: Iterable[tuple[str, NDArray[np.float32]]]) -> FeatureStore:
    """Write features as they come; the directory holds either all of them or what it held before.

    Args:
        directory: made where it does not exist.
        items: utterance id and (T, F) features.

    Raises:
        OSError: the archive cannot be written, for example because the disk is full.
    """
    places: dict[str, int] = {}
    lengths: dict[str, int] = {}
    with atomic_path(directory / ARCHIVE) as temporary:
        _write_archive(temporary, items, places, lengths)
        (directory / INDEX).unlink(missing_ok=True)
    _write_table(directory / LENGTHS, lengths)
    _write_table(directory / INDEX, places)
    return FeatureStore(directory)


def _write_archive(
    path: Path, items: Iterable[tuple[str, NDArray[np.float32]]], places: dict[str, int], lengths: dict[str, int]
) -> None:
    """Write the archive, and note where each utterance lies in it and how long it is."""
    position = 0
    try:
        with kaldi_native_io.FloatMatrixWriter(f"ark:{path}") as writer:
            for utterance, feats in items:
                key = escape_id(utterance)
                writer.write(key, np.ascontiguousarray(feats, dtype=np.float32))
                places[utterance] = position + len(key) + 1
                lengths[utterance] = len(feats)
                position = places[utterance] + _MATRIX_HEAD + 4 * feats.size
    except LhucError:
        raise
    except RuntimeError as error:
        raise OSError(errno.EIO, "cannot write features, is the disk full?", str(path)) from error
    if path.stat().st_size != position:
        raise OSError(errno.EIO, f"wrote {path.stat().st_size} of {position} bytes, is the disk full?", str(path))


def _write_table(path: Path, table: Mapping[str, int]) -> None:
    prefix = f"{ARCHIVE}:" if path.name == INDEX else ""
    write_text(path, "".join(f"{escape_id(utterance)} {prefix}{value}\n" for utterance, value in table.items()))


def _read_table(path: Path) -> dict[str, int]:
    try:
        rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
        return {unescape_id(key): int(value.rpartition(":")[2]) for key, value in rows}
    except (OSError, ValueError) as error:
        raise DataError(f"there are no features in {str(path.parent)!r}: {error}") from error
