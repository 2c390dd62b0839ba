"""NIST's sclite and sc_stats read our files and come to the same figures."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lhuc_asr.scoring.edit import align_like_sclite
from lhuc_asr.scoring.mapsswe import mapsswe
from lhuc_asr.scoring.sclite import trn_id, write_ctm, write_stm, write_trn
from lhuc_asr.scoring.wer import score

FOLDERS = (Path("/usr/lib/sctk/bin"), *(Path(found).parent for found in [shutil.which("sclite")] if found))
SCTK = next((folder for folder in FOLDERS if (folder / "sclite").is_file()), None)
needs_sctk = [
    pytest.mark.sctk,
    pytest.mark.skipif(SCTK is None, reason="sctk is not installed (apt-get install sctk)"),
]


def run(folder, *arguments, **options):
    result = subprocess.run(
        [str(SCTK / arguments[0]), *arguments[1:]], cwd=folder, capture_output=True, text=True, check=True, **options
    )
    return result.stdout


def sclite(folder, name):
    """sclite's alignments of one system: id -> letters."""
    run(folder, "sclite", "-i", "spu_id", "-r", "ref.trn", "trn", "-h", f"{name}.trn", "trn", "-o", "sgml", "-n", name)
    paths = re.finditer(r'<PATH id="\((.*?)\)".*?>\n(.*?)</PATH>', (folder / f"{name}.sgml").read_text(), re.DOTALL)
    return {path[1]: "".join(cell[0] for cell in path[2].strip().split(":") if cell) for path in paths}


def sc_stats(folder):
    """p of MAPSSWE as sc_stats prints it, with three decimals."""
    both = (folder / "A.sgml").read_text() + (folder / "B.sgml").read_text()
    run(folder, "sc_stats", "-p", "-t", "mapsswe", "-u", "-n", "out", input=both)
    (row,) = re.findall(r"MP\s+\|\|\s+A.trn\s+\|\s+\|([^|]*)\|", (folder / "out.stats.unified").read_text())
    return next(float(word.lstrip("<")) for word in row.split() if re.search(r"\d", word) and word != "B.trn")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("marked", [pytest.param(None, marks=needs_sctk)])
def test_alignments_error_counts_and_p_value_are_those_of_sctk(random_systems, tmp_path, seed, marked):
    systems = random_systems(seed)
    texts = {"A": systems.system(0.35), "B": systems.system((0.35, 0.3, 0.25)[seed % 3])}
    write_trn(tmp_path / "ref.trn", systems.references, systems.speaker_of)
    for name, heard in texts.items():
        write_trn(tmp_path / f"{name}.trn", heard, systems.speaker_of)
        theirs = sclite(tmp_path, name)
        assert len(theirs) == len(heard)
        errors = 0
        for utterance, text in heard.items():
            pairs = align_like_sclite(systems.references[utterance].split(), text.split())
            letters = "".join(pair.edit.value for pair in pairs)
            assert letters == theirs[trn_id(systems.speaker_of[utterance], utterance).lower()]
            errors += len(letters) - letters.count("C")
        assert 0 <= errors - score(systems.references, heard, systems.speaker_of).total.errors <= 3
    test = mapsswe(systems.references, texts["A"], texts["B"])
    z = math.floor(abs(test.z) * 100) / 100  # sc_stats looks p up in a table of Z in steps of 0.01
    theirs = sc_stats(tmp_path)  # 0.001 also stands for anything smaller
    assert theirs == pytest.approx(max(0.001, math.erfc(z / math.sqrt(2))), abs=0.0006)
    assert theirs == pytest.approx(max(0.001, test.p_value), abs=0.009)


@pytest.mark.parametrize("marked", [pytest.param(None, marks=needs_sctk)])
def test_any_id_and_any_word_survives_sclite(tmp_path, marked):
    speaker_of = {"a b (1)": "12_3", "../../x": "José", ";; y": "a-b", "z": "a_b"}
    references = dict.fromkeys(speaker_of, "{ A / B } (C) @ ;; <UNK> %X")
    write_trn(tmp_path / "ref.trn", references, speaker_of)
    write_trn(tmp_path / "A.trn", references, speaker_of)
    assert list(sclite(tmp_path, "A").values()) == ["C" * 10] * 4
    assert len(re.findall("<SPEAKER", (tmp_path / "A.sgml").read_text())) == 4


class TimedWord:
    def __init__(self, text, start, duration, confidence=None):
        self.text, self.start, self.duration, self.confidence = text, start, duration, confidence


@pytest.mark.parametrize("marked", [pytest.param(None, marks=needs_sctk)])
def test_ctm_and_stm_are_read_also_where_nothing_was_recognised(tmp_path, marked):
    speaker_of = {"a-2": "s1", "B-1": "s2", "b 3": "s2"}
    references = {"a-2": "ONE TWO THREE", "B-1": "FOUR FIVE", "b 3": "SIX"}
    heard = {
        "a-2": [TimedWord("ONE", 0.1, 0.2), TimedWord("TOO", 0.4, 0.2), TimedWord("THREE", 0.7, 0.2)],
        "B-1": [],
        "b 3": [TimedWord("SIX", 0.0, 0.5)],
    }
    write_ctm(tmp_path / "A.ctm", heard)
    write_stm(tmp_path / "ref.stm", references, speaker_of, dict.fromkeys(references, 1.0))
    report = run(tmp_path, "sclite", "-r", "ref.stm", "stm", "-h", "A.ctm", "ctm", "-o", "rsum", "stdout")
    row = next(line for line in report.splitlines() if "Sum" in line)
    assert [int(number) for number in re.findall(r"\d+", row)][:7] == [3, 6, 3, 1, 2, 0, 3]


def test_files_without_sctk(tmp_path):
    write_trn(tmp_path / "a.trn", {"u-1": "A B", "u-2": ""}, {"u-1": "s_1", "u-2": "s_1"})
    assert (tmp_path / "a.trn").read_text() == "A B (s%5F1-u-1)\n(s%5F1-u-2)\n"
    write_ctm(tmp_path / "a.ctm", {"u-1": [TimedWord("A", 0.125, 0.25)]})
    assert (tmp_path / "a.ctm").read_text().split() == ["u-1", "1", "0.12", "0.25", "A"]
    write_ctm(tmp_path / "a.ctm", {"u-1": [TimedWord("A", 0.125, 0.25, 0.75)]})
    assert (tmp_path / "a.ctm").read_text() == "u-1 1 0.12 0.25 A 0.750000\n"
