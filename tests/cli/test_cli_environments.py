"""Speakers in environments as typed: a corpus in noise and channels, profiles of both, and of every pair."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.tones import TESTED, Run, TinyWorld, flags_of, times_of, write_corpus
from lhuc_asr.cli import adapt, decode, profiles
from lhuc_asr.cli.environments import build_parser, main
from lhuc_asr.config.compose import compose
from lhuc_asr.config.provenance import read_config
from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.load import load_manifest
from lhuc_asr.errors import DataError
from lhuc_asr.features import environment_writing
from lhuc_asr.profiles.store import ProfileStore

SETTINGS = ["features.sampling_rate=8000", "environments.noises=[pink]", "environments.channels=[handset]"]
SETTINGS += ["environments.min_snr_db=20", "environments.max_snr_db=25", "runtime=one_core"]
NAMES = ("clean", "handset", "pink", "pink+handset")


@pytest.fixture(scope="module")
def heard(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tested speakers in four environments; the tests must not write into it."""
    out = tmp_path_factory.mktemp("environments") / "test"
    assert main(["--data", str(world.test), "--out", str(out), *SETTINGS]) == 0
    return out


def table(path: Path) -> dict[str, str]:
    return dict(row.split(maxsplit=1) for row in path.read_text().splitlines())


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {"--data", "--out", "--allow-commands"}


def test_the_corpus_says_who_is_heard_where(world: TinyWorld, heard: Path, run: Run) -> None:
    manifest = load_manifest(heard)
    assert {*manifest.speakers} == {f"{name}-{speaker}" for name in NAMES for speaker in TESTED}
    assert len(manifest) == 4 * 18
    assert {*table(heard / "utt2env").values()} == {*NAMES}
    assert len(table(heard / "utt2clean")) == 18 and {*table(heard / "utt2clean").values()} == {*TESTED}
    assert table(heard / "spk2condition")["pink+handset-eve"] == "both"
    assert table(heard / "spk2factors")["pink-eve"] == "eve pink"
    assert read_config(heard).environments == compose(SETTINGS).environments
    before = times_of(heard)
    code, _, err = run(main, ["--data", str(world.test), "--out", str(heard), *SETTINGS])
    assert code == 0 and "up to date" in err
    assert times_of(heard) == before


