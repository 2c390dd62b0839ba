"""Free Spoken Digit Dataset: isolated digits, 8 kHz, six speakers with different accents (CC BY-SA 4.0).

Two layouts are known: the original repository with ``recordings/{digit}_{speaker}_{index}.wav``, and a re-packed one,
a Kaldi directory ``all/`` with ``lexicon.txt``. Either gives the set ``all``, and one folder for each speaker who is
left out, ``without-<speaker>/{train,dev,test}``: test is the speaker, train and dev are the others, and dev holds a
tenth of the utterances of each of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from lhuc_asr.data.corpora.preparation import (
    Prepared,
    PrepareOptions,
    check_config,
    need_root,
    part,
    read_lexicon_lines,
    write_sets,
)
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import Problem, ProblemKind
from lhuc_asr.data.splits import hold_out_utterances
from lhuc_asr.data.validation import CheckConfig, Checked, check
from lhuc_asr.errors import DataError
from lhuc_asr.files import escape_id

DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")

LEXICON = (
    "EIGHT EY1 T",
    "FIVE F AY1 V",
    "FOUR F AO1 R",
    "NINE N AY1 N",
    "ONE W AH1 N",
    "SEVEN S EH1 V AH0 N",
    "SIX S IH1 K S",
    "THREE TH R IY1",
    "TWO T UW1",
    "ZERO Z IH1 R OW0",
)
"""Pronunciations for the original layout, which has none; the phones are those of the CMU dictionary."""

DEV_FRACTION = 0.1

_FILE_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[^_]+)_(?P<index>[0-9]+)")


def prepare(root: Path | None, out: Path, options: PrepareOptions | None = None) -> Prepared:
    """Write ``out/all``, ``out/without-<speaker>/{train,dev,test}`` for every speaker, and ``out/lexicon.txt``.

    Raises:
        DataError: the corpus is not there, is of no known layout, or something is wrong in it.
    """
    options = options or PrepareOptions()
    root = need_root(root, out, "fsdd")
    lexicon = _lexicon(root, options)
    config = check_config(out, options, lexicon)
    if (root / "all" / "wav.scp").is_file():
        checked = check(root / "all", config)
    elif (root / "recordings").is_dir():
        checked = _check_recordings(root / "recordings", config)
    else:
        raise DataError(
            f"{str(root)!r} is not the Free Spoken Digit Dataset: it lacks both 'recordings/' and 'all/wav.scp'; "
            "the corpus is free at https://github.com/Jakobovski/free-spoken-digit-dataset"
        )
    prepared = write_sets({"all": checked}, out, options, lexicon=lexicon)
    good = prepared.sets[0].manifest
    parts = write_sets(leave_one_out(Checked(good, [], checked.seconds), seed=options.seed), out, options)
    return Prepared((*prepared.sets, *parts.sets), prepared.lexicon, prepared.problems)


def leave_one_out(checked: Checked, *, seed: int) -> dict[str, Checked]:
    """For every speaker the sets ``without-<speaker>/train``, ``.../dev`` and ``.../test``."""
    sets = {}
    for speaker in checked.manifest.speakers:
        others = checked.manifest.of_speakers(other for other in checked.manifest.speakers if other != speaker)
        if not others.utterances:
            raise DataError(f"only {speaker!r} speaks here: nobody is left to train on when one speaker is left out")
        halves = hold_out_utterances(others, fraction=DEV_FRACTION, seed=seed)
        folder = f"without-{escape_id(speaker)}"
        sets[f"{folder}/train"] = part(checked, halves.kept)
        sets[f"{folder}/dev"] = part(checked, halves.held_out)
        sets[f"{folder}/test"] = part(checked, checked.manifest.of_speaker(speaker))
    return sets


def _lexicon(root: Path, options: PrepareOptions) -> list[str]:
    path = options.lexicon or root / "lexicon.txt"
    return read_lexicon_lines(path) if options.lexicon or path.is_file() else list(LEXICON)


def _check_recordings(directory: Path, config: CheckConfig) -> Checked:
    utterances, problems = [], []
    for path in sorted(directory.glob("*.wav")):
        if match := _FILE_NAME.fullmatch(path.stem):
            identifier = f"{match['speaker']}-{match['digit']}-{int(match['index']):02d}"
            digit = DIGITS[int(match["digit"])]
            recording = Recording(identifier, str(path))
            utterances.append(Utterance(identifier, recording, match["speaker"], transcript=digit))
        else:
            text = f"the file name {path.name!r} is not of the form DIGIT_SPEAKER_INDEX.wav"
            problems.append(Problem(ProblemKind.bad_line, str(path), text))
    if not utterances:
        raise DataError(f"{str(directory)!r} holds no recording named DIGIT_SPEAKER_INDEX.wav")
    utterances.sort(key=lambda utterance: utterance.id)
    checked = check(Manifest(tuple(utterances)), config)
    return Checked(checked.manifest, [*problems, *checked.problems], checked.seconds)
