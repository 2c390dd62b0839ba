"""Passes on disk: known by what they were made from, and safe where several runs share them at the same time."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.store import LATTICES_FILE, read_lattices, remove_lattices, write_lattices
from lhuc_asr.decoding.words.hypothesis import read_hypotheses, write_hypotheses
from lhuc_asr.errors import DataError
from lhuc_asr.files import locked, read_json, sha256, write_json
from lhuc_asr.profiles.format import profile_stem

logger = logging.getLogger(__name__)

_PAGE = "pass.json"
_UNUSABLE = (OSError, ValueError, LookupError, TypeError, DataError)


class PassStore:
    """Passes on disk, one directory a speaker, each kept with the key of what it was made from.

    Those who write one speaker's pass wait for each other, and nobody replaces what is as good. Readers wait for
    nobody: the page is replaced last and tells the digests of the files beside it, so that a reader notices files that
    another run has replaced, or a disk has damaged.

    Args:
        directory: may be shared by runs with the same model.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, speaker: str, key: str, *, with_lattices: bool = False) -> SpeakerPass | None:
        """The pass that was made from the same things, or None when there is none or it is damaged.

        Args:
            speaker: who.
            key: of what the pass is made from.
            with_lattices: a pass whose lattices were not kept, or are damaged, is none; `lattices` reads them.
        """
        try:
            return self._find(speaker, key, with_lattices=with_lattices)
        except _UNUSABLE as error:
            logger.warning("%s cannot be used and is made again: %s", self._of(speaker), error)
            return None

    def put(self, speaker: str, key: str, result: SpeakerPass) -> SpeakerPass:
        """Write a pass, unless one from the same things that has as much lies there already.

        Returns:
            What lies there now, as `get` gives it: without lattices, which are left on disk.
        """
        with_lattices, directory = result.lattices is not None, self._of(speaker)
        with locked(directory / ".lock"):
            with suppress(*_UNUSABLE):
                if (known := self._find(speaker, key, with_lattices=with_lattices)) is not None:
                    return known
            _remove_trusting_page(directory / _PAGE)
            page: dict[str, Any] = {"speaker": speaker, "key": key, "failed": dict(result.failed)}
            page["words_sha256"] = write_hypotheses(directory, result.hypotheses.values())
            if result.lattices is not None:
                written = write_lattices(directory, result.lattices.values())
                page |= {"lattices": written.name, "lattices_sha256": sha256(written)}
            write_json(directory / _PAGE, page)
            if not with_lattices:
                remove_lattices(directory)
        return replace(result, lattices=None, lattices_sha256=page.get("lattices_sha256"))

    def lattices(self, speaker: str, known: SpeakerPass) -> dict[str, Lattice]:
        """Utterance id -> lattice.

        Args:
            speaker: who.
            known: the speaker's pass, as `get` with its lattices or `put` gave it.

        Raises:
            DataError: they are missing or damaged, or another run has put others in their place.
        """
        directory = self._of(speaker)
        found = read_lattices(directory)
        digest = sha256(directory / LATTICES_FILE)  # reckoned last, so that it tells of what was read
        if known.lattices_sha256 != digest:
            raise DataError(f"other lattices than expected in {str(directory)!r}: another run has replaced them")
        return found

    def _find(self, speaker: str, key: str, *, with_lattices: bool) -> SpeakerPass | None:
        directory = self._of(speaker)
        if not (directory / _PAGE).exists():
            return None
        page: dict[str, Any] = read_json(directory / _PAGE)
        if page["key"] != key or (with_lattices and not page.get("lattices")):
            return None
        hypotheses = read_hypotheses(directory, words_sha256=page.get("words_sha256"))
        digest = _digest_of_lattices(directory, page) if with_lattices else None
        return SpeakerPass(hypotheses, page["failed"], lattices_sha256=digest)

    def _of(self, speaker: str) -> Path:
        return self.directory / profile_stem(speaker)


def _digest_of_lattices(directory: Path, page: dict[str, Any]) -> str:
    """Proved to be that of the page; pages of earlier versions tell none, and the lattices are read instead."""
    found, told = _digest_of(directory), page.get("lattices_sha256")
    if told is None:
        read_lattices(directory)
    elif told != found:
        raise DataError(f"damaged lattices in {str(directory)!r}")
    return found


def _digest_of(directory: Path) -> str:
    try:
        return sha256(directory / LATTICES_FILE)
    except OSError as error:
        raise DataError(f"no lattices in {str(directory)!r}: {error}") from error


def _remove_trusting_page(path: Path) -> None:
    """A page of an earlier version tells no digests and would take any files for its own: it goes before them."""
    try:
        digests = "words_sha256" in read_json(path)
    except (OSError, ValueError, TypeError):
        digests = False
    if not digests:
        path.unlink(missing_ok=True)
