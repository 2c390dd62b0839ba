"""The recipes of corpora, each from a miniature of the corpus's own layout to its tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers.miniatures import LEXICON, make_ami, make_aurora4, make_speechocean762, make_swbd, make_tedlium
from lhuc_asr.cli import prepare
from lhuc_asr.data.load import load_manifest
from lhuc_asr.files import read_json, write_json

RECIPES = Path(__file__).parent.parent.parent / "recipes"
MAKERS: dict[str, Callable[[Path], Path]] = {
    "tedlium": make_tedlium,
    "ami": make_ami,
    "swbd": make_swbd,
    "aurora4": make_aurora4,
}
SMALL = [
    *("features.fbank.num_mel_bins=16", "model.num_layers=2", "model.hidden_dim=64", "model.context=3"),
    "build.valid_fraction=0.3",
    *("gmm.num_leaves=20", "gmm.num_gaussians=60", "gmm.mono_gaussians=40", "gmm.mono_iterations=5"),
    *("gmm.min_occupancy=20", "gmm.triphone_rounds=1", "gmm.triphone_iterations=2", "training.batch_size=64"),
    *("training.newbob.max_epochs=3", "training.newbob.initial_lr=0.2", "adapt.min_seconds=0.5"),
    *("tuning.acoustic_scales=[0.1]", "tuning.insertion_penalties=[0.0]", "runtime=one_core", "decoding.beam=11"),
    "fmllr.min_frames=300",
]
FEW_STATES = {"swbd": ["lda.dim=12", "lda.mllt_passes=[1]"]}
"""Recipe -> what suits the few tied states and passes of a miniature, besides."""

OF_ANY_KIND = [
    *(setting for setting in SMALL if not setting.startswith(("model.", "training.newbob.initial_lr"))),
    *("model.hidden_dim=128", "training.newbob.initial_lr=0.01", "training.sequences.max_frames=1000"),
    *("chain.min_occupancy=10", "chain.num_leaves=20"),
]
"""The same for time delays and LF-MMI beside a DNN, all of them in the steps of Adam."""


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    path.write_text(LEXICON)
    return path


def prepared(name: str, tmp_path: Path, *more: str) -> Path:
    root, out = MAKERS[name](tmp_path / "corpus"), tmp_path / "data"
    assert prepare.main([name, "--root", str(root), "--out", str(out), "--num-jobs", "1", *more]) == 0
    return out


def test_tedlium_talks_are_speakers_and_words_are_whole(tmp_path: Path) -> None:
    out = prepared("tedlium", tmp_path)
    train = load_manifest(out / "train")
    assert train.speakers == ("AnnA_2010", "BenB_2011", "CatC_2009", "DanD_2012") and len(train) == 40
    assert {word for text in train.transcripts.values() for word in text.split()} == {"ONE", "TWO", "NOT", "WOO"}
    assert "ONE W AH AH N" in (out / "lexicon.txt").read_text().splitlines()


def test_tedlium_is_whole_without_the_sets_of_iwslt(tmp_path: Path) -> None:
    assert (prepared("tedlium", tmp_path) / "tst2013" / "text").exists()
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "corpus" / "legacy" / "tst2013")
    command = ["tedlium", "--root", str(tmp_path / "corpus"), "--out", str(tmp_path / "data"), "--num-jobs", "1"]
    assert prepare.main(command) == 0
    assert {path.name for path in (tmp_path / "data").iterdir() if path.is_dir()} == {"train", "dev", "test"}


@pytest.mark.parametrize("microphone", ["ihm", "sdm"])
def test_ami_meetings_are_heard_through_either_microphone(tmp_path: Path, lexicon: Path, microphone: str) -> None:
    out = prepared("ami", tmp_path, "--lexicon", str(lexicon), "--microphone", microphone)
    train, test = load_manifest(out / "train"), load_manifest(out / "test")
    assert set(train.speakers) == {"MEE001", "FEE002", "MEE003", "FEE004"}
    assert set(test.speakers) == {"MEE007", "FEE008"}
    sources = {Path(utterance.recording.source).name for utterance in test}
    expected = {"ES2004a.Headset-0.wav", "ES2004a.Headset-1.wav"} if microphone == "ihm" else {"ES2004a.Array1-01.wav"}
    assert sources == expected


def test_swbd_sides_are_speakers_and_markup_is_gone(tmp_path: Path, lexicon: Path) -> None:
    out = prepared("swbd", tmp_path, "--lexicon", str(lexicon))
    sets = {name: load_manifest(out / name) for name in ("train", "dev", "eval2000_swb", "eval2000_che")}
    assert set(sets["train"].speakers).isdisjoint(sets["dev"].speakers)
    assert sets["eval2000_swb"].speakers == ("sw_4390-A", "sw_4390-B")
    assert sets["eval2000_che"].speakers == ("en_4156-A", "en_4156-B")
    for manifest in sets.values():
        assert {word for text in manifest.transcripts.values() for word in text.split()} <= {"ONE", "TWO", "NOT", "WOO"}
    channels = {utterance.speaker[-1]: utterance.recording.channel for utterance in sets["train"]}
    assert channels == {"A": 0, "B": 1}


def test_aurora4_conditions_stand_in_a_table(tmp_path: Path, lexicon: Path) -> None:
    out = prepared("aurora4", tmp_path, "--lexicon", str(lexicon))
    test = load_manifest(out / "test")
    table = dict(line.split() for line in (out / "test" / "utt2env").read_text().splitlines())
    assert table.keys() == {utterance.id for utterance in test} and len(set(table.values())) == 14
    assert test.speakers == ("440", "441") and len(load_manifest(out / "dev")) == 14


def test_aurora4_speakers_in_conditions_are_speakers_of_their_own(tmp_path: Path, lexicon: Path) -> None:
    out = prepared("aurora4", tmp_path, "--lexicon", str(lexicon))
    pairs, test = load_manifest(out / "test_environments"), load_manifest(out / "test")
    assert [(one.id, one.recording.source, one.transcript) for one in pairs] == [
        (one.id, one.recording.source, one.transcript) for one in test
    ]
    assert len(pairs.speakers) == 2 * 14 and "03-440" in pairs.speakers
    tables = {
        name: dict(row.split(maxsplit=1) for row in (out / "test_environments" / name).read_text().splitlines())
        for name in ("utt2env", "utt2clean", "spk2condition", "spk2factors")
    }
    assert set(tables["utt2clean"].values()) == {"440", "441"} and len(tables["utt2clean"]) == 2
    found = [tables["spk2condition"][f"{condition:02}-440"] for condition in range(1, 15)]
    assert found == ["clean", *["noise"] * 6, "channel", *["both"] * 6]
    assert tables["spk2factors"]["03-440"] == "440 03"


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("tedlium", "legacy/dev/stm", "is not TED-LIUM: it lacks 'dev/stm'"),
        ("tedlium", "legacy/tst2013/stm", "is not TED-LIUM: it lacks 'tst2013/stm'"),
        ("tedlium", "TEDLIUM.152k.dic", "has no '*.dic' with pronunciations; --lexicon FILE gives another"),
        ("ami", "ami_public_manual_1.6.2", "is not AMI: it lacks 'ami_public_manual_1.6.2/corpusResources'"),
        ("ami", "ami_public_manual_1.6.2/words", "is not AMI: it lacks 'ami_public_manual_1.6.2/words'"),
        ("ami", "ES2004a", "cannot be read as AMI: No recordings left"),
        ("swbd", "LDC2002T43", "is not Switchboard and HUB5 2000: it lacks 'LDC2002T43'"),
        ("swbd", "LDC97S62/swb1_d1", "cannot be read as Switchboard"),
        ("aurora4", "lists/test07_0330_16k.list", "is not Aurora4: it lacks 'lists/test07_0330_16k.list'"),
        ("aurora4", "wsj0", "has no transcripts: no *.dot of WSJ0 below it"),
        ("aurora4", "test_03/440/440c0200.wv1", "440c0200.wv1' stands in a list and does not exist"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, spoil: str, said: str
) -> None:
    root = MAKERS[name](tmp_path / "corpus")
    path = root / spoil
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code = prepare.main([name, "--root", str(root), "--out", str(tmp_path / "data"), "--num-jobs", "1"])
    err = capsys.readouterr().err
    assert code != 0 and said in err and "Traceback" not in err
    assert not (tmp_path / "data" / "train").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", MAKERS)
def test_a_recipe_runs_from_the_corpus_to_the_papers_table(name: str, tmp_path: Path, lexicon: Path) -> None:
    (tmp_path / "fisher.txt").write_text("ONE TWO NOT\nWOO TWO\n" * 20)
    mixed = ["--mix-text", str(tmp_path / "fisher.txt")] if name in ("ami", "swbd") else []  # as the paper does
    done = ran(name, tmp_path, lexicon, *mixed)
    rows = [line for line in done.splitlines() if line.startswith("| ")]
    assert len(rows) == len((RECIPES / name / "paper.tsv").read_text().splitlines())
    assert {row.split(" | ")[1] for row in rows if "not run" in row} <= {"tst2011 = tst2011"}, "a set that is not there"


@pytest.mark.timeout(600)
def test_rows_that_were_not_run_are_told(tmp_path: Path, lexicon: Path) -> None:
    said = ran("tedlium", tmp_path, lexicon, "--stop-stage", "adapt")
    assert "| " not in said
    rows = [line for line in ran("tedlium", tmp_path, lexicon, "--stage", "table").splitlines() if " = " in line]
    published = [row.split("\t") for row in (RECIPES / "tedlium" / "paper.tsv").read_text().splitlines()[1:]]
    assert [not row.endswith("| not run |") for row in rows] == [
        results == "si_lhuc" and name != "tst2011=tst2011" for _, results, _, name, *_ in published
    ]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_real_speech_is_recognised_scored_by_age_adapted_to_and_heard(tmp_path: Path, lexicon: Path) -> None:
    said = ran("speechocean762", tmp_path, lexicon, "--stop-stage", "adapt")
    exp = tmp_path / "recipes" / "speechocean762" / "exp"
    for name in ("dev", "test"):
        system = read_json(exp / "decode" / name / "score" / "results.json")["systems"]["SI"]
        assert {group: counts["num_words"] for group, counts in system["groups"].items()} == {
            "adults": 12, "children": 12
        }  # fmt: skip
        for protocol in ("two_pass", "enrolment"):
            assert set(read_json(exp / protocol / name / "results.json")["systems"]) == {"SI", "LHUC"}
    assert "children" in said and "adults" in said
    ran("speechocean762", tmp_path, lexicon, script="condition.sh")
    for name in ("dev", "test"):
        systems = read_json(exp / "conditioned" / "score" / name / "results.json")["systems"]
        assert set(systems) == {"SI", "utterance", "session", "LHUC", "both"}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_speakers_and_environments_are_told_apart(tmp_path: Path, lexicon: Path) -> None:
    ran("speechocean762", tmp_path, lexicon, "--stop-stage", "prepare")
    few = ["environments.noises=[pink]", "environments.channels=[handset]"]
    ran("speechocean762", tmp_path, lexicon, *few, script="environments.sh")
    exp = tmp_path / "recipes" / "speechocean762" / "exp" / "environments"
    systems = read_json(exp / "score" / "results.json")["systems"]
    assert set(systems) == {"SI", "speaker", "environment", "joint", "alpha_0.5", "alpha_0.7", "product", "again"}
    assert all(set(one["groups"]) == {"clean", "noise", "channel", "both"} for one in systems.values())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_speaker_is_learnt_from_the_words_of_two_other_systems(tmp_path: Path, lexicon: Path) -> None:
    given = ("--corpus", str(tmp_path / "corpus"))
    ran("speechocean762", tmp_path, lexicon, *given, script="cross.sh", settings=OF_ANY_KIND)
    exp = tmp_path / "recipes" / "speechocean762" / "exp"
    for name in ("dev", "test"):
        combined = read_json(exp / "two" / name / "results.json")["systems"]
        assert set(combined) == {"LF", "CE", "both"}
        found = read_json(exp / "cross" / name / "results.json")
        assert set(found["systems"]) == {"SI", "LHUC, words targets"} and not found["failed_speakers"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_distant_microphone_has_figures_of_its_own(tmp_path: Path, lexicon: Path) -> None:
    for stages in (["--stop-stage", "prepare"], ["--stage", "cnn", "--stop-stage", "cnn"], ["--stage", "table"]):
        said = ran("ami", tmp_path, lexicon, "--microphone", "sdm", *stages)
    assert "| SDM CNN + LHUC | eval = test | 53.1 | VIII | " in said
    assert "not run" not in said and " DNN" not in said


def test_a_language_model_is_given_once(tmp_path: Path, lexicon: Path) -> None:
    with pytest.raises(AssertionError, match="--text and --arpa: give one language model"):
        ran("tedlium", tmp_path, lexicon, "--text", "lm.txt", "--arpa", "lm.arpa", "--stage", "table")
    with pytest.raises(AssertionError, match="--text and --arpa: give one language model"):
        ran("tedlium", tmp_path, lexicon, "--mix-text", "lm.txt", "--arpa", "lm.arpa", "--stage", "table")


def test_sets_together_count_every_word_alike(tmp_path: Path) -> None:
    for name, errors, num_words in (("swb", 1, 10), ("che", 9, 30)):
        write_json(
            tmp_path / "lhuc" / name / "results.json",
            {"systems": {"SI": {"total": {"errors": errors, "num_words": num_words}}}},
        )
    (tmp_path / "paper.tsv").write_text(
        "system\tresults\twhich\tset\ttable\tpublished\n"
        "DNN\tlhuc\tsi\tCHE=che\tXII\t28.2\nDNN\tlhuc\tsi\ttotal=swb+che\tXII\t21.7\nDNN\tlhuc\tsi\tboth=swb+more\t-\t0\n"
    )
    command = [sys.executable, str(RECIPES / "paper_table.py"), "--paper", str(tmp_path / "paper.tsv")]
    said = subprocess.run([*command, "--exp", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[2:] == [
        "| DNN | CHE = che | 28.2 | XII | 30.00 |",
        "| DNN | total = swb + che | 21.7 | XII | 25.00 |",
        "| DNN | both = swb + more | 0 | - | not run |",
    ]


def ran(
    name: str,
    tmp_path: Path,
    lexicon: Path,
    *more: str,
    script: str = "run.sh",
    settings: Sequence[str] = SMALL,
) -> str:
    """What one of a recipe's own scripts says; the environment is the one that runs the tests."""
    corpus, folder = tmp_path / "corpus", tmp_path / "recipes"
    if not corpus.exists():
        (MAKERS | {"speechocean762": make_speechocean762})[name](corpus)
    shutil.copytree(RECIPES / name, folder / name, ignore=shutil.ignore_patterns("data", "exp"), dirs_exist_ok=True)
    for shared in RECIPES.glob("*.*"):
        shutil.copy(shared, folder)
    (tmp_path / "scripts").mkdir(exist_ok=True)
    (tmp_path / "scripts" / "setup.sh").write_text("exit 0\n")
    bin_directory = Path(sys.executable).parent
    environment = os.environ | {"LHUC_ASR_VENV": str(bin_directory.parent)}
    own = ["--lexicon", str(lexicon)] if name in ("ami", "swbd", "aurora4") else []
    given = ["--corpus", str(corpus), *own] if script == "run.sh" else []
    command = ["bash", str(folder / name / script), *given, *more, *settings, *FEW_STATES.get(name, [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1400, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