def stopped_at(number: int) -> Callable[..., None]:
    """`write_audio`, but Ctrl-C is pressed before that call of it."""
    calls = []

    def write(*args: Any) -> None:
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        write_audio(*args)

    return write


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Two utterances, in a folder with a note beside them."""
    data = write_corpus(tmp_path / "keep" / "two", {"eve": 1.0}, num_utterances=2, seed=1)
    (tmp_path / "keep" / "notes.txt").write_text("mine")
    return data


@pytest.mark.parametrize("out", [".", "..", "heard", "../two/../two", "../../keep"])
def test_the_clean_corpus_is_never_written_over(out: str, clean: Path, run: Run) -> None:
    before = times_of(clean.parent)
    code, _, err = run(main, ["--data", str(clean), "--out", str(clean / out), *SETTINGS])
    assert code == 2 and "would write over the corpus" in err.splitlines()[-1]
    assert times_of(clean.parent) == before


def test_a_folder_with_its_sound_files_is_never_written_over(clean: Path, tmp_path: Path, run: Run) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("wav.scp", "utt2spk", "text"):
        shutil.move(clean / name, tables)
    code, _, err = run(main, ["--data", str(tables), "--out", str(clean), *SETTINGS])
    assert code == 2 and "would write over the corpus" in err


def test_a_folder_with_other_things_is_refused(clean: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    (out / "audio").mkdir(parents=True)
    (out / "audio" / "song.flac").write_text("mine")
    code, _, err = run(main, ["--data", str(clean), "--out", str(out), *SETTINGS])
    assert code == 2
    assert f"--out '{out}' holds what lhuc-environments did not write, such as 'audio'" in err
    assert [*times_of(out)] == ["audio/song.flac"]


def test_other_environments_replace_sound_files_and_tables_alone(clean: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    command = ["--data", str(clean), "--out", str(out), *SETTINGS, "environments.channels=[]"]
    assert run(main, command)[0] == 0
    (out / "notes.txt").write_text("mine")
    code, _, err = run(main, [*command, "environments.noises=[white]"])
    assert code == 0, err
    assert (out / "notes.txt").read_text() == "mine"
    assert {*table(out / "utt2env").values()} == {"clean", "white"}
    assert {path.name for path in (out / "audio").iterdir() if path.is_dir()} == {"clean", "white"}


def test_a_relative_folder_is_read_from_everywhere(clean: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(clean.parent)
    assert run(main, ["--data", "two", "--out", "noisy/two", *SETTINGS])[0] == 0
    monkeypatch.chdir("/")
    assert len(load_manifest(clean.parent / "noisy" / "two")) == 8


def test_a_lost_sound_file_is_written_again(clean: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    command = ["--data", str(clean), "--out", str(out), *SETTINGS]
    assert run(main, command)[0] == 0
    (out / "audio" / "pink" / "pink-eve-00.flac").unlink()
    assert run(main, command)[0] == 0
    assert len(load_manifest(out)) == 8


def test_a_stopped_run_goes_on_where_it_was(
    clean: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--data", str(clean), *SETTINGS]
    assert run(main, [*command, "--out", str(tmp_path / "through")])[0] == 0
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(environment_writing, "write_audio", stopped_at(4))
        code, _, err = run(main, [*command, "--out", str(out)])
    assert code == 130 and "run the same command again to continue" in err
    kept = {name: time for name, time in times_of(out).items() if name.endswith(".flac")}
    assert len(kept) == 3 and not list(out.rglob("*.part"))
    with pytest.raises(DataError):
        load_manifest(out)
    code, _, err = run(main, [*command, "--out", str(out)])
    assert code == 0 and "audio: done" in err
    assert kept.items() <= times_of(out).items(), "what was written is not written again"
    for name in times_of(tmp_path / "through"):
        if name not in ("wav.scp", "audio/stage.json", "provenance.json"):  # a path, and times
            assert (out / name).read_bytes() == (tmp_path / "through" / name).read_bytes(), name


def test_pairs_are_recognised_by_what_is_known_of_both(world: TinyWorld, heard: Path, tmp_path: Path, run: Run) -> None:
    learn = ["--all-speakers", "--no-second-pass", "--first-pass", str(tmp_path / "first_pass")]
    for groups in ("utt2env", "utt2clean"):
        flags = [*learn, "--groups", str(heard / groups)]
        code, out, err = run(adapt.main, world.command(tmp_path / groups, *flags, data=heard))
        assert code == 0, err
        assert ("left out, for want of a group: 54 of 72" in out) is (groups == "utt2clean")
    environments = ProfileStore.open(tmp_path / "utt2env" / "profiles")
    speakers = ProfileStore.open(tmp_path / "utt2clean" / "profiles")
    assert {*environments.speakers()} == {*NAMES} and {*speakers.speakers()} == {*TESTED}
    command = ["factorise", "--speakers", str(tmp_path / "utt2clean" / "profiles")]
    command += ["--environments", str(tmp_path / "utt2env" / "profiles"), "--pairs", str(heard / "spk2factors")]
    for how in (["--alpha", "0.7"], ["--product"]):
        assert run(profiles.main, [*command, "--store", str(tmp_path / how[0].strip("-")), *how])[0] == 0
    own, around = speakers.get("eve").adapter().scales(), environments.get("pink").adapter().scales()
    mixed = ProfileStore.open(tmp_path / "alpha").get("pink-eve").adapter().scales()
    product = ProfileStore.open(tmp_path / "product").get("pink-eve").adapter().scales()
    for site in own:
        np.testing.assert_allclose(mixed[site], 0.7 * own[site] + 0.3 * around[site], rtol=1e-5)
        np.testing.assert_allclose(product[site], own[site] * around[site], rtol=1e-5)
    code, out, err = run(
        decode.main, world.command(tmp_path / "words", "--profiles", str(tmp_path / "alpha"), data=heard)
    )
    assert code == 0, err
    assert "for want of a profile" not in out


def test_features_of_a_group_are_normalised_for_its_speakers(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    groups = tmp_path / "groups"
    groups.write_text("".join(f"{name} everybody\n" for name in load_manifest(world.test).speaker_of))
    flags = ["--no-second-pass", "--groups", str(groups), "--speaker", "everybody"]
    code, _, err = run(adapt.main, world.command(tmp_path / "lhuc", *flags))
    assert code == 0, err
    assert run(decode.main, world.command(tmp_path / "si"))[0] == 0
    first_pass = tmp_path / "lhuc" / "first_pass" / "everybody" / "text"
    assert first_pass.read_text() == (tmp_path / "si" / "text").read_text()


def test_groups_of_other_utterances_are_refused(world: TinyWorld, heard: Path, tmp_path: Path, run: Run) -> None:
    flags = ["--all-speakers", "--groups", str(heard / "utt2env")]
    code, _, err = run(adapt.main, world.command(tmp_path, *flags))
    assert code == 2 and "names no utterance of the data" in err


def test_pairs_that_cannot_be_made_are_told(tmp_path: Path, run: Run) -> None:
    (tmp_path / "pairs").write_text("pink-ann ann\n")
    command = [
        "factorise",
        "--speakers",
        "s",
        "--environments",
        "e",
        "--store",
        "x",
        "--pairs",
        str(tmp_path / "pairs"),
    ]
    code, _, err = run(profiles.main, [*command, "--product"])
    assert code == 2 and "'pink-ann' has 1 values, a row is PAIR SPEAKER ENVIRONMENT" in err
    assert run(profiles.main, command)[0] == 2
