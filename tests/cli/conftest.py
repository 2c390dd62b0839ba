"""People who speak in tones, a model that ``lhuc-train`` made of them, and what ``lhuc-adapt`` made of that."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers.tones import TESTED, TRAINED, WORDS, Adapted, Run, TinyWorld, write_corpus
from lhuc_asr.cli import adapt, train


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Trained once; the tests must not write into it."""
    base = tmp_path_factory.mktemp("tones")
    lexicon = base / "lexicon.txt"
    lexicon.write_text("".join(f"{word} {phones}\n" for word, phones in WORDS.items()))
    made = TinyWorld(
        train=write_corpus(base / "train", TRAINED, num_utterances=12, seed=0),
        test=write_corpus(base / "test", TESTED, num_utterances=6, seed=1),
        lexicon=lexicon,
        model=base / "si",
    )
    assert train.main(made.train_command(made.model)) == 0
    return made


@pytest.fixture(scope="session")
def adapted(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """All tested speakers adapted to, once; the tests must not write into it."""
    out, said = tmp_path_factory.mktemp("adapted"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert adapt.main(world.command(out, "--all-speakers")) == 0
    return Adapted(out, said.getvalue())


@pytest.fixture
def spoilt(world: TinyWorld, tmp_path: Path) -> Path:
    """A copy of the tested speakers' tables that a test may spoil; the sound files are shared."""
    copy = tmp_path / "test"
    copy.mkdir()
    for table in ("wav.scp", "utt2spk", "text"):
        shutil.copy(world.test / table, copy)
    return copy


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, standard output, standard error."""

    def run_command(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command
