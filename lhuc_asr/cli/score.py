"""lhuc-score: error rates of a system, or what lies between several; significance, files for sclite, a picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lhuc_asr.cli._combining import add_combining, with_combined
from lhuc_asr.cli._common import OK, UsageError, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._comparing import add_comparing, compare_runs, refuse_foreign
from lhuc_asr.cli._score_report import draw, print_results, read_scales, write_results, write_texts
from lhuc_asr.cli._score_results import results_of
from lhuc_asr.cli._scored_texts import (
    References,
    System,
    add_comparability,
    add_texts,
    common,
    named_paths,
    normalised,
    read_references,
    read_system,
    warn_of_spelling,
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "score",
        "Count errors, per speaker and in all; with two systems or more, compare each with the first: matched-pairs "
        "test (MAPSSWE), bootstrap over speakers, speakers better and worse, and a picture. Where words have "
        "confidences, tell what these are worth: normalised cross-entropy, area under the error-detection curve.",
    )
    add_texts(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="where results.json, pictures and the files for sclite (trn, ctm, stm) go",
    )
    parser.add_argument(
        "--groups",
        metavar="FILE",
        type=Path,
        help="lines: SPEAKER GROUP; tells the errors of every group as well, such as children and adults",
    )
    parser.add_argument(
        "--profiles", metavar="DIR", type=Path, help="profiles whose scales the picture of two systems shall show"
    )
    parser.add_argument(
        "--verdicts",
        metavar="DIR",
        type=Path,
        help="--out of lhuc-adapt with a guard; tells how often it was right. The systems are then the first pass, "
        "adaptation without the guard and, where there is a third, with it",
    )
    add_comparing(parser)
    parser.add_argument(
        "--curve",
        metavar="LABEL",
        help="draw the error rates of systems named LINE@NUMBER against the number, which this label explains, and "
        "those of all others as levels, in place of the pictures of pairs",
    )
    add_combining(parser)
    parser.add_argument("--alignments", action="store_true", help="write every utterance word by word")
    parser.add_argument("--cer", action="store_true", help="count characters instead of words")
    add_comparability(parser)
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    if args.compare:
        refuse_foreign(args)
        references = read_references(args.ref, args.utt2spk)
        compare_runs(args.compare, references.texts, references.speaker_of, args.out)
        return OK
    references, systems = _texts(args)
    results = results_of(args, references, systems)
    scales = read_scales(args.profiles, results) if args.profiles else None
    print_results(results)
    write_texts(args.out, references, systems)
    write_results(args, results)
    draw(args, results, scales)
    return OK


def _texts(args: argparse.Namespace) -> tuple[References, dict[str, System]]:
    """What is compared, as far as the command line asks for it."""
    paths = named_paths(args.hyp)
    if args.verdicts and len(paths) not in (2, 3):
        raise UsageError("--verdicts needs --hyp of the first pass, of adaptation without a guard, and perhaps with it")
    if args.profiles and len(paths) < 2:
        raise UsageError("--profiles shows scales beside what lies between two systems: give a second --hyp")
    references = read_references(args.ref, args.utt2spk)
    systems = {name: read_system(name, path) for name, path in paths.items()}
    if args.normalise:
        references, systems = normalised(references, systems)
    else:
        warn_of_spelling(references, systems)
    systems = with_combined(args, systems)
    return common(references, systems) if args.common else (references, systems)
