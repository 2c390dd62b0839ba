"""What ``lhuc-train`` is given is looked at before anything is trained; nothing is written where it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tones import SETTINGS, WORDS, Run, write_corpus
from lhuc_asr.cli.train import main


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Arguments of a training whose lexicon is still to be given."""
    data = write_corpus(tmp_path / "data", {"ann": 1.0}, num_utterances=4, seed=0)
    return ["--data", str(data), "--out", str(tmp_path / "out"), *SETTINGS]


def lexicon(tmp_path: Path, words: str) -> list[str]:
    path = tmp_path / "lexicon.txt"
    path.write_text("".join(f"{word} {WORDS.get(word, 'AH')}\n" for word in words.split()))
    return ["--lexicon", str(path)]


def test_a_lexicon_of_other_words_is_refused(command: list[str], tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, [*command, *lexicon(tmp_path, "one two not woo")])
    assert code == 2
    assert f"12 of 12 words of '{tmp_path / 'data'}' are not in '{tmp_path / 'lexicon.txt'}': '" in err
    assert err.splitlines()[-1].endswith("; is it the right lexicon, is its case the same?")
    assert not (tmp_path / "out").exists()


def test_a_kaldi_text_is_no_lexicon(command: list[str], tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, [*command, "--lexicon", str(tmp_path / "data" / "text")])
    assert code == 2 and "12 of 12 words" in err
    assert not (tmp_path / "out").exists()


def test_a_lexicon_of_other_words_than_those_of_dev_is_refused(command: list[str], tmp_path: Path, run: Run) -> None:
    dev = write_corpus(tmp_path / "dev", {"eve": 1.0}, num_utterances=2, seed=1)
    (dev / "text").write_text("eve-00 EINS ZWEI DREI\neve-01 VIER ONE EINS\n")
    code, _, err = run(main, [*command, *lexicon(tmp_path, " ".join(WORDS)), "--dev", str(dev)])
    assert code == 2
    assert (
        f"5 of 6 words of '{dev}' are not in '{tmp_path / 'lexicon.txt'}': 'EINS', 'ZWEI', 'DREI', 'VIER'; is it" in err
    )
    assert not (tmp_path / "out").exists()


ARPA = "\\data\\\nngram 1=2\n\n\\1-grams:\n-0.3 <s>\n-0.3 </s>\n\n\\end\\\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("ONE W AH N\n", "line 1: there is no \\data\\ section; is this an ARPA file?"),
        (ARPA.removesuffix("\n\\end\\\n"), "line 6: the file ends among the 1-grams"),
    ],
)
def test_a_language_model_is_read_at_once(
    content: str, said: str, command: list[str], tmp_path: Path, run: Run
) -> None:
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(content)
    code, _, err = run(main, [*command, *lexicon(tmp_path, " ".join(WORDS)), "--arpa", str(arpa)])
    assert code == 2
    assert f"language model '{arpa}'" in err and said in err
    assert not (tmp_path / "out").exists()
