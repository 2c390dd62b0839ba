"""Data of any kind that the toolkit reads, told apart by what lies there."""

from __future__ import annotations

from pathlib import Path

from lhuc_asr.data.kaldi import read_kaldi_dir
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import DataError


def load_manifest(path: Path, *, allow_commands: bool = False, allow_missing: bool = False) -> Manifest:
    """Read a Kaldi data directory or lhotse manifests.

    Args:
        path: a directory with ``wav.scp``, a directory with lhotse manifests, or a ``.jsonl[.gz]`` file of cuts.
        allow_commands: run the commands that the data names as its audio.
        allow_missing: accept sound files that do not exist, unless none does; an error when their audio is read.

    Raises:
        DataError: there is nothing of the kind, or what is there is wrong.
    """
    if not path.exists():
        raise DataError(f"the data {str(path)!r} does not exist")
    if (path / "wav.scp").is_file():
        return read_kaldi_dir(path, allow_commands=allow_commands, allow_missing=allow_missing)
    if is_lhotse(path):
        from lhuc_asr.data.lhotse_manifests import read_lhotse

        return read_lhotse(path, allow_commands=allow_commands, allow_missing=allow_missing)
    raise DataError(
        f"{str(path)!r} is no data directory: it holds neither a wav.scp (Kaldi) nor *.jsonl[.gz] manifests (lhotse)"
        f"{_sets(path)}"
    )


def is_lhotse(path: Path) -> bool:
    """Whether this is a lhotse manifest or a directory that holds some."""
    if path.is_dir():
        return any(path.glob("*.jsonl")) or any(path.glob("*.jsonl.gz"))
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def _sets(path: Path) -> str:
    found = sorted(child.name for child in path.glob("*") if (child / "wav.scp").is_file()) if path.is_dir() else []
    return f"; sets inside it: {', '.join(map(repr, found))}" if found else ""
