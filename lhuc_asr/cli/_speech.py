"""The speech that lhuc-decode, lhuc-adapt and lhuc-sweep work on: their common flags, and how all of them begin.

Speakers are plain flags, because an id must not meet the grammar of overrides.

A command reads::

    add_speech(parser, data="the speech", out="where the words go", keep_going="leave out bad utterances")
    ...
    system, config = open_model(args.model, args.overrides)
    manifest = chosen_speech(args)
    ...  # refuse what can be known to go wrong; until here nothing is written
    speech = usable_speech(args, manifest, system, config)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import UsageError

if TYPE_CHECKING:
    from lhuc_asr.config.schema import Config
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem


def add_speech(parser: argparse.ArgumentParser, *, data: str, out: str, keep_going: str) -> None:
    """Add ``--model``, ``--data``, the speakers, ``--out``, ``--keep-going`` and ``--allow-commands``.

    Args:
        parser: of the command.
        data: what ``--data`` is, for its help.
        out: what goes to ``--out``.
        keep_going: what ``--keep-going`` does where audio is bad.
    """
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model directory of lhuc-train")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help=data)
    parser.add_argument("--speaker", metavar="ID", action="append", default=[], help="one speaker; repeatable")
    parser.add_argument("--speaker-list", metavar="FILE", type=Path, help="speaker ids, a line each")
    parser.add_argument("--all-speakers", action="store_true", help="every speaker of the data")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help=out)
    parser.add_argument("--keep-going", action="store_true", help=keep_going)
    add_allow_commands(parser)


def add_allow_commands(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow-commands``: nothing that a data directory says is run without it."""
    parser.add_argument("--allow-commands", action="store_true", help="run the commands (`cmd |`) of wav.scp")


def chosen_speech(args: argparse.Namespace, *, all_by_default: bool = False) -> Manifest:
    """The utterances of the speakers that were asked for.

    Args:
        args: the command line.
        all_by_default: take every speaker where nobody is named.

    Raises:
        DataError: there is no data, or it is wrong.
        UsageError: nobody was named, or some and all at once, or the list cannot be read.
        SpeakerError: one of them is unknown.
    """
    from lhuc_asr.data.load import load_manifest

    manifest = load_manifest(args.data, allow_commands=args.allow_commands)
    asked = [*args.speaker, *_listed(args.speaker_list)]
    if args.all_speakers and asked:
        raise UsageError("--all-speakers excludes --speaker and --speaker-list")
    if args.all_speakers or (all_by_default and not asked):
        return manifest
    if not asked:
        raise UsageError("say who: --speaker ID (repeatable), --speaker-list FILE or --all-speakers")
    return manifest.of_speakers(asked)


def usable_speech(args: argparse.Namespace, manifest: Manifest, system: AcousticSystem, config: Config) -> UsableSpeech:
    """Note in ``--out`` where the result comes from, and take the features that the model wants.

    Raises:
        AudioError, DataError: no utterance is usable.
    """
    from lhuc_asr.config.provenance import write_provenance
    from lhuc_asr.system.corpus import usable_feats

    write_provenance(args.out, config, args.overrides)
    return usable_feats(manifest, system.features, args.out / "features", num_jobs=config.runtime.jobs)


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
