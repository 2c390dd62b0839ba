"""lhuc-decode: recognise speech with a model, and with the speakers' profiles where they are given."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import OK, SOME_FAILED, add_overrides, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._model import open_model
from lhuc_asr.cli._speech import add_speech, chosen_speech, usable_speech

if TYPE_CHECKING:
    from lhuc_asr.adaptation.recognise import KnownProfiles, Recognition
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem

_PAGE = "decode.json"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser("decode", "Recognise speech: words with times and state paths, per utterance.")
    add_speech(
        parser, data="the speech", out="where the words go", keep_going="leave out utterances whose audio is bad"
    )
    parser.add_argument(
        "--profiles", metavar="STORE", type=Path, help="profiles of lhuc-adapt, used speaker by speaker"
    )
    add_overrides(parser, such_as="decoding.beam=16 or decoding=fast")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    system, config = open_model(args.model, args.overrides)
    from lhuc_asr.adaptation.recognise import recognise
    from lhuc_asr.decoding.hypothesis import write_hypotheses

    manifest = chosen_speech(args, all_by_default=True)
    known = _profiles(args, system, manifest.speakers)
    (args.out / _PAGE).unlink(missing_ok=True)
    speech = usable_speech(args, manifest, system, config)
    _check_usable(args, speech)
    found = recognise(system, speech.feats, manifest.speaker_of, known.profiles, num_jobs=config.runtime.jobs)
    write_hypotheses(args.out, found.hypotheses.values())
    _report(args, system, known, speech, found)
    return SOME_FAILED if found.failed else OK


def _profiles(args: argparse.Namespace, system: AcousticSystem, speakers: tuple[str, ...]) -> KnownProfiles:
    """Profiles of the chosen speakers; the speakers without one are told."""
    from lhuc_asr.adaptation.recognise import KnownProfiles

    if args.profiles is None:
        return KnownProfiles(Path(), system.fingerprint)
    known = KnownProfiles.open(args.profiles, speakers, fingerprint=system.fingerprint)
    if without := [speaker for speaker in speakers if speaker not in known.profiles]:
        print(f"speaker-independent, for want of a profile: {', '.join(without)}")
    return known


def _check_usable(args: argparse.Namespace, speech: UsableSpeech) -> None:
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


def _report(
    args: argparse.Namespace, system: AcousticSystem, known: KnownProfiles, speech: UsableSpeech, found: Recognition
) -> None:
    """The page that names what was used, and what was found for people."""
    from lhuc_asr.files import write_json
    from lhuc_asr.parallel import peak_memory_gb
    from lhuc_asr.scoring.wer import score_hypotheses
    from lhuc_asr.system.settings import to_plain

    page = {
        "model_fingerprint": system.fingerprint,
        "profiles": known.manifest(),
        "decoding": to_plain(system.decoding),
        "failed_utterances": {**speech.unusable, **found.failed},
        "real_time_factor": found.speed.real_time_factor,
        "search_real_time_factor": found.speed.cpu_real_time_factor,
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }
    write_json(args.out / _PAGE, page)
    for utterance, reason in found.failed.items():
        print(f"{utterance}: failed: {reason}")
    if references := speech.manifest.transcripts:
        print(score_hypotheses(references, found.hypotheses, speech.manifest.speaker_of))
    print(f"decoding: {found.speed}")
