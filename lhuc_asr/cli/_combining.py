"""What lhuc-score makes of several systems together: one more, and its words as a Kaldi text."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import UsageError

if TYPE_CHECKING:
    from lhuc_asr.decoding.hypothesis import Hypothesis
    from lhuc_asr.decoding.rover import Heard


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


def combined(
    args: argparse.Namespace, texts: Mapping[str, Mapping[str, str]], hypotheses: Mapping[str, Mapping[str, Hypothesis]]
) -> dict[str, str]:
    """Utterance id -> words of all systems together, written to ``OUT/NAME/text``.

    Args:
        args: with ``combine``, ``nothing`` and ``out``.
        texts: system -> utterance id -> words.
        hypotheses: system -> utterance id -> the same with confidences, where there are any.

    Raises:
        UsageError: there is one system only, or the name is taken.
    """
    from lhuc_asr.decoding.rover import RoverConfig, rover
    from lhuc_asr.files import escape_id, write_text

    if len(texts) < 2 or args.combine in texts:
        raise UsageError(f"--combine {args.combine!r} needs two systems or more (--hyp), and a name of its own")
    config = RoverConfig() if args.nothing is None else RoverConfig(nothing=args.nothing)
    ids = sorted({utterance for own in texts.values() for utterance in own})
    found = {
        utterance: " ".join(
            rover(
                [_heard(own.get(utterance, ""), hypotheses[name].get(utterance)) for name, own in texts.items()], config
            ).words
        )
        for utterance in ids
    }
    path: Path = args.out / escape_id(args.combine) / "text"
    write_text(path, "".join(f"{utterance} {text}".rstrip() + "\n" for utterance, text in found.items()))
    print(f"words of {' and '.join(texts)} together: {path}")
    return found


def _heard(text: str, hypothesis: Hypothesis | None) -> Heard:
    """A system's words; all as sure as can be where it tells no confidences, or where they are not of these words."""
    from lhuc_asr.decoding.rover import Heard

    words = tuple(text.split())
    confidences = None if hypothesis is None else hypothesis.confidences
    return Heard(words, confidences if confidences is not None and len(confidences) == len(words) else None)
