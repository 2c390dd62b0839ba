"""``lhuc-prepare`` as it is typed: exit codes, what is printed where, and which files appear."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.cli.prepare import build_parser, main
from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.kaldi import read_kaldi_dir


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A Kaldi directory with two good utterances, a silent one, and one that is the output of a command."""
    directory = tmp_path / "in" / "set"
    noise = (0.1 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)
    for name, samples in {"a": noise, "b": noise, "silent": 0 * noise}.items():
        write_audio(directory / f"{name}.wav", samples, 8000)
    (directory / "wav.scp").write_text(f"a a.wav\nb b.wav\nc cat {directory}/a.wav |\nsilent silent.wav\n")
    (directory / "utt2spk").write_text("a s\nb t\nc s\nsilent t\n")
    (directory / "text").write_text("a HELLO\nb WORLD\nc HELLO\nsilent HELLO\n")
    return directory


def test_the_flags_are_these() -> None:
    flags = {option for action in build_parser()._actions for option in action.option_strings}
    assert flags == {
        "-h", "--help", "--debug", "--version", "--root", "--out", "--keep-going", "--allow-commands", "--lexicon",
        "--sampling-rate", "--seed", "--num-jobs", "--pictures", "--size", "--microphone",
    }  # fmt: skip


def test_bad_data_is_listed_and_nothing_is_written(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kaldi", "--root", str(corpus), "--out", str(tmp_path / "out"), "--num-jobs", "1"]) == 2
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert out == ""
    assert [line.partition(":")[0] for line in lines] == ["command", "silent", "lhuc-prepare"]
    assert lines[-1].startswith("lhuc-prepare: 'set' has 2 problems (1 command, 1 silent)")
    assert not (tmp_path / "out" / "set").exists()


def test_keep_going_drops_and_lists_what_is_bad(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["kaldi", "--root", str(corpus), "--out", str(tmp_path / "out"), "--num-jobs", "1", "--keep-going"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "2 problems (1 command, 1 silent); left out 2 utterances: c silent" in err
    assert out.splitlines()[1].split() == ["set", "2", "2", "0.0", str(tmp_path / "out" / "set")]
    assert list(read_kaldi_dir(tmp_path / "out" / "set").speaker_of) == ["a", "b"]
    assert main([*command, "--allow-commands"]) == 0
    assert len(read_kaldi_dir(tmp_path / "out" / "set", allow_commands=True)) == 3


def test_every_other_flag_changes_something(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words").write_text("HELLO HH AH0\n")
    command = ["kaldi", "--root", str(corpus), "--out", str(tmp_path / "out"), "--num-jobs", "1", "--keep-going"]
    assert main([*command, "--lexicon", str(tmp_path / "words"), "--pictures", "1"]) == 0
    assert "unknown_word: the lexicon lacks 'WORLD'" in capsys.readouterr().err
    assert (tmp_path / "out" / "lexicon.txt").read_text() == "HELLO HH AH0\n"
    assert (tmp_path / "out" / "pictures" / "set" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--sampling-rate", "16000"]) == 2
    assert "16000 Hz are wanted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["kaldi"], "--root DIR"),
        (["kaldi", "--root", "/no/such/folder"], "does not exist"),
        (["demo", "--root", "x"], "--root means nothing for the corpus 'demo'"),
        (["fsdd", "--size", "smallest"], "--size means nothing"),
        (["fsdd", "--seed", "-1"], "expected one argument|expected a number from 0"),
        (["fsdd", "--sampling-rate", "0"], "expected a number from 1"),
        (["fsdd", "--spk", "x"], "--spk"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(told, err)
    assert not (tmp_path / "out").exists()


def test_help_needs_no_heavy_package() -> None:
    code = (
        "import sys; from lhuc_asr.cli.prepare import main; status = main(['--help']); "
        "heavy = {'torch', 'numpy', 'librosa', 'soundfile', 'lhotse', 'hydra'} & set(sys.modules); "
        "sys.exit(status or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "speechocean762" in done.stdout
