"""What lhuc-score makes of several systems together: one more, and its words as a Kaldi text."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import UsageError
from lhuc_asr.cli._scored_texts import System

if TYPE_CHECKING:
    from lhuc_asr.decoding.words.hypothesis import Hypothesis
    from lhuc_asr.decoding.words.rover import Heard


def add_combining(parser: argparse.ArgumentParser) -> None:
    """Add ``--combine`` and ``--nothing``."""
    parser.add_argument(
        "--combine",
        metavar="NAME",
        help="put the systems together word by word (ROVER), as one more system whose words go to OUT/NAME/text",
    )
    parser.add_argument(
        "--nothing",
        metavar="CHANCE",
        type=float,
        help="of --combine: how sure a system is of a place where it says nothing, 0 to 1 (tune on development speech)",
    )


def with_combined(args: argparse.Namespace, systems: Mapping[str, System]) -> dict[str, System]:
    """The systems, and one more if ``--combine`` names it: what they say together, also written to ``OUT/NAME/text``.

    Raises:
        UsageError: there is one system only, the name is taken, or ``--nothing`` is given without a name.
    """
    from lhuc_asr.files import escape_id, write_text

    if not args.combine:
        if args.nothing is not None:
            raise UsageError("--nothing is for --combine: give that as well")
        return dict(systems)
    if len(systems) < 2 or args.combine in systems:
        raise UsageError(f"--combine {args.combine!r} needs two systems or more (--hyp), and a name of its own")
    found = _combined(systems, args.nothing)
    path: Path = args.out / escape_id(args.combine) / "text"
    write_text(path, "".join(f"{utterance} {text}".rstrip() + "\n" for utterance, text in found.items()))
    print(f"words of {' and '.join(systems)} together: {path}")
    return {**systems, args.combine: System(found)}


def _combined(systems: Mapping[str, System], nothing: float | None) -> dict[str, str]:
    """Utterance id -> words of all systems together."""
    from lhuc_asr.decoding.words.rover import RoverConfig, rover

    config = RoverConfig() if nothing is None else RoverConfig(nothing=nothing)
    found = {}
    for utterance in sorted({utterance for own in systems.values() for utterance in own.texts}):
        heard = [_heard(own.texts.get(utterance, ""), own.hypotheses.get(utterance)) for own in systems.values()]
        found[utterance] = " ".join(rover(heard, config).words)
    return found


def _heard(text: str, hypothesis: Hypothesis | None) -> Heard:
    """A system's words; all as sure as can be where it tells no confidences, or where they are not of these words."""
    from lhuc_asr.decoding.words.rover import Heard

    words = tuple(text.split())
    confidences = None if hypothesis is None else hypothesis.confidences
    return Heard(words, confidences if confidences is not None and len(confidences) == len(words) else None)
