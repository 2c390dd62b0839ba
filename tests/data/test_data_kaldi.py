"""Kaldi directories: what is written is read back, and what is wrong is told all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhuc_asr.data.audio import read_audio
from lhuc_asr.data.kaldi import inspect_kaldi_dir, read_kaldi_dir, write_kaldi_dir
from lhuc_asr.data.load import load_manifest
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import BadDataError, ProblemKind
from lhuc_asr.errors import AudioError, DataError

BLANKS = " \t\r\n\f\v"
ids = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=BLANKS + "\ufeff"), min_size=1, max_size=8)
words = st.lists(ids, max_size=4).map(" ".join)
times = st.one_of(st.none(), st.tuples(st.floats(0, 100), st.one_of(st.none(), st.floats(100.5, 1e4, allow_nan=False))))


def write(directory: Path, **tables: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        (directory / {"wav": "wav.scp"}.get(name, name)).write_text(text, encoding="utf-8")
    return directory


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    speakers = draw(st.dictionaries(ids, st.sampled_from(["m", "f", None]), min_size=1, max_size=3))
    utterances = []
    for name in sorted(draw(st.sets(ids, min_size=1, max_size=5))):
        speaker = draw(st.sampled_from(sorted(speakers)))
        stretch = draw(times)
        channel = draw(st.integers(0, 1))
        start, end = stretch or (0.0, None)
        recording = Recording(name if stretch is None else f"rec-{name}", f"run {name} x", channel, is_command=True)
        transcript = draw(st.one_of(st.none(), words))
        utterances.append(Utterance(name, recording, speaker, start, end, transcript, speakers[speaker]))
    return Manifest(tuple(utterances))


@settings(max_examples=60, deadline=None)
@given(manifest=manifests())
def test_a_directory_is_read_back_as_it_was_written(
    manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("kaldi")
    write_kaldi_dir(manifest, directory)
    assert read_kaldi_dir(directory, allow_commands=True) == manifest


def test_audio_is_found_absolute_beside_the_tables_and_beside_their_directory(tmp_path: Path) -> None:
    paths = [tmp_path / "far" / "a b.wav", tmp_path / "set" / "near.wav", tmp_path / "audio" / "c.wav"]
    touch(*paths)
    wav = f"a {paths[0]}\nb near.wav\nc audio/c.wav\n"
    manifest = read_kaldi_dir(write(tmp_path / "set", wav=wav, utt2spk="a s\nb s\nc s\n"))
    assert [Path(utterance.recording.source) for utterance in manifest] == paths


def test_problems_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    directory = write(tmp_path / "set", wav="a a.wav\nb b.wav\n", utt2spk="a s\nb s\n")
    (directory / "segments").write_text("a a zero 1\nb b zero 1\n")
    with pytest.raises(DataError, match=r"bad_line: the segment of 'a' .* bad_line: the segment of 'b'"):
        read_kaldi_dir(directory)


def test_missing_audio_names_every_place_that_was_tried(tmp_path: Path) -> None:
    directory = write(tmp_path / "set", wav="a x/a.wav\n", utt2spk="a s\n")
    with pytest.raises(DataError, match="missing_audio") as refused:
        read_kaldi_dir(directory)
    assert repr(str(directory / "x/a.wav")) in str(refused.value)
    assert repr(str(tmp_path / "x/a.wav")) in str(refused.value)


def test_missing_audio_can_be_left_to_who_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "set" / "a.wav", tmp_path / "elsewhere" / "b.wav")
    segments = "u1 a 0 1\nu2 b 0 1\nu3 b 1 2\n"
    directory = write(tmp_path / "set", wav="a a.wav\nb b.wav\n", segments=segments, utt2spk="u1 s\nu2 s\nu3 t\n")
    monkeypatch.chdir(tmp_path / "elsewhere")  # a file of the same name that happens to lie here is another one
    manifest = load_manifest(directory, allow_missing=True)
    assert manifest.speaker_of == {"u1": "s", "u2": "s", "u3": "t"}
    for utterance in ("u2", "u3"):
        (asked,) = manifest.where(lambda each, name=utterance: each.id == name)
        with pytest.raises(AudioError, match=f"the audio of 'b' does not exist: '{directory / 'b.wav'}'"):
            read_audio(asked)
    (directory / "a.wav").unlink()
    with pytest.raises(BadDataError, match=r"2 problems \(2 missing_audio\)"):
        load_manifest(directory, allow_missing=True)


def test_commands_are_refused_unless_allowed(tmp_path: Path) -> None:
    directory = write(tmp_path, wav="a flac -dcs 'a b.flac' |\n", utt2spk="a s\n")
    with pytest.raises(DataError, match="--allow-commands"):
        read_kaldi_dir(directory)
    (utterance,) = read_kaldi_dir(directory, allow_commands=True)
    assert utterance.recording == Recording("a", "flac -dcs 'a b.flac'", is_command=True)


def test_segments_give_times_and_channel(tmp_path: Path) -> None:
    touch(tmp_path / "r.wav")
    segments = "u1 r 0.5 1.25\nu2 r 2 -1 1\n"
    manifest = read_kaldi_dir(write(tmp_path, wav="r r.wav\n", segments=segments, utt2spk="u1 s\nu2 s\n"))
    assert [(u.start, u.end, u.recording.channel) for u in manifest] == [(0.5, 1.25, 0), (2.0, None, 1)]


def test_text_is_normalised_to_single_blanks_and_may_be_missing(tmp_path: Path) -> None:
    touch(tmp_path / "r.wav")
    text = "a  HELLO \t WORLD\r\nb\n"
    wav = "a r.wav\nb r.wav\nc r.wav\n"
    manifest = read_kaldi_dir(write(tmp_path, wav=wav, text=text, utt2spk="a s\nb s\nc s\n"))
    assert [utterance.transcript for utterance in manifest] == ["HELLO WORLD", "", None]


def test_every_problem_of_the_tables_is_told_at_once(tmp_path: Path) -> None:
    touch(tmp_path / "r.wav")
    directory = write(
        tmp_path,
        wav="b r.wav\na r.wav\nc r.wav\nc elsewhere.wav\nd r.wav\n",
        text="a HELLO\nx WORLD\n",
        utt2spk="a s1\nb s1\nc s1\ne s1\nf two words\n",
        spk2gender="nobody m\ns1 f\n",
    )
    found = inspect_kaldi_dir(directory)
    told = {(problem.kind, problem.where, problem.utterances) for problem in found.problems}
    assert told == {
        (ProblemKind.unsorted, str(tmp_path / "wav.scp"), ()),
        (ProblemKind.duplicated, "c", ("c",)),
        (ProblemKind.no_speaker, "d", ("d",)),
        (ProblemKind.bad_line, "f", ("f",)),
        (ProblemKind.no_audio_entry, "e", ("e",)),
        (ProblemKind.no_audio_entry, "f", ("f",)),
        (ProblemKind.no_utterance, "nobody", ()),
        (ProblemKind.no_utterance, "x", ()),
    }
    with pytest.raises(BadDataError, match="8 problems") as refused:
        read_kaldi_dir(directory)
    assert refused.value.problems == tuple(found.problems)


def test_an_utterance_of_two_speakers_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "r.wav")
    names = ("a", "b", "c", "d")
    directory = write(
        tmp_path,
        wav="".join(f"{name} r.wav\n" for name in names),
        utt2spk="a s1\nb s1\nc s2\nd s2\n",
        spk2utt="s1 a c\ns2 c d x\n",
    )
    found = inspect_kaldi_dir(directory).problems
    assert {problem.kind for problem in found} == {ProblemKind.speakers_differ}
    assert [(problem.where, problem.utterances) for problem in found] == [("b", ()), ("c", ("c",)), ("x", ())]
    assert [problem.text.partition(";")[0] for problem in found] == [
        "'b' is of 's1' by utt2spk, spk2utt lacks it",
        "'c' is of 's2' by utt2spk, spk2utt gives it to 's1' and 's2'",
        "'x' is not in utt2spk, spk2utt gives it to 's2'",
    ]
    assert all(problem.text.endswith("spk2utt can be made anew from utt2spk") for problem in found)


def test_a_repeated_line_is_a_problem_that_costs_no_utterance(tmp_path: Path) -> None:
    touch(tmp_path / "r.wav")
    found = inspect_kaldi_dir(write(tmp_path, wav="a r.wav\na r.wav\n", utt2spk="a s\n"))
    assert [(p.kind, p.utterances) for p in found.problems] == [(ProblemKind.duplicated, ())]
    assert [utterance.id for utterance in found.manifest] == ["a"]


@pytest.mark.parametrize("segment", ["r 1", "r one 2", "r 0 nan", "r 0 1 2 3", "r 0 1 left"])
def test_a_malformed_segment_is_quoted(tmp_path: Path, segment: str) -> None:
    touch(tmp_path / "r.wav")
    directory = write(tmp_path, wav="r r.wav\n", segments=f"u {segment}\n", utt2spk="u s\n")
    with pytest.raises(DataError, match=f"'u' is '{segment}'"):
        read_kaldi_dir(directory)


def test_what_is_left_unused_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "r.wav")
    tables = {"segments": "u r 0 1\nv r 1 2\n", "utt2spk": "u s\nv s\n", "text": "u HELLO\n"}
    read_kaldi_dir(write(tmp_path, wav="q r.wav\nr r.wav\n", **tables))
    assert "no segment lies in 1 recordings" in caplog.text
    assert "1 of 2 utterances have no transcript" in caplog.text


def test_a_segment_in_an_unknown_recording_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "r.wav")
    directory = write(tmp_path, wav="r r.wav\n", segments="u q 0 1\n", utt2spk="u s\n")
    with pytest.raises(DataError, match="recording 'q'"):
        read_kaldi_dir(directory)


def test_absent_and_empty_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_kaldi_dir(tmp_path / "none")
    with pytest.raises(DataError, match=r"utt2spk' does not exist"):
        read_kaldi_dir(write(tmp_path / "half", wav=""))
    with pytest.raises(DataError, match="no utterance"):
        read_kaldi_dir(write(tmp_path / "empty", wav="", utt2spk=""))


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, utt2spk="a s\n")
    (directory / "wav.scp").write_bytes(b"a \xff\xfe.wav\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_kaldi_dir(directory)


@pytest.mark.parametrize("speaker", ["a b", "", "tab\tbed", "line\nfeed"])
def test_an_id_that_kaldi_cannot_hold_is_not_written(tmp_path: Path, speaker: str) -> None:
    manifest = Manifest((Utterance("u", Recording("u", "u.wav"), speaker),))
    with pytest.raises(DataError, match="cannot stand in a Kaldi directory"):
        write_kaldi_dir(manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_paths_are_written_so_that_they_are_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "sounds" / "a.wav")
    monkeypatch.chdir(tmp_path)
    write_kaldi_dir(Manifest((Utterance("a", Recording("a", "sounds/a.wav"), "s"),)), Path("deep/down/data"))
    monkeypatch.chdir("/")
    read = read_kaldi_dir(tmp_path / "deep" / "down" / "data")
    assert read.utterances[0].recording.source == str(tmp_path / "sounds" / "a.wav")


def test_contradictions_are_not_written(tmp_path: Path) -> None:
    a, b = Recording("r", "a.wav"), Recording("r", "b.wav")
    for second in (Utterance("v", b, "s", 0.0, 1.0), Utterance("v", a, "s", gender="f"), Utterance("u", a, "s")):
        with pytest.raises(DataError, match=r"two|has two"):
            write_kaldi_dir(Manifest((Utterance("u", a, "s", gender="m"), second)), tmp_path / "out")


def test_rewriting_leaves_no_table_of_before(tmp_path: Path) -> None:
    recording = Recording("r", "run", is_command=True)
    write_kaldi_dir(Manifest((Utterance("u", recording, "s", 0.0, 1.0, "HELLO", "m"),)), tmp_path)
    write_kaldi_dir(Manifest((Utterance("r", recording, "s"),)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spk2utt", "utt2spk", "wav.scp"]


def test_load_tells_apart_what_lies_there(tmp_path: Path) -> None:
    touch(tmp_path / "corpus" / "r.wav")
    write(tmp_path / "corpus" / "dev", wav="a r.wav\n", utt2spk="a s\n")
    assert load_manifest(tmp_path / "corpus" / "dev").speakers == ("s",)
    with pytest.raises(DataError, match=r"sets inside it: 'dev'"):
        load_manifest(tmp_path / "corpus")
    with pytest.raises(DataError, match="does not exist"):
        load_manifest(tmp_path / "nothing")
