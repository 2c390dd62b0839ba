"""Which speakers a command works on: plain flags, because an id must not meet the grammar of overrides."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import UsageError

if TYPE_CHECKING:
    from lhuc_asr.data.manifest import Manifest


def add_speakers(parser: argparse.ArgumentParser) -> None:
    """Add ``--speaker``, ``--speaker-list`` and ``--all-speakers``."""
    parser.add_argument("--speaker", metavar="ID", action="append", default=[], help="one speaker; repeatable")
    parser.add_argument("--speaker-list", metavar="FILE", type=Path, help="speaker ids, a line each")
    parser.add_argument("--all-speakers", action="store_true", help="every speaker of the data")


def chosen_speakers(args: argparse.Namespace, manifest: Manifest, *, all_by_default: bool = False) -> Manifest:
    """The utterances of the speakers that were asked for.

    Args:
        args: the command line.
        manifest: the data.
        all_by_default: take every speaker where nobody is named.

    Raises:
        UsageError: nobody was named, or some and all at once, or the list cannot be read.
        SpeakerError: one of them is unknown.
    """
    asked = [*args.speaker, *_listed(args.speaker_list)]
    if args.all_speakers and asked:
        raise UsageError("--all-speakers excludes --speaker and --speaker-list")
    if args.all_speakers or (all_by_default and not asked):
        return manifest
    if not asked:
        raise UsageError("say who: --speaker ID (repeatable), --speaker-list FILE or --all-speakers")
    return manifest.of_speakers(asked)


def _listed(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the speaker list '{path}': {error}") from error
    speakers = [line.strip() for line in lines if line.strip()]
    if not speakers:
        raise UsageError(f"the speaker list '{path}' names nobody")
    return speakers
