"""``lhuc-decode`` as it is typed: words, the speakers' profiles, and a page that names what was used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tones import TESTED, Adapted, Run, TinyWorld, add_speaker, flags_of

from lhuc_asr.cli.decode import build_parser, main
from lhuc_asr.decoding.hypothesis import read_hypotheses
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import load_system


def words_of(directory: Path) -> dict[str, str]:
    return {name: item.text for name, item in read_hypotheses(directory).items()}


def page_of(directory: Path) -> Any:
    return json.loads((directory / "decode.json").read_text())


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {
        "--model", "--data", "--speaker", "--speaker-list", "--all-speakers", "--profiles", "--out", "--keep-going",
        "--allow-commands",
    }  # fmt: skip


def test_without_profiles_everybody_is_recognised_by_the_model_alone(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    code, out, _ = run(main, world.command(tmp_path))
    assert code == 0
    assert out.startswith("%WER ")
    assert "real-time factor" in out
    assert words_of(tmp_path) == words_of(adapted.out / "si")
    page = page_of(tmp_path)
    assert page["model_fingerprint"] == load_system(world.model).fingerprint
    assert page["profiles"] == page["failed_utterances"] == {}
    assert len((tmp_path / "text").read_text().splitlines()) == 18


def test_profiles_make_a_difference_and_are_named_by_their_content(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    profiles = adapted.out / "profiles"
    assert run(main, world.command(tmp_path, "--profiles", str(profiles)))[0] == 0
    assert words_of(tmp_path) == words_of(adapted.out / "adapted") != words_of(adapted.out / "si")
    names = {"eve": "eve.json", "12_3": "12_3.json", "José": "Jos%C3%A9.json"}
    page = page_of(tmp_path)
    stored = {name: load_profile(profiles / file, fingerprint=None) for name, file in names.items()}
    assert page["profiles"] == {name: profile.sha256 for name, profile in stored.items()}
    second_pass = json.loads((adapted.out / "results.json").read_text())
    assert page["profiles"] == second_pass["profiles"]
    assert page["model_fingerprint"] == second_pass["model_fingerprint"]
    assert page["peak_memory_gb"] > 0.1


def test_speakers_without_a_profile_are_told(world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run) -> None:
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    for path in (adapted.out / "profiles").glob("Jos*"):
        shutil.copy(path, profiles)
    code, out, _ = run(main, world.command(tmp_path / "out", "--profiles", str(profiles)))
    assert code == 0
    assert "speaker-independent, for want of a profile: 12_3, eve" in out
    alone, helped = words_of(adapted.out / "si"), words_of(adapted.out / "adapted")
    expected = {name: (helped if name.startswith("J") else alone)[name] for name in alone}
    assert words_of(tmp_path / "out") == expected
    assert list(page_of(tmp_path / "out")["profiles"]) == ["José"]


def test_profiles_that_cannot_be_meant_are_refused(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    code, _, err = run(main, world.command(tmp_path / "out", "--profiles", str(adapted.out)))
    assert code == 2
    assert f"holds no profile of any speaker asked for ('12_3', 'José', 'eve'); try '{adapted.out / 'profiles'}'" in err
    code, _, err = run(main, world.command(tmp_path / "out", "--profiles", "/no/such/place"))
    assert code == 2
    assert "there is no profile store '/no/such/place'" in err


def test_speakers_are_chosen(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    some = tmp_path / "some"
    some.write_text("12_3\n\n", encoding="utf-8")
    assert run(main, world.command(tmp_path / "two", "--speaker", "José", "--speaker-list", str(some)))[0] == 0
    assert {name.partition("-")[0] for name in words_of(tmp_path / "two")} == {"José", "12_3"}
    assert run(main, world.command(tmp_path / "all", "--all-speakers"))[0] == 0
    assert {name.partition("-")[0] for name in words_of(tmp_path / "all")} == set(TESTED)


def test_settings_of_the_search_count_for_this_run_only(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    before = (world.model / "decoding.json").read_bytes()
    command = world.command(tmp_path, "--speaker", "eve", "decoding.insertion_penalty=50", "decoding=fast")
    assert run(main, command)[0] == 0
    settings = page_of(tmp_path)["decoding"]
    assert (settings["insertion_penalty"], settings["beam"]) == (50, 10)
    assert all(len(words.split()) <= 1 for words in words_of(tmp_path).values())
    assert (world.model / "decoding.json").read_bytes() == before


def test_two_processes_find_the_same(world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run) -> None:
    flags = ["--profiles", str(adapted.out / "profiles"), "runtime.num_jobs=2", "runtime.num_threads=2"]
    assert run(main, world.command(tmp_path, *flags))[0] == 0
    assert words_of(tmp_path) == words_of(adapted.out / "adapted")


def test_features_are_the_models(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, world.command(tmp_path / "out", "features.fbank.num_mel_bins=40", "features.cmvn=none"))
    assert code == 2
    assert "features.fbank.num_mel_bins is 16, not 40" in err
    assert "features.cmvn is speaker, not none" in err
    assert not (tmp_path / "out").exists()


def test_bad_audio_stops_the_command_unless_it_may_be_left_out(
    world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    add_speaker(spoilt, "zoe", {"00": np.full(3000, 0.1, np.float32), "01": np.full(3000, np.nan, np.float32)})
    (spoilt / "zoe-1.wav").write_bytes(b"no sound")
    code, out, err = run(main, world.command(tmp_path / "out", data=spoilt))
    assert (code, out) == (2, "")
    assert "1 of 20 utterances cannot be used (--keep-going leaves them out): the audio of 'zoe-01' cannot be" in err
    code, out, _ = run(main, world.command(tmp_path / "out", "--keep-going", data=spoilt))
    assert code == 0
    assert "left out: the audio of 'zoe-01' cannot be read" in out
    assert list(page_of(tmp_path / "out")["failed_utterances"]) == ["zoe-01"]
    assert "zoe-01" not in words_of(tmp_path / "out")


def test_an_utterance_without_a_path_is_told_and_counts(
    world: TinyWorld, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lhuc_asr.decoding.wfst import WfstDecoder
    from lhuc_asr.errors import DecodingError

    decode = WfstDecoder.decode

    def stumble(self: WfstDecoder, utterance: str, log_likes: Any) -> Any:
        if utterance == "eve-03":
            raise DecodingError("no path survives")
        return decode(self, utterance, log_likes)

    monkeypatch.setattr(WfstDecoder, "decode", stumble)
    code, out, _ = run(main, world.command(tmp_path, "--speaker", "eve"))
    assert code == 1
    assert "eve-03: failed: no path survives" in out
    assert "3 del" in out
    assert page_of(tmp_path)["failed_utterances"] == {"eve-03": "no path survives"}
