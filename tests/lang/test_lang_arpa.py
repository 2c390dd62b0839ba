"""ARPA files: what is written is read; what is malformed is refused with its line; back-off as it is defined."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.lang.arpa import ArpaModel, read_arpa, write_arpa

SMALL = """Some text before the data is allowed.

\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-99\t<s>\t-0.3010300
-0.6020600\tA\t-0.1760913
-0.6020600 B
-0.3010300\t</s>

\\2-grams:
-0.1\t<s> A
-0.2\tA B
-0.3\tA </s>

\\end\\
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(text, encoding="utf-8")
    return path


def small(tmp_path: Path) -> ArpaModel:
    return read_arpa(written(tmp_path, SMALL))


def test_a_model_is_read(tmp_path: Path) -> None:
    model = small(tmp_path)
    assert model.order == 2 and model.vocabulary == ("A", "B") and model.unknown_word is None
    assert model.log_probs[("A", "B")] == -0.2 and model.backoffs == {("<s>",): -0.30103, ("A",): -0.1760913}
    assert model.ngrams(2) == [("<s>", "A"), ("A", "</s>"), ("A", "B")]


def test_backing_off_adds_the_weight_of_the_history(tmp_path: Path) -> None:
    model = small(tmp_path)
    assert model.log10_prob("B", ("A",)) == -0.2
    assert model.log10_prob("B", ("X", "A")) == -0.2
    assert model.log10_prob("A", ("A",)) == pytest.approx(-0.1760913 - 0.60206)
    assert model.log10_prob("A", ("B",)) == model.log10_prob("A") == -0.60206
    assert model.log10_prob("X", ("A",)) == -math.inf
    assert not model.knows("X") and model.knows("A")


def test_perplexity_by_hand(tmp_path: Path) -> None:
    result = small(tmp_path).perplexity([["A", "B"], ["A", "X"]])
    # <s> A, A B, B </s> ; <s> A, X unknown, X </s>
    wanted = -0.1 - 0.2 - 0.30103 - 0.1 - 0.30103
    assert result.log10_prob == pytest.approx(wanted)
    assert (result.num_words, result.num_oov, result.num_sentences) == (4, 1, 2)
    assert result.value == pytest.approx(10 ** (-wanted / 5))
    assert "out of vocabulary, 25.00 %" in str(result)
    assert math.isnan(small(tmp_path).perplexity([]).value)


def test_unknown_words_get_the_mass_of_the_unknown_word(tmp_path: Path) -> None:
    model = read_arpa(written(tmp_path, SMALL.replace("\tA", "\t<unk>").replace(" A", " <unk>")))
    assert model.unknown_word == "<unk>"
    assert model.log10_prob("X", ("<s>",)) == -0.1
    assert model.log10_prob("B", ("X",)) == model.log10_prob("B", ("<unk>",))


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_a_model_survives_its_file(tmp_path: Path, name: str) -> None:
    model, path = small(tmp_path), tmp_path / "out" / name
    write_arpa(model, path)
    assert read_arpa(path) == model
    first = path.read_bytes()
    write_arpa(model, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("\\data\\", "data", "line 18: there is no .*data.* section"),
        ("ngram 2=3", "ngram 2=x", "line 5: expected 'ngram N=COUNT'"),
        ("ngram 2=3", "ngram 3=3", "line 5: expected the count of 2-grams"),
        ("ngram 1=4\nngram 2=3", "", "expected 'ngram 1=COUNT'"),
        ("ngram 1=4", "ngram 1=5", "line 13: 5 1-grams are promised, 4 were found"),
        ("\\2-grams:", "\\3-grams:", "line 13: expected .*2-grams:"),
        ("-0.2\tA B", "-0.2\tA", "line 15: a 2-gram has 3 or 4 fields, found 2"),
        ("-0.2\tA B", "-0.2\tA B C D", "line 15: .*found 5"),
        ("-0.2\tA B", "p\tA B", "line 15: expected numbers"),
        ("-0.2\tA B", "0.2\tA B", "line 15: 0.2 is no log10 probability"),
        ("-0.2\tA B", "nan\tA B", "line 15: nan is no log10 probability"),
        ("-0.2\tA B", "-0.2\tA </s>", "line 16: the 2-gram 'A </s>' occurs twice"),
        ("\\end\\", "", "the file ends among the 2-grams, after 3 of 3"),
        ("<s>", "<S>", "has no unigram '<s>'"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_arpa(written(tmp_path, SMALL.replace(old, new)))
    assert "lm.arpa" in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read language model"):
        read_arpa(tmp_path / "absent.arpa")
    (tmp_path / "not.gz").write_text(SMALL)
    with pytest.raises(DataError, match="cannot read language model"):
        read_arpa(tmp_path / "not.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(SMALL.encode())[:-20])
    with pytest.raises(DataError, match="cannot read language model"):
        read_arpa(tmp_path / "cut.gz")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot read language model"):
        read_arpa(tmp_path / "binary")
