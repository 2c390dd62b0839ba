"""lhuc-score in process: what it prints, writes and refuses."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from lhuc_asr.cli.score import build_parser, main
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word, write_hypotheses

REFERENCES = {"a-1": "ONE TWO THREE FOUR", "a-2": "FIVE SIX", "b-1": "SEVEN EIGHT NINE"}
BEFORE = {"a-1": "ONE TOO TREE FOUR", "a-2": "FIVE", "b-1": "SEVEN NINE"}
AFTER = {"a-1": "ONE TWO TREE FOUR", "a-2": "FIVE SIX", "b-1": "SEVEN NINE"}


def write_text(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{utterance} {text}".strip() + "\n" for utterance, text in texts.items()), encoding="utf-8"
    )
    return str(path)


@pytest.fixture
def data(tmp_path):
    write_text(tmp_path / "data" / "text", REFERENCES)
    write_text(tmp_path / "data" / "utt2spk", {utterance: utterance[0] for utterance in REFERENCES})
    return str(tmp_path / "data")


def write_system(directory, texts):
    hypotheses = []
    for utterance, text in texts.items():
        words = tuple(Word(word, 0.2 * index, 0.2) for index, word in enumerate(text.split()))
        hypotheses.append(Hypothesis(utterance, words, np.ones(150, np.int32), 0.0, 0.0))
    write_hypotheses(directory, hypotheses)
    return str(directory)


def test_one_system(data, tmp_path, capsys):
    hyp = write_text(tmp_path / "hyp", BEFORE)
    assert main(["--ref", data, "--hyp", f"SI={hyp}", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "%WER 44.44 [ 4 / 9, 0 ins, 2 del, 2 sub ]" in printed
    assert [line.split()[0] for line in printed.splitlines()[2:5]] == ["a", "b", "all"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["SI.trn", "ref.trn", "results.json"]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["comparisons"] == []


def test_two_systems_are_compared(data, tmp_path, capsys):
    before, after = write_system(tmp_path / "si", BEFORE), write_system(tmp_path / "lhuc", AFTER)
    arguments = ["--ref", data, "--hyp", f"SI={before}", "--hyp", f"L/1={after}", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--alignments"]) == 0
    printed = capsys.readouterr().out
    assert "relative change   -50.00 %" in printed
    assert "1 better, 1 same, 0 worse" in printed
    assert "MAPSSWE" in printed and "bootstrap" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("ref.trn", "ref.stm", "SI.trn", "L%2F1.trn", "SI.ctm", "L%2F1.ctm", "results.json", "SI-L%2F1.png"),
        *("SI.alignments.txt", "L%2F1.alignments.txt"),
    }
    assert "a-1 1 0.20 0.20 TOO" in (tmp_path / "out" / "SI.ctm").read_text()
    assert "a-1 1 a 0.00 1.50 ONE TWO THREE FOUR" in (tmp_path / "out" / "ref.stm").read_text()
    (between,) = json.loads((tmp_path / "out" / "results.json").read_text())["comparisons"]
    assert (between["first"], between["second"], between["relative_change"]) == ("SI", "L/1", -50.0)


def test_confidences_are_judged_where_there_are_any(data, tmp_path, capsys):
    def heard(utterance, words):
        timed = tuple(Word(word, 0.2 * index, 0.2, sure) for index, (word, sure) in enumerate(words))
        return Hypothesis(utterance, timed, np.ones(50, np.int32), 0.0, 0.0, frame_shift_ms=30.0)

    sure = [
        heard("a-1", [("one", 0.9), ("too", 0.1), ("three", 0.8), ("four", 0.9)]),
        heard("a-2", []),
        heard("b-1", [("seven", 0.9), ("ate", 0.2)]),
    ]
    write_hypotheses(tmp_path / "sure", sure)
    before = write_text(tmp_path / "before", BEFORE)
    arguments = ["--ref", data, "--hyp", f"SI={before}", "--hyp", f"B={tmp_path / 'sure'}", "--normalise"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "confidences of B: normalised cross-entropy 0.773" in printed  # by hand: (5.510 - 1.252) / 5.510
    assert "area under the error-detection curve 1.000 (6 words, 66.7 % right)" in printed
    systems = json.loads((tmp_path / "out" / "results.json").read_text())["systems"]
    assert "confidences" not in systems["SI"]
    assert systems["B"]["confidences"]["num_correct"] == 4
    assert systems["B"]["confidences"]["error_detection_area"] == 1.0
    assert "a-1 1 0.20 0.20 TOO 0.100000" in (tmp_path / "out" / "B.ctm").read_text()
    assert "a-1 1 a 0.00 1.50 ONE" in (tmp_path / "out" / "ref.stm").read_text()


def test_characters(data, tmp_path, capsys):
    hyp = write_text(tmp_path / "hyp", BEFORE)
    assert main(["--ref", data, "--hyp", f"SI={hyp}", "--out", str(tmp_path), "--cer"]) == 0
    assert "%CER" in capsys.readouterr().out


def test_normalise_and_common(data, tmp_path, capsys):
    hyp = write_text(tmp_path / "hyp", {"a-1": "one, two; three four.", "unknown": "x"})
    arguments = ["--ref", data, "--hyp", f"SI={hyp}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "SI:" in error and "'a-2'" in error and "'unknown'" in error and error.count("\n") == 1
    assert main([*arguments, "--common"]) == 0
    printed = capsys.readouterr().out
    assert "scoring 1 utterances; 3 are not" in printed and "%WER 100.00" in printed
    assert main([*arguments, "--common", "--normalise"]) == 0
    assert "%WER 0.00" in capsys.readouterr().out


def test_a_reference_file_needs_speakers(data, tmp_path, capsys):
    text = write_text(tmp_path / "refs.txt", REFERENCES)
    arguments = ["--ref", text, "--hyp", f"SI={text}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "give --utt2spk" in capsys.readouterr().err
    assert main([*arguments, "--utt2spk", f"{data}/utt2spk"]) == 0
    assert "%WER 0.00" in capsys.readouterr().out


def test_profiles_are_drawn(data, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from lhuc_asr.lhuc.amplitude import Amplitude
    from lhuc_asr.profiles.format import Profile, save_profile

    for speaker in ("a", "../b"):
        r = {f"layers.{index}.activation": torch.linspace(-0.2, 0.3, 20) for index in range(2)}
        profile = Profile(speaker=speaker, base_fingerprint="f" * 64, amplitude=Amplitude.exp, r=r)
        save_profile(profile, tmp_path / "profiles")
    before, after = write_text(tmp_path / "si", BEFORE), write_text(tmp_path / "lhuc", AFTER)
    arguments = ["--ref", data, "--hyp", f"SI={before}", "--hyp", f"LHUC={after}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    without = (tmp_path / "out" / "SI-LHUC.png").read_bytes()
    assert main([*arguments, "--profiles", str(tmp_path / "profiles")]) == 0
    with_both = (tmp_path / "out" / "SI-LHUC.png").read_bytes()
    assert with_both != without
    other = Profile(speaker="failed", base_fingerprint="e" * 64, amplitude=Amplitude.exp, r={"1": torch.ones(3)})
    save_profile(other, tmp_path / "profiles")
    assert main([*arguments, "--profiles", str(tmp_path / "profiles")]) == 0
    assert (tmp_path / "out" / "SI-LHUC.png").read_bytes() == with_both  # who is not scored is not drawn
    capsys.readouterr()
    assert main([*arguments, "--profiles", str(tmp_path / "nothing")]) == 2
    told = capsys.readouterr()
    assert "no profiles" in told.err and told.out == ""
    assert main([*arguments[:4], *arguments[6:], "--profiles", str(tmp_path / "profiles")]) == 2
    assert "give a second --hyp" in capsys.readouterr().err


def test_what_people_said_is_no_hypothesis_of_theirs(data, tmp_path, capsys):
    assert main(["--ref", data, "--hyp", f"SI={data}", "--out", str(tmp_path / "out")]) == 2
    assert "is a data directory with transcripts (it has utt2spk)" in capsys.readouterr().err


def test_where_only_the_spelling_differs_it_is_said(data, tmp_path, capsys, caplog):
    lower = write_text(tmp_path / "hyp", {utterance: text.lower() for utterance, text in REFERENCES.items()})
    arguments = ["--ref", data, "--hyp", f"SI={lower}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "SI ever says 0 of 9 reference words as they are written, 9 of them but for case" in caplog.text
    caplog.clear()
    assert main([*arguments, "--normalise"]) == 0
    assert "reference words" not in caplog.text
    assert "%WER 0.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hyp", "complaint"),
    [
        ("nowhere", "write NAME=PATH"),
        ("=x", "write NAME=PATH"),
        ("ref=x", "'ref' is taken"),
        ("SI=/nonexistent/x", "no hypotheses of 'SI'"),
    ],
)
def test_mistakes_in_one_line(data, tmp_path, capsys, hyp, complaint):
    assert main(["--ref", data, "--hyp", hyp, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.startswith("lhuc-score: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_utterance_twice_is_refused(data, tmp_path, capsys):
    (tmp_path / "hyp").write_text("a-1 ONE\na-1 TWO\n")
    assert main(["--ref", data, "--hyp", f"SI={tmp_path / 'hyp'}", "--out", str(tmp_path / "out")]) == 2
    assert "'a-1' stands there twice" in capsys.readouterr().err


def test_flags_are_known():
    flags = {option for action in build_parser()._actions for option in action.option_strings}
    assert flags == {
        *("-h", "--help", "--debug", "--version", "--ref", "--hyp", "--out", "--utt2spk", "--groups", "--profiles"),
        *("--verdicts", "--compare", "--curve", "--combine", "--nothing"),
        *("--alignments", "--cer", "--normalise", "--common"),
    }
    assert isinstance(build_parser(), argparse.ArgumentParser)


def test_groups_of_speakers_are_told_apart(data, tmp_path, capsys):
    groups = write_text(tmp_path / "spk2group", {"a": "adults", "b": "children", "c": "children"})
    before, after = write_text(tmp_path / "si", BEFORE), write_text(tmp_path / "lhuc", AFTER)
    systems = ["--hyp", f"SI={before}", "--hyp", f"LHUC={after}"]
    assert main(["--ref", data, *systems, "--out", str(tmp_path / "out"), "--groups", groups]) == 0
    title, _, first, second = capsys.readouterr().out.splitlines()[:4]
    assert title.split() == ["WER", "adults", "(6", "words)", "children", "(3", "words)"]
    assert (first.split(), second.split()) == (["SI", "50.00", "33.33"], ["LHUC", "16.67", "33.33"])
    found = json.loads((tmp_path / "out" / "results.json").read_text())["systems"]["SI"]["groups"]
    assert {group: counts["errors"] for group, counts in found.items()} == {"adults": 3, "children": 1}


def test_a_speaker_without_a_group_is_named(data, tmp_path, capsys):
    groups = write_text(tmp_path / "spk2group", {"a": "adults"})
    system = write_text(tmp_path / "si", BEFORE)
    assert main(["--ref", data, "--hyp", f"SI={system}", "--out", str(tmp_path / "out"), "--groups", groups]) == 2
    assert "no group is named for the speakers 'b'" in capsys.readouterr().err


def test_verdicts_are_compared_with_what_happened(data, tmp_path, capsys):
    verdicts = tmp_path / "guarded" / "status"
    verdicts.mkdir(parents=True)
    for speaker, verdict in {"a": "accepted", "b": "fell back"}.items():
        (verdicts / f"{speaker}.json").write_text(json.dumps({"speaker": speaker, "guard": {"verdict": verdict}}))
    arguments = ["--ref", data, "--hyp", f"SI={write_text(tmp_path / 'si', BEFORE)}", "--out", str(tmp_path / "out")]
    arguments += ["--verdicts", str(tmp_path / "guarded")]
    assert main(arguments) == 2
    assert "--verdicts needs --hyp of the first pass" in capsys.readouterr().err
    assert main([*arguments, "--hyp", f"LHUC={write_text(tmp_path / 'lhuc', AFTER)}"]) == 0
    printed = capsys.readouterr().out
    assert "right: 1 of 2 speakers" in printed and "without guard: 1 helped, 1 same, 0 harmed" in printed
    found = json.loads((tmp_path / "out" / "results.json").read_text())["verdicts"]
    assert found["confusion"]["fell back"] == {"helped": 0, "same": 1, "harmed": 0}


def test_a_curve_takes_the_place_of_pictures_of_pairs(data, tmp_path, capsys):
    before, after = write_text(tmp_path / "si", BEFORE), write_text(tmp_path / "lhuc", AFTER)
    systems = ["--hyp", f"SI={before}", "--hyp", f"SAT@0.1={before}", "--hyp", f"SAT@0.5={after}"]
    assert main(["--ref", data, *systems, "--out", str(tmp_path / "out"), "--curve", "gamma"]) == 0
    assert "curve.png" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["curve.png"]
    assert main(["--ref", data, *systems[:4], "--out", str(tmp_path / "none"), "--curve", "gamma"]) == 2
    assert "a curve needs two systems" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_systems_are_put_together(data, tmp_path, capsys):
    heard = {"x": {"a-1": "ONE TWO TREE FOUR", "a-2": "FIVE", "b-1": "SEVEN NINE"}, "y": BEFORE, "z": AFTER}
    systems = [f"--hyp={name}={write_text(tmp_path / name, texts)}" for name, texts in heard.items()]
    arguments = ["--ref", data, *systems, "--out", str(tmp_path / "out")]
    assert main([*arguments, "--combine", "all"]) == 0
    assert (tmp_path / "out" / "all" / "text").read_text() == "a-1 ONE TWO TREE FOUR\na-2 FIVE SIX\nb-1 SEVEN NINE\n"
    assert "words of x and y and z together" in capsys.readouterr().out
    assert main([*arguments, "--combine", "all", "--nothing", "0.99"]) == 0
    assert (tmp_path / "out" / "all" / "text").read_text().splitlines()[1] == "a-2 FIVE"
    found = json.loads((tmp_path / "out" / "results.json").read_text())["systems"]
    assert list(found) == ["x", "y", "z", "all"]
    assert main([*arguments, "--combine", "x"]) == 2
    assert "needs two systems or more" in capsys.readouterr().err
    assert main([*arguments, "--combine", "all", "--nothing", "2"]) == 2
