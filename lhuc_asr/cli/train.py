"""lhuc-train: from transcribed speech of many speakers to a speaker-independent model directory."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import OK, UsageError, add_overrides, command_parser, main_guard, parse_arguments, start_run
from lhuc_asr.cli._development import Development
from lhuc_asr.cli._flags import add_allow_commands, add_data, add_out

if TYPE_CHECKING:
    from lhuc_asr.system.build_settings import BuildInputs


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "train",
        "Train a speaker-independent hybrid model: features, flat start, tied states, network, decoding graph. "
        "A run that was broken off goes on where it stopped. Several processes share the training of the network "
        "when torchrun starts the command.",
    )
    add_data(parser, "transcribed speech to train on")
    parser.add_argument(
        "--lexicon", metavar="FILE", type=Path, required=True, help="pronunciations, lines: WORD PHONE PHONE ..."
    )
    add_out(parser, "where the model directory goes")
    parser.add_argument(
        "--dev",
        metavar="DIR",
        type=Path,
        help="transcribed speech to tune the decoding settings and to calibrate the confidences on; never test data",
    )
    parser.add_argument(
        "--dev-words",
        metavar="PATH",
        type=Path,
        help="with fmllr=sat, what is said in --dev: a directory of lhuc-decode by another model, or a text file; "
        "without it, the GMM recognises it, where network and GMM have the same tied states",
    )
    language = parser.add_mutually_exclusive_group()
    language.add_argument(
        "--text",
        metavar="FILE",
        type=Path,
        help="sentences for the language model, a line each; without it, the transcripts",
    )
    language.add_argument("--arpa", metavar="FILE", type=Path, help="a language model (ARPA) to use as it is")
    parser.add_argument(
        "--mix-text",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="sentences of another kind, a line each; their language model is mixed with that of --text or of the "
        "transcripts, with the weights that suit the transcripts of --dev best; may be repeated",
    )
    add_allow_commands(parser)
    add_overrides(parser, such_as="model=dnn_paper or lm.order=2")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    config = start_run(args.overrides)
    from lhuc_asr.config.build import build_settings
    from lhuc_asr.config.provenance import write_provenance
    from lhuc_asr.system.build import build_system
    from lhuc_asr.training.processes.distributed import joined, own_device

    inputs = _inputs(args)
    dev = Development.of_command(args, config, inputs.lexicon)
    if dev is not None and args.mix_text:
        inputs = replace(inputs, weighed_on=tuple(dev.manifest.transcripts.values()))
    with joined() as share:
        own_device(config.training.device)  # that it is missing is told now, not after the GMM
        if share.number == 0:
            write_provenance(args.out, config, args.overrides)
        system = build_system(
            inputs, build_settings(config), args.out, seed=config.runtime.seed, num_jobs=config.runtime.jobs
        )
    if share.number > 0:  # what remains is done by the first process
        return OK
    if dev is not None:
        system = dev.tune(system)
        dev.calibrate(system)
    print(f"model {args.out} with fingerprint {system.fingerprint[:16]}")
    return OK


def _inputs(args: argparse.Namespace) -> BuildInputs:
    from lhuc_asr.data.load import load_manifest
    from lhuc_asr.errors import DataError
    from lhuc_asr.lang.arpa import read_arpa
    from lhuc_asr.lang.lexicon import Lexicon, check_words
    from lhuc_asr.lang.text import read_sentences
    from lhuc_asr.system.build_settings import BuildInputs

    if args.mix_text and (args.dev is None or args.arpa is not None):
        raise UsageError("--mix-text needs --dev DIR, whose words decide the weights, and excludes --arpa")
    manifest = load_manifest(args.data, allow_commands=args.allow_commands)
    lexicon = Lexicon.read(args.lexicon)
    check_words(lexicon, manifest.transcripts, said_in=args.data, source=args.lexicon)
    if args.arpa is not None:
        if not args.arpa.is_file():
            raise DataError(f"there is no language model '{args.arpa}'")
        read_arpa(args.arpa)  # a mistake in it is told now, not after the training
    return BuildInputs(
        manifest=manifest,
        lexicon=lexicon,
        sentences=None if args.text is None else read_sentences(args.text),
        mixed_texts=tuple(map(read_sentences, args.mix_text)),
        arpa=args.arpa,
    )
