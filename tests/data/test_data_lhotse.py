"""Lhotse manifests: ours are read by lhotse, lhotse's are read by us."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lhuc_asr.data.audio import read_audio, write_audio
from lhuc_asr.data.lhotse_manifests import find_manifests, inspect_lhotse, read_lhotse, write_lhotse
from lhuc_asr.data.load import load_manifest
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import DataError

lhotse = pytest.importorskip("lhotse")
RATE = 16000


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    noise = (0.1 * np.random.default_rng(0).standard_normal((RATE, 2))).astype(np.float32)
    soundfile.write(tmp_path / "stereo.wav", noise, RATE, subtype="FLOAT")
    write_audio(tmp_path / "mono.flac", noise[:8000, 0], RATE)
    stereo, mono = str(tmp_path / "stereo.wav"), str(tmp_path / "mono.flac")
    return Manifest(
        (
            Utterance("a b", Recording("mono", mono), "José Ω", transcript="HELLO", gender="f"),
            Utterance("c", Recording("stereo", stereo, 1), "../../x", 0.25, 0.75, ""),
            Utterance("d", Recording("stereo", stereo, 0), "12_3", 0.5, 0.9),
        )
    )


def test_what_is_written_is_read_back(manifest: Manifest, tmp_path: Path) -> None:
    write_lhotse(manifest, tmp_path / "out")
    assert read_lhotse(tmp_path / "out") == manifest
    assert load_manifest(tmp_path / "out") == manifest
    assert read_lhotse(tmp_path / "out" / "recordings.jsonl.gz") == manifest


def test_paths_are_written_so_that_they_are_found_from_everywhere(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near = [
        replace(each, recording=replace(each.recording, source=Path(each.recording.source).name)) for each in manifest
    ]
    write_lhotse(Manifest(tuple(near)), Path("deep/down/out"))
    monkeypatch.chdir("/")
    assert read_lhotse(tmp_path / "deep" / "down" / "out") == manifest


def test_lhotse_reads_what_is_written_and_hears_the_same(manifest: Manifest, tmp_path: Path) -> None:
    write_lhotse(manifest, tmp_path / "out")
    recordings = lhotse.RecordingSet.from_jsonl(tmp_path / "out" / "recordings.jsonl.gz")
    supervisions = lhotse.SupervisionSet.from_jsonl(tmp_path / "out" / "supervisions.jsonl.gz")
    for utterance, supervision in zip(manifest, supervisions, strict=True):
        recording = next(each for each in recordings if each.id == supervision.recording_id)
        heard = recording.load_audio(
            channels=supervision.channel, offset=supervision.start, duration=supervision.duration
        )
        np.testing.assert_allclose(read_audio(utterance), heard[0], atol=1e-7)


def test_cuts_are_read_too(manifest: Manifest, tmp_path: Path) -> None:
    write_lhotse(manifest, tmp_path / "out")
    cuts = lhotse.CutSet.from_manifests(
        lhotse.RecordingSet.from_jsonl(tmp_path / "out" / "recordings.jsonl.gz"),
        lhotse.SupervisionSet.from_jsonl(tmp_path / "out" / "supervisions.jsonl.gz"),
    )
    cuts.trim_to_supervisions(keep_overlapping=False).to_jsonl(tmp_path / "cuts_dev.jsonl")
    assert read_lhotse(tmp_path / "cuts_dev.jsonl") == manifest
    assert load_manifest(tmp_path / "cuts_dev.jsonl") == manifest


def test_sets_are_named_after_their_files(tmp_path: Path) -> None:
    for name in ("libri_recordings_train.jsonl.gz", "libri_supervisions_train.jsonl.gz", "cuts_dev.jsonl"):
        (tmp_path / name).touch()
    assert [each.name for each in find_manifests(tmp_path)] == ["dev", "train"]
    with pytest.raises(DataError, match=r"2 sets; name one of 'cuts_dev.jsonl'"):
        read_lhotse(tmp_path)
    (tmp_path / "libri_supervisions_train.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"no 'libri_supervisions_train\.jsonl\.gz' beside it"):
        find_manifests(tmp_path)
    with pytest.raises(DataError, match="no lhotse manifest"):
        find_manifests(tmp_path / "nothing")


def test_relative_paths_and_problems(manifest: Manifest, tmp_path: Path) -> None:
    recordings = [
        lhotse.Recording("r", [lhotse.audio.AudioSource("file", [0], "mono.flac")], RATE, 8000, 0.5),
        lhotse.Recording("gone", [lhotse.audio.AudioSource("file", [0], "gone.wav")], RATE, 8000, 0.5),
        lhotse.Recording("run", [lhotse.audio.AudioSource("command", [0], "cat x")], RATE, 8000, 0.5),
    ]
    supervisions = [
        lhotse.SupervisionSegment("a", "r", 0, 0.5, speaker="s", gender="Female"),
        lhotse.SupervisionSegment("b", "r", 0, 0.5),
        lhotse.SupervisionSegment("c", "never", 0, 0.5, speaker="s"),
        lhotse.SupervisionSegment("d", "gone", 0, 0.5, speaker="s"),
        lhotse.SupervisionSegment("e", "run", 0, 0.5, speaker="s"),
        lhotse.SupervisionSegment("f", "r", 0, 0.5, channel=3, speaker="s"),
        lhotse.SupervisionSegment("a", "r", 0, 0.2, speaker="s"),
    ]
    directory = tmp_path / "lhotse"
    directory.mkdir()
    lhotse.RecordingSet.from_recordings(recordings).to_jsonl(directory / "recordings.jsonl")
    with (directory / "supervisions.jsonl").open("w") as stream:
        stream.writelines(f"{lhotse_json(each)}\n" for each in supervisions)
    inspected = inspect_lhotse(find_manifests(directory)[0])
    told = [(problem.kind.name, problem.where) for problem in inspected.problems]
    assert told == [
        ("no_speaker", "b"),
        ("no_audio_entry", "c"),
        ("missing_audio", "d"),
        ("command", "e"),
        ("channel", "f"),
        ("duplicated", "a"),
    ]
    first = inspected.manifest.utterances[0]
    assert (first.gender, first.recording.source) == ("f", str(tmp_path / "mono.flac"))
    with pytest.raises(DataError, match="6 problems"):
        read_lhotse(directory)


def test_missing_audio_can_be_left_to_who_reads_it(manifest: Manifest, tmp_path: Path) -> None:
    write_lhotse(manifest, tmp_path / "out")
    (tmp_path / "mono.flac").unlink()
    with pytest.raises(DataError, match="1 missing_audio"):
        load_manifest(tmp_path / "out")
    assert load_manifest(tmp_path / "out", allow_missing=True) == manifest
    (tmp_path / "stereo.wav").unlink()
    with pytest.raises(DataError, match="3 missing_audio"):
        load_manifest(tmp_path / "out", allow_missing=True)


def test_audio_that_is_neither_a_file_nor_a_command_is_refused(tmp_path: Path) -> None:
    sources = {"r": ("url", "https://speech.example/r.wav"), "s": ("file", "s.wav")}
    recordings = [
        lhotse.Recording(name, [lhotse.audio.AudioSource(kind, [0], source)], RATE, 8000, 0.5)
        for name, (kind, source) in sources.items()
    ]
    write_audio(tmp_path / "s.wav", np.zeros(8000, np.float32), RATE)
    lhotse.RecordingSet.from_recordings(recordings).to_jsonl(tmp_path / "recordings.jsonl")
    spoken = [lhotse.SupervisionSegment(f"{name}1", name, 0, 0.5, speaker="x") for name in sources]
    lhotse.SupervisionSet.from_segments(spoken).to_jsonl(tmp_path / "supervisions.jsonl")
    with pytest.raises(DataError, match=r"1 problem \(1 unreadable_audio\): .*the audio of 'r1' is a 'url'"):
        load_manifest(tmp_path, allow_missing=True)


def lhotse_json(item: object) -> str:
    import json

    return json.dumps(item.to_dict())  # type: ignore[attr-defined]


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cuts.jsonl").write_text("{nonsense\n")
    with pytest.raises(DataError, match="not a lhotse CutSet"):
        read_lhotse(tmp_path)
