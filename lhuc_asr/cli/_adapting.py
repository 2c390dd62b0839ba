"""What lhuc-adapt and lhuc-sweep have in common: flags, speakers whose audio is bad, how oracle targets are marked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._speech import add_speech, add_transforms

if TYPE_CHECKING:
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.system.corpus import UsableSpeech

ORACLE_NOTE = " (research: the targets are the aligned references)"


def add_adapting(parser: argparse.ArgumentParser, *, data: str, out: str) -> None:
    """Add the flags of both commands; ``data`` and ``out`` are what the help says of those two."""
    add_speech(parser, data=data, out=out, keep_going="use a speaker's good utterances where others are bad")
    add_transforms(parser)
    parser.add_argument("--features", metavar="DIR", type=Path, help="keep features here, to share between runs")
    parser.add_argument(
        "--groups",
        metavar="FILE",
        type=Path,
        help="lines: UTTERANCE GROUP; learn a profile of each group, such as an environment, in place of each speaker; "
        "utterances without a group are left out, and --speaker names a group",
    )
    parser.add_argument("--first-pass", metavar="DIR", type=Path, help="keep first passes here, to share between runs")


@dataclass(frozen=True)
class BadAudio:
    """Who suffers from audio that cannot be used.

    Attributes:
        failed: speaker -> why there is nothing to adapt to.
        left_out: utterance id -> why the speaker is adapted to without it.
    """

    failed: dict[str, str]
    left_out: dict[str, str]


def sort_out(manifest: Manifest, speech: UsableSpeech, *, keep_going: bool) -> BadAudio:
    """A speaker with bad audio fails, unless ``--keep-going`` leaves the bad utterances out, which is told."""
    found = BadAudio({}, {})
    for speaker, utterances in _utterances(manifest).items():
        reasons = {utterance: speech.unusable[utterance] for utterance in utterances if utterance in speech.unusable}
        some_are_good = len(reasons) < len(utterances)
        if some_are_good and keep_going:
            found.left_out.update(reasons)
            for reason in reasons.values():
                print(f"{speaker}: left out: {reason}", flush=True)
        elif reasons:
            first, *others = reasons.values()
            more = f" (and {len(others)} more of {len(utterances)} utterances)" if others else ""
            found.failed[speaker] = f"{first}{more}" + ("; --keep-going uses the good ones" if some_are_good else "")
    return found


def _utterances(manifest: Manifest) -> dict[str, list[str]]:
    """Speaker -> ids of the speaker's utterances."""
    found: dict[str, list[str]] = {speaker: [] for speaker in manifest.speakers}
    for utterance, speaker in manifest.speaker_of.items():
        found[speaker].append(utterance)
    return found
