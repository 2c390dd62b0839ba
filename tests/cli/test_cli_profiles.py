"""``lhuc-profiles`` in process, with profiles that ``lhuc-adapt`` made."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
import torch

from helpers.tones import TESTED, Adapted, Run, TinyWorld
from lhuc_asr.cli._profile_flags import build_parser
from lhuc_asr.cli.decode import main as decode
from lhuc_asr.cli.profiles import main
from lhuc_asr.profiles.format import load_profile, profile_path, save_profile
from lhuc_asr.profiles.profile import Profile
from lhuc_asr.profiles.store import ProfileStore

FLAGS = {
    "list": {"--long"},
    "show": {"--speaker", "--version", "--page", "--picture"},
    "diff": {"--speaker", "--from", "--to", "--other"},
    "verify": {"--model", "--speaker"},
    "rollback": {"--speaker", "--to"},
    "delete": {"--speaker"},
    "average": {"--speaker", "--weight", "--as", "--domain"},
    "interpolate": {"--speaker", "--at", "--as", "--domain"},
    "prior": {"--speaker", "--out", "--directions", "--shrinkage", "--centre"},
    "factorise": {"--speakers", "--environments", "--pairs", "--alpha", "--product"},
    "export": {"--archive", "--speaker"},
    "import": {"--archive"},
}


@pytest.fixture(params=["folder", "sqlite"])
def store(request: pytest.FixtureRequest, adapted: Adapted, tmp_path: Path) -> ProfileStore:
    """What ``lhuc-adapt`` wrote, as it is or in an SQLite file."""
    folder = Path(shutil.copytree(adapted.out / "profiles", tmp_path / "profiles"))
    if request.param == "folder":
        return ProfileStore.open(folder)
    made = ProfileStore.open(tmp_path / "profiles.sqlite", create=True)
    for speaker in TESTED:
        made.put(load_profile(profile_path(folder, speaker), fingerprint=None))
    return made


def command(verb: str, store: ProfileStore, *more: str) -> list[str]:
    return [verb, "--store", str(store.path), *more]


def scaled(profile: Profile, by: float, **changes: object) -> Profile:
    """The same speaker with other parameters."""
    from dataclasses import replace

    return replace(profile, r={name: by * r for name, r in profile.r.items()}, **changes)


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings} - {"-h", "--help", "--debug"}


def test_the_flags() -> None:
    verbs = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {verb: _flags(parser) - {"--store"} for verb, parser in verbs.items()} == FLAGS
    assert all("--store" in _flags(parser) for parser in verbs.values())


@pytest.mark.parametrize("verb", FLAGS)
def test_every_verb_has_help(verb: str, run: Run) -> None:
    code, out, _ = run(main, [verb, "--help"])
    assert code == 0
    assert all(flag in out for flag in FLAGS[verb])


def test_list(store: ProfileStore, run: Run) -> None:
    assert run(main, command("list", store)) == (0, "12_3\nJosé\neve\n", "")
    store.put(scaled(store.get("eve"), 0.5, speaker="line\nbreak"))
    store.put(scaled(store.get("eve"), 0.5, dtype="float16"))
    code, out, _ = run(main, command("list", store, "--long"))
    assert code == 0
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["12_3", "José", "eve", r"'line\nbreak'"]
    assert "version 2 of 2, " in lines[2]
    assert "kB as float16, from " in lines[2] and " s of speech" in lines[2] and "objective " in lines[2]


def test_show(store: ProfileStore, run: Run, tmp_path: Path) -> None:
    first = store.get("José")
    store.put(scaled(first, 0.0, guard={"keep": False}))
    code, out, _ = run(main, command("show", store, "--speaker", "José"))
    assert code == 0
    assert "speaker   José, version 2 of 2 (current)\n" in out and 'no harm   {"keep": false}\n' in out
    assert out.count("1.000  0.000  1.000  1.000    0 %") == 2
    picture = tmp_path / "new" / "scales.png"
    code, out, _ = run(main, command("show", store, "--speaker", "José", "--version", "1", "--picture", str(picture)))
    assert code == 0
    assert "version 1 of 2 (current is 2)" in out and "no harm   not judged" in out
    assert first.sha256 in out and first.base_fingerprint in out and f"picture {picture}" in out
    assert "1.000  0.000  1.000  1.000    0 %" not in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(main, command("show", store, "--speaker", "José", "--version", "1", "--page"))
    assert code == 0
    assert json.loads(out)["sha256"] == first.sha256


def test_diff(store: ProfileStore, run: Run) -> None:
    store.put(store.get("eve"))
    store.put(scaled(store.get("eve"), 2.0))
    code, out, _ = run(main, command("diff", store, "--speaker", "eve", "--from", "1", "--to", "2"))
    assert code == 0
    assert out.startswith("from eve, version 1, to eve, version 2\n\nsite ") and out.count("0.0000      0.0000") == 2
    code, out, _ = run(main, command("diff", store, "--speaker", "eve"))
    assert code == 0
    assert out.startswith("from eve, version 2, to eve, version 3\n") and "0.0000      0.0000" not in out
    code, out, _ = run(main, command("diff", store, "--speaker", "eve", "--other", "José", "--from", "1"))
    assert code == 0
    assert out.startswith("from eve, version 1, to José, version 1\n")


def test_rollback_and_delete(store: ProfileStore, run: Run) -> None:
    first = store.get("eve")
    store.put(scaled(first, 2.0))
    code, out, _ = run(main, command("rollback", store, "--speaker", "eve", "--to", "1"))
    assert (code, out) == (0, "eve: version 1 is current, 2 was\n")
    assert store.get("eve").sha256 == first.sha256
    code, out, _ = run(main, command("delete", store, "--speaker", "eve", "--speaker", "nobody"))
    assert (code, out) == (2, "")
    assert "eve" in store
    code, out, _ = run(main, command("delete", store, "--speaker", "eve", "--speaker", "12_3"))
    assert (code, out) == (0, "eve: deleted\n12_3: deleted\n")
    assert store.speakers() == ["José"]


def test_average_and_interpolate(store: ProfileStore, run: Run) -> None:
    eve, jose = store.get("eve"), store.get("José")
    both = ("--speaker", "eve", "--speaker", "José")
    code, out, _ = run(main, command("average", store, *both, "--as", "mean", "--weight", "3", "--weight", "1"))
    assert (code, out) == (0, "mean: version 1, made of eve, José\n")
    code, _, _ = run(main, command("interpolate", store, *both, "--as", "mean", "--at", "0.25"))
    assert code == 0
    assert store.get("mean", 1).sha256 == store.get("mean", 2).sha256
    for name, r in store.get("mean").r.items():
        torch.testing.assert_close(r, 0.75 * eve.r[name] + 0.25 * jose.r[name])
    assert run(main, command("average", store, *both, "--as", "mean", "--domain", "factors"))[0] == 0
    factors = [profile.adapter().scales() for profile in (store.get("mean"), eve, jose)]
    for name, found in factors[0].items():
        torch.testing.assert_close(found, (factors[1][name] + factors[2][name]) / 2)


def test_export_and_import(store: ProfileStore, run: Run, tmp_path: Path) -> None:
    archive, target = str(tmp_path / "all.zip"), ["--store", str(tmp_path / "new.db")]
    code, out, _ = run(main, command("export", store, "--archive", archive))
    assert code == 0 and out.startswith(f"3 speakers in {archive}, ")
    assert run(main, ["import", *target, "--archive", archive])[1].startswith("3 speakers added to ")
    assert run(main, ["import", *target, "--archive", archive])[1].startswith("0 speakers added to ")
    assert ProfileStore.open(tmp_path / "new.db").get("José").sha256 == store.get("José").sha256
    assert run(main, command("export", store, "--archive", archive, "--speaker", "eve"))[1].startswith("1 speakers in ")
    (tmp_path / "bad.zip").write_bytes(Path(archive).read_bytes()[:-50])
    code, out, err = run(main, ["import", "--store", str(tmp_path / "none"), "--archive", str(tmp_path / "bad.zip")])
    assert (code, out) == (2, "") and "is damaged or not a zip file" in err
    assert not (tmp_path / "none").exists()


def test_verify_proves_what_lhuc_adapt_wrote(store: ProfileStore, world: TinyWorld, run: Run) -> None:
    code, out, _ = run(main, command("verify", store, "--model", str(world.model)))
    assert code == 0
    lines = out.splitlines()
    assert [line.partition(": ")[0] for line in lines[:-1]] == ["12_3", "José", "eve"]
    assert all(": proved: 2 sites, " in line and " the output moves by " in line for line in lines[:-1])
    assert lines[-1] == "3 of 3 profiles proved; the model is unchanged"
    code, out, _ = run(main, command("verify", store, "--model", str(world.model), "--speaker", "eve"))
    assert code == 0 and out.endswith("1 of 1 profiles proved; the model is unchanged\n")


def test_verify_lists_those_that_fail(store: ProfileStore, world: TinyWorld, run: Run) -> None:
    good = store.get("eve")
    store.put(scaled(good, 0.0, speaker="idle"))
    store.put(scaled(good, 1.0, speaker="foreign", base_fingerprint="0" * 64))
    code, out, _ = run(main, command("verify", store, "--model", str(world.model)))
    assert code == 1
    assert "foreign: failed: it was learnt for model 000000000000, this model is" in out
    assert "idle: failed: it has no effect" in out
    assert out.splitlines()[-4] == "3 of 5 profiles proved; the model is unchanged"
    assert out.splitlines()[-3] == "2 of 5 profiles failed:"
    assert [line.partition(":")[0] for line in out.splitlines()[-2:]] == ["  foreign", "  idle"]


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_verify_finds_damaged_files(suffix: str, adapted: Adapted, world: TinyWorld, run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapted.out / "profiles", tmp_path / "profiles"))
    path = folder / f"12_3{suffix}"
    path.write_bytes(path.read_bytes()[:100])
    code, out, _ = run(main, ["verify", "--store", str(folder), "--model", str(world.model)])
    assert code == 1
    assert "12_3: failed: " in out and f"{folder}" in out and " is damaged" in out and "2 of 3 profiles proved" in out


def test_lhuc_decode_reads_the_current_version_of_a_folder(
    adapted: Adapted, world: TinyWorld, run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapted.out / "profiles", tmp_path / "profiles"))
    store = ProfileStore.open(folder)
    store.put(scaled(store.get("eve"), 0.0))
    used = world.command(tmp_path / "out", "--speaker", "eve", "--profiles", str(folder))
    hashes = []
    for version in (2, 1):
        assert run(main, command("rollback", store, "--speaker", "eve", "--to", str(version)))[0] == 0
        assert run(decode, used)[0] == 0
        hashes.append(json.loads((tmp_path / "out" / "decode.json").read_text())["profiles"]["eve"])
    assert hashes == [store.get("eve", version).sha256 for version in (2, 1)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["list", "--store", "/no/such/store"], "there is no profile store '/no/such/store'"),
        (["list", "--store", "/no/such.sqlite"], "there is no profile store '/no/such.sqlite'"),
        (["list"], "the following arguments are required: --store (see lhuc-profiles list --help)"),
        ([], "the following arguments are required: VERB (see lhuc-profiles --help)"),
        (["lost"], "invalid choice: 'lost'"),
        (["show", "--store", "S", "--speaker", "Jose"], "no speaker 'Jose' among the 3 of 'S'; nearest: 'José'"),
        (["show", "--store", "S", "--speaker", "eve", "--version", "7"], "'eve' has no version 7; it has 1"),
        (["show", "--store", "S", "--speaker", "eve", "--version", "x"], "--version: invalid int value: 'x'"),
        (["show", "--store", "S", "--speaker", "eve", "--page", "--picture", "x"], "give it without --picture"),
        (["diff", "--store", "S", "--speaker", "eve"], "'eve' has no version before 1; give --from N or --other ID"),
        (["rollback", "--store", "S", "--speaker", "eve", "--to", "2"], "'eve' has no version 2; it has 1"),
        (["delete", "--store", "S", "--speaker", "nobody"], "no speaker 'nobody' among the 3 of 'S'; nearest: "),
        (["average", "--store", "S", "--speaker", "eve", "--as", "x", "--weight", "-1"], "weights must be 0 or more"),
        (["average", "--store", "S", "--speaker", "eve", "--as", ""], "argument --as: expected an id, got ''"),
        (["average", "--store", "S", "--speaker", "eve", "--as", "x", "--weight", "1", "--weight", "1"], "as many"),
        (["interpolate", "--store", "S", "--speaker", "eve", "--as", "x", "--at", "1"], "give --speaker twice"),
        (
            ["interpolate", "--store", "S", "--speaker", "eve", "--speaker", "José", "--as", "x", "--at", "2"],
            "from 0 to 1, got 2.0",
        ),
        (["export", "--store", "S", "--archive", "x.zip", "--speaker", "123"], "no speaker '123' among the 3"),
        (["import", "--store", "new", "--archive", "none.zip"], "there is no archive 'none.zip'"),
        (["verify", "--store", "S", "--model", "/no/model"], "there is no model directory '/no/model'"),
        (["verify", "--store", "S", "--model", "/no/model", "--speaker", "Eve"], "nearest: 'eve'"),
        (["verify", "--store", ".", "--model", "/no/model"], "'.' holds no profile"),
        (["export", "--store", ".", "--archive", "x.zip"], "'.' holds no profile"),
        (["list", "--store", "."], "'.' holds no profile"),
    ],
)
def test_mistakes_in_one_line(
    more: list[str], said: str, adapted: Adapted, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(adapted.out / "profiles", tmp_path / "S")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(main, more)
    assert (code, out) == (2, "")
    assert said in err and err.startswith("lhuc-profiles: ") and err.count("\n") == 1
    assert [path for path in sorted(tmp_path.rglob("*")) if ".locks" not in path.parts] == before


def test_debug_goes_with_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--debug", "list", "--store", "/none"], ["list", "--debug", "--store", "/none"]):
        assert main(argv) == 2
        assert "Traceback" in capsys.readouterr().err


def test_a_profile_saved_beside_the_others_is_one_of_them(adapted: Adapted, run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapted.out / "profiles", tmp_path / "profiles"))
    save_profile(scaled(ProfileStore.open(folder).get("eve"), 1.0, speaker="../../x"), folder)
    assert run(main, ["list", "--store", str(folder)])[1] == "../../x\n12_3\nJosé\neve\n"
