"""``lhuc-decode`` as it is typed: words, the speakers' profiles, and a page that names what was used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.tones import TESTED, Adapted, Run, TinyWorld, add_speaker, flags_of, write_corpus
from lhuc_asr.cli.decode import build_parser, main
from lhuc_asr.decoding.lattices.store import read_lattices
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.models import streaming
from lhuc_asr.profiles.format import load_profile
from lhuc_asr.system.model_directory import load_system


def words_of(directory: Path) -> dict[str, str]:
    return {name: item.text for name, item in read_hypotheses(directory).items()}


def page_of(directory: Path) -> Any:
    return json.loads((directory / "decode.json").read_text())


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == {
        "--model", "--data", "--speaker", "--speaker-list", "--all-speakers", "--profiles", "--conditioned", "--out",
        "--keep-going",
        "--allow-commands", "--confidences", "--keep-lattices", "--nbest", "--greedy", "--rescore", "--calibrate",
        "--transforms", "--no-transforms",
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


def test_long_utterances_are_computed_in_parts(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LONGEST", 40)
    for name, more in (("si", []), ("adapted", ["--profiles", str(adapted.out / "profiles")])):
        assert run(main, world.command(tmp_path / name, *more))[0] == 0
        assert words_of(tmp_path / name) == words_of(adapted.out / name)


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


def test_what_one_session_taught_is_used_in_another(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    strange = {name: factor for name, factor in TESTED.items() if factor > 1.2}
    session = write_corpus(tmp_path / "session", strange, num_utterances=8, seed=17)
    rates = []
    for name, more in (("si", []), ("one_shot", ["--profiles", str(adapted.out / "profiles")])):
        code, out, err = run(main, world.command(tmp_path / name, *more, data=session))
        assert code == 0, err
        rates.append(float(out.split()[1]))
    assert rates[1] < rates[0]


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


@pytest.mark.parametrize("what", ["cannot be read", "does not exist"])
def test_bad_audio_stops_the_command_unless_it_may_be_left_out(
    what: str, world: TinyWorld, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    add_speaker(spoilt, "zoe", {"00": np.full(3000, 0.1, np.float32), "01": np.full(3000, np.nan, np.float32)})
    (spoilt / "zoe-1.wav").write_bytes(b"no sound")
    if what == "does not exist":
        (spoilt / "zoe-1.wav").unlink()
    code, out, err = run(main, world.command(tmp_path / "out", data=spoilt))
    assert (code, out) == (2, "")
    assert f"1 of 20 utterances cannot be used (--keep-going leaves them out): the audio of 'zoe-01' {what}" in err
    code, out, _ = run(main, world.command(tmp_path / "out", "--keep-going", data=spoilt))
    assert code == 0
    assert f"left out: the audio of 'zoe-01' {what}" in out
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


@pytest.fixture
def model(world: TinyWorld, tmp_path: Path) -> Path:
    """A copy of the trained model that a test may calibrate."""
    return Path(shutil.copytree(world.model, tmp_path / "si", ignore=shutil.ignore_patterns("work")))


def test_confidences_and_lattices_change_no_word(world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--keep-lattices", "runtime.num_jobs=2"))
    assert code == 0
    assert "confidences are word posteriors, not calibrated" in out
    assert "confidences: normalised cross-entropy" in out
    found = read_hypotheses(tmp_path)
    assert words_of(tmp_path) == words_of(adapted.out / "si")
    assert all(0 < value < 1 for item in found.values() for value in item.confidences or ())
    assert list(read_lattices(tmp_path)) == sorted(found)
    rows = [line.split() for line in (tmp_path / "ctm").read_text().splitlines()]
    assert {len(row) for row in rows} == {6}
    assert len(rows) == sum(len(item.words) for item in found.values())
    assert run(main, world.command(tmp_path))[0] == 0
    assert not (tmp_path / "lattices.safetensors").exists()
    assert {len(line.split()) for line in (tmp_path / "ctm").read_text().splitlines()} == {5}


def test_the_likeliest_sentences_are_listed(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, world.command(tmp_path, "--nbest", "3"))
    assert code == 0 and f"n-best lists {tmp_path / 'nbest'}" in out
    lists: dict[str, list[list[str]]] = {}
    for line in (tmp_path / "nbest").read_text().splitlines():
        name, *rest = line.split()
        lists.setdefault(name, []).append(rest)
    best = words_of(tmp_path)
    assert lists.keys() == best.keys() and max(len(rows) for rows in lists.values()) == 3
    for name, rows in lists.items():
        assert [int(rank) for rank, *_ in rows] == [*range(1, len(rows) + 1)]
        assert " ".join(rows[0][3:]) == best[name]
        assert len({tuple(words) for _, _, _, *words in rows}) == len(rows)
        shares, costs = ([float(row[column]) for row in rows] for column in (1, 2))
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert costs == sorted(costs) and shares == sorted(shares, reverse=True)
    assert not (tmp_path / "lattices.safetensors").exists()
    assert run(main, world.command(tmp_path))[0] == 0
    assert not (tmp_path / "nbest").exists(), "what an earlier run left does not belong to these words"
    code, _, err = run(main, world.command(tmp_path / "none", "--nbest", "0"))
    assert (code, (tmp_path / "none").exists()) == (2, False) and "--nbest must be at least 1" in err


def test_networks_of_tied_states_are_not_decoded_greedily(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, world.command(tmp_path / "out", "--greedy"))
    assert code == 2 and "labels of a network trained with criterion=ctc" in err
    code, _, err = run(main, world.command(tmp_path / "out", "--greedy", "--nbest", "2"))
    assert code == 2 and "no lattices for --nbest" in err
    assert not (tmp_path / "out").exists()


def test_profiles_and_the_fewest_errors_go_together(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    flags = ["--profiles", str(adapted.out / "profiles")]
    assert run(main, world.command(tmp_path / "best", *flags, "--confidences"))[0] == 0
    assert words_of(tmp_path / "best") == words_of(adapted.out / "adapted")
    for kind in ("mbr", "least_risk"):
        assert run(main, world.command(tmp_path / kind, *flags, f"decoding.hypothesis={kind}"))[0] == 0
        assert page_of(tmp_path / kind)["decoding"]["hypothesis"] == kind
        assert all(item.confidences is not None for item in read_hypotheses(tmp_path / kind).values())


def test_another_language_model_takes_the_place_of_the_searchs(
    world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run
) -> None:
    assert run(main, world.command(tmp_path / "same", "--rescore", str(world.model / "lm.arpa")))[0] == 0
    assert words_of(tmp_path / "same") == words_of(adapted.out / "si")
    entries = [f"-0.7\t{word}" for word in ("<s>", "</s>", "<UNK>", "TWO", "NOT", "WOO")] + ["-40\tONE"]
    body = "\n".join(entries)
    (tmp_path / "no_one.arpa").write_text(f"\\data\\\nngram 1=7\n\n\\1-grams:\n{body}\n\n\\end\\\n")
    assert run(main, world.command(tmp_path / "other", "--rescore", str(tmp_path / "no_one.arpa")))[0] == 0
    before, after = (" ".join(words_of(tmp_path / name).values()).split() for name in ("same", "other"))
    assert after.count("ONE") < before.count("ONE")
    assert page_of(tmp_path / "same")["language_model"] != page_of(tmp_path / "other")["language_model"]
    code, _, err = run(main, world.command(tmp_path / "none", "--rescore", "/no/such.arpa"))
    assert (code, (tmp_path / "none").exists()) == (2, False)
    assert "there is no language model '/no/such.arpa'" in err


def test_a_calibration_is_fitted_once_and_used_from_then_on(
    world: TinyWorld, model: Path, tmp_path: Path, run: Run
) -> None:
    before = load_system(model).fingerprint
    command = ["--model", str(model), "--data", str(world.test), "runtime=one_core"]
    code, out, _ = run(main, [*command, "--out", str(tmp_path / "dev"), "--calibrate"])
    assert code == 0
    assert "word posteriors " in out and f"written to {model / 'calibration.json'}" in out
    assert load_system(model).fingerprint == before
    code, out, _ = run(main, [*command, "--out", str(tmp_path / "new"), "--confidences"])
    assert (code, "not calibrated" in out, "other conditions" in out) == (0, False, False)
    page = json.loads((model / "calibration.json").read_text())
    assert page_of(tmp_path / "new")["calibration"] == page["speech"]
    assert (page["speech"]["num_utterances"], page["speech"]["num_speakers"]) == (18, 3)
    code, out, _ = run(main, [*command, "--out", str(tmp_path / "mbr"), "decoding.hypothesis=mbr"])
    assert "was fitted under other conditions: decoding.hypothesis was one_best, not mbr" in out
    (model / "calibration.json").write_text(json.dumps({**page, "calibration": {"slope": 9.0}}))
    code, _, err = run(main, [*command, "--out", str(tmp_path / "bad"), "--confidences"])
    assert (code, "calibration.json' was altered" in err) == (2, True)


def test_a_calibration_needs_transcripts_and_the_model_alone(
    world: TinyWorld, adapted: Adapted, spoilt: Path, tmp_path: Path, run: Run
) -> None:
    flags = ["--calibrate", "--profiles", str(adapted.out / "profiles")]
    code, _, err = run(main, world.command(tmp_path / "out", *flags))
    assert (code, "leave out --profiles" in err) == (2, True)
    (spoilt / "text").unlink()
    code, _, err = run(main, world.command(tmp_path / "out", "--calibrate", data=spoilt))
    assert (code, "has no transcripts" in err) == (2, True)
    assert not (tmp_path / "out").exists() and not (world.model / "calibration.json").exists()
