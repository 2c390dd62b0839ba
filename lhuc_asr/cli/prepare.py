"""``lhuc-prepare``: find a corpus, check all of it, and write it as Kaldi data directories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lhuc_asr.cli._common import OK, UsageError, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._flags import add_allow_commands, add_out, natural, positive

if TYPE_CHECKING:
    from lhuc_asr.data.corpora.preparation import Prepared, PrepareOptions
    from lhuc_asr.data.manifest import Manifest, Utterance
    from lhuc_asr.data.problems import Problem

CORPORA = ("demo", "speechocean762", "fsdd", "tedlium", "ami", "swbd", "aurora4", "kaldi", "lhotse")
MICROPHONES = ("ihm", "sdm")
SIZES = ("full", "smallest")

_EPILOG = """\
corpora:
  demo            speech that the toolkit makes itself, by espeak-ng (pip install 'lhuc_asr[demo]'); needs no --root
  speechocean762  English read by native speakers of Mandarin: https://www.openslr.org/101, as it is unpacked
  fsdd            spoken digits: https://github.com/Jakobovski/free-spoken-digit-dataset; also leaves one speaker out
  tedlium         TED-LIUM, release 1, 2 or 3 (https://www.openslr.org/51), as it is unpacked
  ami             AMI meetings, --microphone ihm or sdm: https://groups.inf.ed.ac.uk/ami/corpus
  swbd            Switchboard-1 and HUB5 2000, four packages of the LDC in one folder
  aurora4         Aurora4 of ELRA, and WSJ0's transcripts
  kaldi           any Kaldi data directory, or a folder of them
  lhotse          any lhotse manifests: recordings with supervisions, or cuts

All data is checked before anything is written, and every problem is told at once.
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``lhuc-prepare``."""
    parser = command_parser("prepare", "Check a corpus and write it as Kaldi data directories.")
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    parser.add_argument("corpus", metavar="CORPUS", choices=CORPORA, help=", ".join(CORPORA))
    parser.add_argument("--root", metavar="DIR", type=Path, help="where the corpus lies")
    add_out(parser, "where to write the sets")
    parser.add_argument("--keep-going", action="store_true", help="leave out and list what is bad; else nothing starts")
    add_allow_commands(parser)
    parser.add_argument("--lexicon", metavar="FILE", type=Path, help="check the words against it and copy it to --out")
    parser.add_argument("--sampling-rate", metavar="HZ", type=positive, help="the rate that all audio must have")
    parser.add_argument("--seed", metavar="N", type=natural, default=0, help="of what is drawn or held out (0)")
    parser.add_argument("--num-jobs", metavar="N", type=natural, default=0, help="processes; 0 is one a core (0)")
    parser.add_argument("--pictures", metavar="N", type=natural, default=0, help="draw N spectrograms of each set (0)")
    parser.add_argument("--size", choices=SIZES, default="full", help="of the demo corpus (full)")
    parser.add_argument("--microphone", choices=MICROPHONES, help="of meetings: headsets or one on the table (ihm)")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lhuc-prepare``."""
    args = parse_arguments(build_parser(), argv)
    _check_flags(args)
    sets = _prepare_demo(args) if args.corpus == "demo" else _prepare(args)
    print(_table(sets))
    for each in sets:
        _draw(each, args.out / "pictures" / each.name, args.pictures)
    return OK


def _check_flags(args: argparse.Namespace) -> None:
    demo = args.corpus == "demo"
    useless = {
        "--root": demo and args.root is not None,
        "--lexicon": demo and args.lexicon is not None,
        "--sampling-rate": demo and args.sampling_rate is not None,
        "--keep-going": demo and args.keep_going,
        "--allow-commands": demo and args.allow_commands,
        "--size": not demo and args.size != "full",
        "--microphone": args.corpus != "ami" and args.microphone is not None,
    }
    for flag, given in useless.items():
        if given:
            raise UsageError(f"{flag} means nothing for the corpus {args.corpus!r}")


class _Written(NamedTuple):
    """One line of the table, and what the pictures show."""

    name: str
    directory: Path
    manifest: Manifest
    seconds: float


def _prepare_demo(args: argparse.Namespace) -> list[_Written]:
    from lhuc_asr.data.corpora.demo import DemoSize, demo_config, prepare
    from lhuc_asr.data.splits import duration
    from lhuc_asr.parallel import num_cores

    manifests = prepare(
        args.out, demo_config(DemoSize[args.size], seed=args.seed), num_jobs=args.num_jobs or num_cores()
    )
    return [
        _Written(name, args.out / name, manifest, sum(map(duration, manifest))) for name, manifest in manifests.items()
    ]


def _prepare(args: argparse.Namespace) -> list[_Written]:
    from lhuc_asr.data.corpora.preparation import Microphone, PrepareOptions
    from lhuc_asr.data.problems import BadDataError
    from lhuc_asr.lang.text import normalise
    from lhuc_asr.parallel import num_cores, set_num_threads

    set_num_threads(1)
    options = PrepareOptions(
        keep_going=args.keep_going,
        allow_commands=args.allow_commands,
        seed=args.seed,
        num_jobs=args.num_jobs or num_cores(),
        lexicon=args.lexicon,
        sampling_rate=args.sampling_rate,
        normalise=normalise,
        microphone=None if args.microphone is None else Microphone[args.microphone],
    )
    try:
        prepared = _preparer(args.corpus)(args.root, args.out, options)
    except BadDataError as error:
        _list(error.problems)
        raise
    _list(prepared.problems)
    if prepared.problems:
        _tell_dropped(prepared.problems)
    return [_Written(each.name, each.directory, each.manifest, each.seconds) for each in prepared.sets]


def _preparer(corpus: str) -> Callable[[Path | None, Path, PrepareOptions], Prepared]:
    import importlib

    prepare: Callable[[Path | None, Path, PrepareOptions], Prepared] = importlib.import_module(
        f"lhuc_asr.data.corpora.{corpus}"
    ).prepare
    return prepare


def _list(problems: Sequence[Problem]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)


def _tell_dropped(problems: Sequence[Problem]) -> None:
    from lhuc_asr.data.problems import summary

    dropped = sorted({identifier for problem in problems for identifier in problem.utterances})
    ids = f": {' '.join(dropped)}" if dropped else ""
    print(f"{summary(problems)}; left out {len(dropped)} utterances{ids}", file=sys.stderr)


def _table(sets: Sequence[_Written]) -> str:
    rows = [("set", "speakers", "utterances", "minutes", "directory")]
    for each in sets:
        counts = (str(len(each.manifest.speakers)), str(len(each.manifest)), f"{each.seconds / 60:.1f}")
        rows.append((each.name, *counts, str(each.directory)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        f"{name:{widths[0]}}  {speakers:>{widths[1]}}  {utterances:>{widths[2]}}  {minutes:>{widths[3]}}  {directory}"
        for name, speakers, utterances, minutes, directory in rows
    )
    return "\n".join(lines)


def _draw(written: _Written, directory: Path, num_pictures: int) -> None:
    """Spectrograms of utterances spread evenly over a set, with the speech that was found in them."""
    from lhuc_asr.files import escape_id

    utterances = written.manifest.utterances
    step = max(1, len(utterances) // num_pictures) if num_pictures else 1
    for utterance in utterances[::step][:num_pictures]:
        path = directory / f"{escape_id(utterance.id)}.png"
        _draw_one(utterance, path)
        print(path)


def _draw_one(utterance: Utterance, path: Path) -> None:
    from lhuc_asr.data.audio import audio_info, read_audio
    from lhuc_asr.data.speech_activity import speech_intervals
    from lhuc_asr.features.spectrogram import draw_spectrogram

    rate = audio_info(utterance.recording).sampling_rate
    samples = read_audio(utterance)
    speech = [(first / rate, last / rate) for first, last in speech_intervals(samples, rate).tolist()]
    title = f"{utterance.id} ({utterance.speaker}): {utterance.transcript or 'no transcript'}"
    draw_spectrogram(samples, rate, path, speech=speech, title=title)
