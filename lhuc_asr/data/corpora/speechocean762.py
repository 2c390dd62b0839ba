"""speechocean762: English read by native speakers of Mandarin, half of them children (OpenSLR 101, arXiv:2104.01378).

Two layouts are known. The original holds ``WAVE/``, ``resource/lexicon.txt``, ``train/`` and ``test/`` with utterance
ids such as 000010011; the re-packed one holds ``lexicon.txt``, ``train/``, ``dev/`` and ``test/`` with the speaker
before them, 0001-000010011. Either gives the sets train, dev and test with ids of the second kind.

The original has no dev set. There, the speakers of its test set are ordered by gender, age and id, and the third of
every five of them becomes dev: 25 of 125, of both genders and of all ages.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lhuc_asr.data.corpora.preparation import (
    Prepared,
    PrepareOptions,
    check_config,
    copy_speaker_table,
    need_root,
    part,
    read_lexicon_lines,
    write_sets,
)
from lhuc_asr.data.kaldi_tables import read_rows
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import Problem
from lhuc_asr.data.validation import Checked, check
from lhuc_asr.errors import DataError

DEV_STRIDE, DEV_PHASE = 5, 2
"""In the original layout, every fifth test speaker from the third on is a dev speaker."""


def prepare(root: Path | None, out: Path, options: PrepareOptions | None = None) -> Prepared:
    """Write ``out/{train,dev,test}`` and ``out/lexicon.txt``, with ``spk2age`` where the corpus has it.

    Raises:
        DataError: the corpus is not there, is of no known layout, or something is wrong in it.
    """
    options = options or PrepareOptions()
    root = need_root(root, out, "speechocean762")
    original = (root / "resource" / "lexicon.txt").is_file() and not (root / "dev").is_dir()
    sets = ("train", "test") if original else ("train", "dev", "test")
    lexicon_path = root / "resource" / "lexicon.txt" if original else root / "lexicon.txt"
    _check_layout(root, sets, lexicon_path)
    lexicon = read_lexicon_lines(options.lexicon or lexicon_path)
    config = check_config(out, options, lexicon)
    checked = {name: check(root / name, config) for name in sets}
    if original:
        checked = _with_dev({name: _renamed(each) for name, each in checked.items()}, _ages(root / "test"))
    prepared = write_sets(checked, out, options, lexicon=lexicon)
    for written in prepared.sets:
        source = root / ("test" if original and written.name == "dev" else written.name) / "spk2age"
        copy_speaker_table(source, written.directory / "spk2age", written.manifest.speakers)
    return prepared


def _check_layout(root: Path, sets: tuple[str, ...], lexicon: Path) -> None:
    needed = [*(root / name / "wav.scp" for name in sets), lexicon]
    missing = ", ".join(repr(str(path.relative_to(root))) for path in needed if not path.is_file())
    if missing:
        raise DataError(
            f"{str(root)!r} is not speechocean762: it lacks {missing}; the corpus is free at "
            "https://www.openslr.org/101, and --root names the unpacked folder"
        )


def _renamed(checked: Checked) -> Checked:
    """The same data with the speaker in front of every utterance id."""
    names = {utterance.id: f"{utterance.speaker}-{utterance.id}" for utterance in checked.manifest}
    utterances = sorted((_renamed_utterance(u, names[u.id]) for u in checked.manifest), key=lambda u: u.id)
    problems = [
        Problem(p.kind, p.where, p.text, tuple(names.get(identifier, identifier) for identifier in p.utterances))
        for p in checked.problems
    ]
    seconds = {names[identifier]: length for identifier, length in checked.seconds.items()}
    return Checked(Manifest(tuple(utterances)), problems, seconds)


def _renamed_utterance(utterance: Utterance, name: str) -> Utterance:
    recording = Recording(name, utterance.recording.source, utterance.recording.channel, utterance.recording.is_command)
    return replace(utterance, id=name, recording=recording)


def _ages(directory: Path) -> dict[str, int]:
    path = directory / "spk2age"
    rows = read_rows(path) if path.is_file() else ()
    return {row.id: int(row.value) for row in rows if row.value.isdecimal()}


def _with_dev(checked: dict[str, Checked], ages: dict[str, int]) -> dict[str, Checked]:
    test = checked["test"]
    dev_speakers = set(choose_dev_speakers(test.manifest, ages))
    dev = test.manifest.where(lambda utterance: utterance.speaker in dev_speakers)
    rest = test.manifest.where(lambda utterance: utterance.speaker not in dev_speakers)
    in_dev = {utterance.id for utterance in dev}
    elsewhere = [problem for problem in test.problems if not in_dev.intersection(problem.utterances)]
    return {
        "train": checked["train"],
        "dev": part(test, dev),
        "test": Checked(rest, elsewhere, test.seconds),
    }


def choose_dev_speakers(manifest: Manifest, ages: dict[str, int]) -> list[str]:
    """The speakers of the original test set that become dev; see the top of this file for the rule."""
    genders = {utterance.speaker: utterance.gender or "" for utterance in manifest}
    ordered = sorted(genders, key=lambda speaker: (genders[speaker], ages.get(speaker, 0), speaker))
    return ordered[DEV_PHASE::DEV_STRIDE]
