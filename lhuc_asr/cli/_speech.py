"""The speech that lhuc-decode, lhuc-adapt and lhuc-sweep work on: their common flags, and how all of them begin.

Speakers are plain flags, because an id must not meet the grammar of overrides.

A command reads::

    add_speech(parser, data="the speech", out="where the words go")
    ...
    system, config = open_model(args.model, args.overrides)
    manifest = chosen_speech(args)
    ...  # refuse what can be known to go wrong; until here nothing is written
    speech = usable_speech(args, manifest, system, config)
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import UsageError
from lhuc_asr.cli._flags import add_allow_commands, add_data, add_model, add_out

if TYPE_CHECKING:
    from lhuc_asr.config.schema import Config
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.features.fmllr import SpeakerTransforms
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem

logger = logging.getLogger(__name__)

_MOST = 0.5
"""A larger share of words that the lexicon lacks is a mistake of spelling."""


def add_speech(
    parser: argparse.ArgumentParser,
    *,
    data: str,
    out: str,
    keep_going: str = "leave out utterances whose audio is bad",
) -> None:
    """Add ``--model``, ``--data``, the speakers, ``--out``, ``--keep-going`` and ``--allow-commands``.

    Args:
        parser: of the command.
        data: what ``--data`` is, for its help.
        out: what goes to ``--out``.
        keep_going: what ``--keep-going`` does where audio is bad.
    """
    add_model(parser)
    add_data(parser, data)
    parser.add_argument("--speaker", metavar="ID", action="append", default=[], help="one speaker; repeatable")
    parser.add_argument("--speaker-list", metavar="FILE", type=Path, help="speaker ids, a line each")
    parser.add_argument("--all-speakers", action="store_true", help="every speaker of the data")
    add_out(parser, out)
    parser.add_argument("--keep-going", action="store_true", help=keep_going)
    add_allow_commands(parser)


def add_transforms(parser: argparse.ArgumentParser) -> None:
    """Add ``--transforms`` and ``--no-transforms``, for models that learnt from transformed features."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--transforms", metavar="DIR", type=Path, help="speakers' transforms of lhuc-fmllr, for a model trained on such"
    )
    choice.add_argument(
        "--no-transforms",
        action="store_true",
        help="research: give features as they are to a model that was trained on transformed ones",
    )


def known_transforms(args: argparse.Namespace, system: AcousticSystem) -> SpeakerTransforms | None:
    """The transforms through which the model shall see the features; None for features as they are.

    Raises:
        UsageError: the model wants transforms and there are none, or the other way round.
        DataError: they cannot be read, or are of another model.
    """
    from lhuc_asr.features.fmllr import SpeakerTransforms
    from lhuc_asr.system.transforming import require_own

    if system.wants_transforms and args.transforms is None and not args.no_transforms:
        raise UsageError(
            f"the model '{args.model}' was trained on features that were transformed for each speaker: give "
            "--transforms DIR of lhuc-fmllr, or --no-transforms to see what features as they are do to it"
        )
    if not system.wants_transforms and (args.transforms is not None or args.no_transforms):
        raise UsageError(
            f"the model '{args.model}' was trained without speakers' transforms: leave out --transforms and "
            "--no-transforms"
        )
    if args.transforms is None:
        return None
    transforms = SpeakerTransforms.load(args.transforms)
    require_own(system, transforms)
    return transforms


def transforms_sha256(args: argparse.Namespace) -> str | None:
    """Of the transforms that were given, for the page of the run."""
    from lhuc_asr.features.fmllr import SpeakerTransforms

    return None if args.transforms is None else SpeakerTransforms.load(args.transforms).sha256


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

    manifest = load_manifest(args.data, allow_commands=args.allow_commands, allow_missing=True)
    if (group_of := _groups(args)) is not None:
        manifest = _grouped(manifest, group_of, args.groups)
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

    They are kept in ``--features``, where there is such a flag and it is given, or else in ``--out``.

    Raises:
        AudioError, DataError: no utterance is usable.
        UsageError: as `known_transforms` does.
    """
    transforms = known_transforms(args, system)
    speech = untransformed_speech(args, manifest, system, config)
    return speech if transforms is None else replace(speech, feats=speech.feats.seen_through(transforms))


def untransformed_speech(
    args: argparse.Namespace, manifest: Manifest, system: AcousticSystem, config: Config
) -> UsableSpeech:
    """`usable_speech` without speakers' transforms, whatever the model was trained on."""
    from lhuc_asr.config.provenance import write_provenance
    from lhuc_asr.system.corpus import usable_feats

    _warn_of_unknown_words(args, manifest, system)
    recorded = _as_recorded(args, manifest)  # features are normalised for speakers, not for groups
    write_provenance(args.out, config, args.overrides)
    kept = getattr(args, "features", None) or args.out / "features"
    speech = usable_feats(recorded, system.features, kept, num_jobs=config.runtime.jobs)
    group_of = manifest.speaker_of
    feats = speech.feats.projected(system.projection)
    return replace(speech, manifest=speech.manifest.grouped(group_of), feats=feats)


def _warn_of_unknown_words(args: argparse.Namespace, manifest: Manifest, system: AcousticSystem) -> None:
    """Say where transcripts are not spelt as the model's words are: every word then counts as an error."""
    report = system.lexicon.oov_report(manifest.transcripts)
    if report.rate > _MOST:
        logger.warning(
            "the transcripts of '%s': %s; these count as errors: is their case that of the model's lexicon?",
            args.data,
            report,
        )


def _as_recorded(args: argparse.Namespace, manifest: Manifest) -> Manifest:
    """The same utterances, said by their speakers where ``--groups`` took their place."""
    from lhuc_asr.data.load import load_manifest

    if _groups(args) is None:
        return manifest
    speaker_of = load_manifest(args.data, allow_commands=args.allow_commands, allow_missing=True).speaker_of
    return manifest.grouped(speaker_of)


def _grouped(manifest: Manifest, group_of: dict[str, str], path: Path) -> Manifest:
    """The utterances that have a group; how many have none is told.

    Raises:
        UsageError: none of them has one.
    """
    grouped = manifest.grouped(group_of)
    if not len(grouped):
        raise UsageError(f"'{path}' names no utterance of the data, whose first is {next(iter(manifest)).id!r}")
    if len(grouped) < len(manifest):
        print(f"left out, for want of a group: {len(manifest) - len(grouped)} of {len(manifest)} utterances")
    return grouped


def _groups(args: argparse.Namespace) -> dict[str, str] | None:
    """Utterance id -> group, where ``--groups`` is given.

    Raises:
        DataError: the table cannot be read.
    """
    from lhuc_asr.data.kaldi_tables import read_rows

    path = getattr(args, "groups", None)
    return None if path is None else {row.id: row.value for row in read_rows(path)}


def refuse_unusable(args: argparse.Namespace, speech: UsableSpeech) -> None:
    """Bad audio is a mistake, unless ``--keep-going`` leaves it out, which is told.

    Raises:
        AudioError: some utterances cannot be used.
    """
    from lhuc_asr.errors import AudioError

    reasons = list(speech.unusable.values())
    if reasons and not args.keep_going:
        total = len(reasons) + len(speech.manifest)
        raise AudioError(
            f"{len(reasons)} of {total} utterances cannot be used (--keep-going leaves them out): "
            + "; ".join(reasons[:3])
            + ("; ..." if reasons[3:] else "")
        )
    for reason in reasons:
        print(f"left out: {reason}")


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
