"""Corpora in miniature, in each layout that they are known to come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.corpora import fsdd, kaldi, lhotse, speechocean762
from lhuc_asr.data.corpora.preparation import PrepareOptions, read_lexicon_lines
from lhuc_asr.data.kaldi import read_kaldi_dir
from lhuc_asr.data.lhotse_manifests import write_lhotse
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import BadDataError
from lhuc_asr.errors import DataError

RATE = 8000


def speak(path: Path, seconds: float = 0.1) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    write_audio(path.with_suffix(".wav"), noise.astype(np.float32), RATE)
    path.with_suffix(".wav").rename(path)


def table(path: Path, rows: dict[str, str], separator: str = " ") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}{separator}{rows[key]}\n" for key in sorted(rows)), encoding="utf-8")


def original_speechocean(root: Path) -> Path:
    """WAVE/SPEAKERxxxx/*.WAV, tables separated by tabs, train and test only."""
    for name, speakers in {"train": range(1, 3), "test": range(3, 13)}.items():
        ids = {f"{speaker:05d}{index:04d}": f"{speaker:04d}" for speaker in speakers for index in (7, 9)}
        paths = {identifier: f"WAVE/SPEAKER{speaker}/{identifier}.WAV" for identifier, speaker in ids.items()}
        for path in paths.values():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            speak(root / path)
        table(root / name / "wav.scp", paths, "\t")
        table(root / name / "utt2spk", ids, "\t")
        table(root / name / "text", dict.fromkeys(ids, "WE CALL"), "\t")
        table(root / name / "spk2gender", {f"{s:04d}": "f" if s % 2 else "m" for s in speakers}, "\t")
        table(root / name / "spk2age", {f"{s:04d}": str(40 - s) for s in speakers}, "\t")
    (root / "resource").mkdir()
    (root / "resource" / "lexicon.txt").write_text("CALL  K AO0 L\nCALL  K AO0 L\nWE\tW IY0\n", encoding="utf-8")
    return root


def test_speechocean_in_its_original_layout(tmp_path: Path) -> None:
    prepared = speechocean762.prepare(original_speechocean(tmp_path / "corpus"), tmp_path / "out")
    sets = {each.name: read_kaldi_dir(tmp_path / "out" / each.name) for each in prepared.sets}
    assert {name: len(manifest.speakers) for name, manifest in sets.items()} == {"train": 2, "dev": 2, "test": 8}
    assert not set(sets["dev"].speakers) & set(sets["test"].speakers)
    first = sets["train"].utterances[0]
    assert (first.id, first.speaker, first.gender, first.transcript) == ("0001-000010007", "0001", "f", "WE CALL")
    assert Path(first.recording.source) == tmp_path / "corpus/WAVE/SPEAKER0001/000010007.WAV"
    assert (tmp_path / "out/lexicon.txt").read_text() == "CALL K AO0 L\nWE W IY0\n"
    ages = (tmp_path / "out/dev/spk2age").read_text().split()[::2]
    assert tuple(ages) == sets["dev"].speakers
    assert prepared.sets[0].seconds == pytest.approx(0.4)


def test_dev_speakers_are_every_fifth_by_gender_age_and_id() -> None:
    people = {f"{n:02d}": ("f" if n < 6 else "m", 30 - n % 3) for n in range(12)}
    manifest = Manifest(tuple(Utterance(s, Recording(s, "x"), s, gender=gender) for s, (gender, _) in people.items()))
    ages = {speaker: age for speaker, (_, age) in people.items()}
    ordered = sorted(people, key=lambda speaker: (*people[speaker], speaker))
    assert speechocean762.choose_dev_speakers(manifest, ages) == [ordered[2], ordered[7]]


def test_speechocean_repacked(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    (root / "audio").mkdir(parents=True)
    for speaker, name in enumerate(["train", "dev", "test"]):
        identifier = f"000{speaker}-1"
        speak(root / "audio" / f"{speaker}.wav")
        table(root / name / "wav.scp", {identifier: f"audio/{speaker}.wav"})
        table(root / name / "utt2spk", {identifier: f"000{speaker}"})
        table(root / name / "text", {identifier: "WE"})
    (root / "lexicon.txt").write_text("WE W IY0\n", encoding="utf-8")
    prepared = speechocean762.prepare(root, tmp_path / "out")
    assert [each.manifest.utterances[0].id for each in prepared.sets] == ["0000-1", "0001-1", "0002-1"]
    assert read_kaldi_dir(tmp_path / "out" / "dev").speakers == ("0001",)


def test_another_folder_is_not_speechocean(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks 'train/wav\.scp'.*openslr"):
        speechocean762.prepare(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="--root"):
        speechocean762.prepare(None, tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        fsdd.prepare(tmp_path / "no", tmp_path / "out")
    with pytest.raises(DataError, match="write over"):
        speechocean762.prepare(tmp_path, tmp_path)


def digits(root: Path, names: list[str]) -> Path:
    (root / "recordings").mkdir(parents=True)
    for name in names:
        speak(root / "recordings" / f"{name}.wav")
    return root


def test_fsdd_in_its_original_layout(tmp_path: Path) -> None:
    names = [f"{digit}_{speaker}_{index}" for digit in (0, 7) for speaker in ("jo", "theo") for index in range(6)]
    prepared = fsdd.prepare(digits(tmp_path / "corpus", names), tmp_path / "out")
    everything = read_kaldi_dir(tmp_path / "out" / "all")
    assert len(everything) == 24
    assert everything.transcripts["theo-7-05"] == "SEVEN"
    assert read_lexicon_lines(tmp_path / "out" / "lexicon.txt") == list(fsdd.LEXICON)
    assert [each.name for each in prepared.sets][:4] == [
        "all",
        "without-jo/train",
        "without-jo/dev",
        "without-jo/test",
    ]
    train, dev, test = (read_kaldi_dir(tmp_path / "out" / "without-jo" / name) for name in ("train", "dev", "test"))
    assert (train.speakers, dev.speakers, test.speakers) == (("theo",), ("theo",), ("jo",))
    assert (len(train), len(dev), len(test)) == (11, 1, 12)
    assert not set(train.speaker_of) & set(dev.speaker_of)


def test_fsdd_tells_strange_file_names(tmp_path: Path) -> None:
    root = digits(tmp_path / "corpus", ["0_jo_0", "0_theo_0", "1_jo_0", "1_theo_0", "noise"])
    with pytest.raises(BadDataError, match=r"'noise\.wav' is not of the form"):
        fsdd.prepare(root, tmp_path / "out")
    assert len(fsdd.prepare(root, tmp_path / "out", PrepareOptions(keep_going=True)).sets[0].manifest) == 4


def kaldi_set(directory: Path, **silent: bool) -> None:
    """Utterances of one speaker; those with a true value are silent."""
    directory.mkdir(parents=True)
    for name, quiet in silent.items():
        speak(directory / f"{name}.wav") if not quiet else write_audio(
            directory / f"{name}.wav", np.zeros(800, np.float32), RATE
        )
    table(directory / "wav.scp", {name: f"{name}.wav" for name in silent})
    table(directory / "utt2spk", dict.fromkeys(silent, "s"))
    table(directory / "text", dict.fromkeys(silent, "hello"))


def test_kaldi_takes_one_directory_or_a_folder_of_them(tmp_path: Path) -> None:
    kaldi_set(tmp_path / "in" / "a", u1=False)
    kaldi_set(tmp_path / "in" / "b", u1=False, u2=False)
    one = kaldi.prepare(tmp_path / "in" / "b", tmp_path / "one")
    assert [(each.name, len(each.manifest)) for each in one.sets] == [("b", 2)]
    (tmp_path / "in" / "lexicon.txt").write_text("HELLO HH AH0\n", encoding="utf-8")
    two = kaldi.prepare(tmp_path / "in", tmp_path / "two")
    assert [(each.name, len(each.manifest)) for each in two.sets] == [("a", 1), ("b", 2)]
    assert two.lexicon == tmp_path / "two" / "lexicon.txt"
    with pytest.raises(DataError, match=r"holds a wav\.scp"):
        kaldi.prepare(tmp_path, tmp_path / "three")
    with pytest.raises(DataError, match="write over"):
        kaldi.prepare(tmp_path / "in" / "b", tmp_path / "in")


def test_one_bad_set_stops_all_sets_unless_told_to_go_on(tmp_path: Path) -> None:
    kaldi_set(tmp_path / "in" / "a", u1=False)
    kaldi_set(tmp_path / "in" / "b", u1=False, u2=True)
    with pytest.raises(BadDataError, match="1 silent"):
        kaldi.prepare(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "a").exists()
    prepared = kaldi.prepare(tmp_path / "in", tmp_path / "out", PrepareOptions(keep_going=True))
    assert [problem.utterances for problem in prepared.problems] == [("u2",)]
    assert list(read_kaldi_dir(tmp_path / "out" / "b").speaker_of) == ["u1"]


def test_lhotse_manifests_become_a_kaldi_directory(tmp_path: Path) -> None:
    speak(tmp_path / "a.wav", 0.5)
    utterance = Utterance("u", Recording("r", str(tmp_path / "a.wav")), "s", 0.1, 0.3, "HELLO")
    write_lhotse(Manifest((utterance,)), tmp_path / "in")
    prepared = lhotse.prepare(tmp_path / "in", tmp_path / "out")
    assert [(each.name, each.seconds) for each in prepared.sets] == [("all", pytest.approx(0.2))]
    assert read_kaldi_dir(tmp_path / "out" / "all").utterances == (utterance,)


def test_a_lexicon_without_phones_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("A AH0\nB\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2: the word 'B' has no phones"):
        read_lexicon_lines(tmp_path / "lexicon.txt")
