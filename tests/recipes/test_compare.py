"""The comparison of ways to adapt: which commands it runs, told by others in their place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.told_commands import tell_commands
from lhuc_asr.config.build import adaptation_settings
from lhuc_asr.config.compose import compose, presets


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands write what they are given."""
    return tell_commands(tmp_path, monkeypatch, ["speechocean762/compare.sh"], ["lhuc-adapt", "lhuc-score"])


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "recipes" / "speechocean762" / "compare.sh"
    command = ["bash", str(script), "--out", str(tmp_path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_arm_meets_every_amount_and_all_are_compared(told: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--arms", "one_best kl tied", "--amounts", "5 rest", "adapt.num_epochs=2")
    assert done.returncode == 0, done.stderr
    first, *adapted, score = told.read_text().splitlines()
    assert "adapt=lattice" in first, "the first pass has lattices"
    assert len(adapted) == 6 and all("protocol=enrolment protocol.scored=0.5" in line for line in adapted)
    assert all(line.endswith(" adapt.num_epochs=2") for line in adapted)
    assert sum("protocol.seconds=5" in line for line in adapted) == 3
    assert sum("adapt.kl=0.5" in line for line in adapted) == sum("adapt=tied" in line for line in adapted) == 2
    runs = [f"{arm}@{amount}" for arm in ("one_best", "kl", "tied") for amount in ("5", "rest")]
    assert score.split("--compare ")[1] == " ".join(f"{tmp_path}/exp/compare/dev/{name}" for name in runs)


def test_under_two_pass_all_speech_is_scored_and_may_be_learnt_from(told: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--protocol", "two_pass", "--arms", "one_best", "--amounts", "40 70", "--stage", "adapt")
    assert done.returncode == 0, done.stderr
    lines = told.read_text().splitlines()
    assert all("protocol=two_pass" in line and "protocol.scored" not in line for line in lines[:2])
    assert [line.split("compare/")[1].split()[0] for line in lines[:2]] == [
        "dev_two_pass/one_best@40",
        "dev_two_pass/one_best@70",
    ]


def test_online_has_no_amounts_and_needs_no_lattices_of_a_first_pass(told: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--protocol", "online", "--arms", "one_best forgetting reset", "adapt.num_epochs=1")
    assert done.returncode == 0, done.stderr
    *adapted, score = told.read_text().splitlines()
    assert len(adapted) == 3 and all("protocol=online" in line and "seconds" not in line for line in adapted)
    assert "protocol.forgetting=0.1" in adapted[1] and "protocol.reset_every=10" in adapted[2]
    runs = [f"{tmp_path}/exp/compare/dev_online/{arm}" for arm in ("one_best", "forgetting", "reset")]
    assert score.endswith(f"--out {tmp_path}/exp/compare/dev_online/score --compare {' '.join(runs)}")
    refused = run(tmp_path, "--protocol", "online", "--amounts", "10")
    assert refused.returncode == 2 and "leave --amounts out" in refused.stderr


def test_in_rounds_every_arm_stands_twice_beside_the_runs_of_enrolment(told: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--protocol", "rounds", "--arms", "one_best guard", "--amounts", "rest")
    assert done.returncode == 0, done.stderr
    _, *adapted, score = told.read_text().splitlines()
    rounds = [line for line in adapted if "protocol.num_rounds=3" in line]
    assert len(adapted) == 4 and [("guard=decoded" in line) for line in rounds] == [False, True]
    assert all("protocol=enrolment protocol.scored=0.5" in line for line in adapted)
    names = ["one_best@rest", "one_best_rounds@rest", "guard@rest", "guard_rounds@rest"]
    runs = " ".join(f"{tmp_path}/exp/compare/dev/{name}" for name in names)
    assert score.endswith(f"--out {tmp_path}/exp/compare/dev/score_rounds --compare {runs}")


@pytest.mark.parametrize("protocol, arm", [("online", "guard"), ("rounds", "suta")])
def test_an_arm_that_does_not_fit_the_protocol_is_refused_before_hours_are_spent(
    told: Path, tmp_path: Path, protocol: str, arm: str
) -> None:
    done = run(tmp_path, "--protocol", protocol, "--arms", f"one_best {arm}")
    assert done.returncode == 2 and f"arm {arm} is not for --protocol {protocol}" in done.stderr
    assert not told.exists()


@pytest.mark.parametrize(("code", "expected"), [(1, 0), (2, 2)])
def test_failed_speakers_do_not_stop_it_and_mistakes_do(told: Path, tmp_path: Path, code: int, expected: int) -> None:
    with (tmp_path / "venv" / "bin" / "lhuc-adapt").open("a") as program:
        program.write(f"exit {code}\n")
    done = run(tmp_path, "--arms", "one_best", "--amounts", "rest")
    assert done.returncode == expected, done.stderr


def test_an_unknown_protocol_is_refused(told: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--protocol", "onlin")
    assert done.returncode == 2 and "there are: enrolment, two_pass, rounds, online" in done.stderr


@pytest.mark.parametrize("protocol, arm", [("online", "reset"), ("online", "confident"), ("rounds", "guard")])
def test_settings_of_protocols_go_together(told: Path, tmp_path: Path, protocol: str, arm: str) -> None:
    done = run(tmp_path, "--protocol", protocol, "--arms", arm, "--stage", "adapt", "--stop-stage", "adapt")
    assert done.returncode == 0, done.stderr
    settings = [word for word in told.read_text().splitlines()[-1].split() if "=" in word]
    adaptation_settings(compose(settings))


def test_arms_that_judge_all_of_the_speech_are_left_out_online(told: Path, tmp_path: Path) -> None:
    arms = {}
    for protocol in ("enrolment", "online"):
        told.write_text("")
        run(tmp_path, "--protocol", protocol, "--stage", "adapt", "--stop-stage", "adapt")
        arms[protocol] = {Path(line.split("--out ")[1].split()[0]).name for line in told.read_text().splitlines()}
    enrolment = {name.partition("@")[0] for name in arms["enrolment"]}
    assert arms["online"] == enrolment - {"held_out", "guard"} | {"forgetting", "reset"}


def test_every_arm_is_a_preset_or_is_explained_and_all_presets_that_stand_alone_are_arms(
    told: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "--amounts", "rest", "--stage", "adapt", "--stop-stage", "adapt")
    assert done.returncode == 0, done.stderr
    met = set()
    for line in told.read_text().splitlines():
        settings = [word for word in line.split() if "=" in word]
        compose(settings)
        met |= {word.removeprefix("adapt=") for word in settings if word.startswith("adapt=")}
    of_other_criteria, of_other_words = {"ctc", "lfmmi", "lfmmi_lattice", "smbr"}, {"cross", "cross_all"}
    assert met == {*presets("adapt")} - of_other_criteria - of_other_words - {"norm"}
