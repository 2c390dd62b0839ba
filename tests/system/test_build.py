"""Building a model: what is refused before or while it is built; `tests/cli/test_cli_train.py` builds whole ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lhuc_asr.config.build import build_settings
from lhuc_asr.config.compose import compose
from lhuc_asr.data.audio import write_audio
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import AlignmentError, ConfigError, DataError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.system.build import build_system, note_costs
from lhuc_asr.system.build_settings import BuildConfig, BuildInputs
from lhuc_asr.system.stage import run_once
from lhuc_asr.system.stages.sequence import smbr_config
from lhuc_asr.system.stages.workplace import Workplace
from lhuc_asr.training.criteria.smbr.objective import SmbrConfig

LEXICON = Lexicon({"A": (("AH",),), "LONG": (("L", "AO", "NG") * 30,)})
SETTINGS = build_settings(compose(["model=dnn_tiny", "gmm.mono_iterations=1", "gmm.triphone_iterations=1"]))


@pytest.mark.parametrize("wrong", [{"num_realignments": -1}, {"valid_fraction": 0.0}, {"valid_fraction": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"build.{next(iter(wrong))} must"):
        BuildConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "taken"), [("null", 0.3), ("0.1", 0.1), ("0.5", 0.5)])
def test_smbr_takes_the_scale_that_is_asked_for_and_else_that_of_the_decoder(asked: str, taken: float) -> None:
    settings = build_settings(compose([f"criterion.smbr.acoustic_scale={asked}", "criterion.smbr.smoothing=0.1"]))
    place: Any = SimpleNamespace(settings=settings)
    start: Any = SimpleNamespace(decoding=DecodingConfig(acoustic_scale=0.3))
    assert smbr_config(place, start) == SmbrConfig(acoustic_scale=taken, smoothing=0.1)


def test_the_report_tells_the_minutes_of_the_stages_of_this_build_and_of_what_followed(tmp_path: Path) -> None:
    place = Workplace(
        inputs=BuildInputs(manifest=Manifest(()), lexicon=LEXICON), settings=SETTINGS, work=tmp_path / "work"
    )
    run_once(place.work / "chain", ["of an earlier build"], lambda _: None)
    write_json(tmp_path / "build.json", {"lm_order": 2})
    for name in ("gmm", "network-0"):
        place.run_stage(name, ["now"], lambda _: None)
    note_costs(tmp_path, place.stages)
    run_once(place.work / "tuning", ["later"], lambda _: None)
    note_costs(tmp_path, ["tuning", "never"])
    report = read_json(tmp_path / "build.json")
    assert list(report["minutes"]) == ["gmm", "network-0", "tuning"] and report["lm_order"] == 2
    assert report["peak_memory_gb"].keys() == {"gmm", "network-0", "tuning", "all"}


def utterance(name: str, transcript: str | None, path: Path = Path("x.wav")) -> Utterance:
    return Utterance(name, Recording(name, str(path)), name[0], transcript=transcript)


@pytest.mark.parametrize(
    ("manifest", "found"),
    [
        (Manifest(()), "0 of 0"),
        (Manifest((utterance("a-1", "A"), utterance("b-1", None))), "1 of 2"),
    ],
)
def test_every_utterance_needs_a_transcript(manifest: Manifest, found: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"training needs transcripts: {found} utterances have one"):
        build_system(BuildInputs(manifest=manifest, lexicon=LEXICON), SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_words_that_do_not_fit_the_speech_stop_the_build(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    utterances = []
    for name, words in {"a-1": "LONG", "b-1": "LONG", "c-1": "LONG", "d-1": "A"}.items():
        path = tmp_path / f"{name}.wav"
        write_audio(path, (0.1 * rng.standard_normal(8000)).astype(np.float32), 16000)
        utterances.append(utterance(name, words, path))
    inputs = BuildInputs(manifest=Manifest(tuple(utterances)), lexicon=LEXICON)
    with pytest.raises(AlignmentError, match="3 of 4 utterances cannot be aligned, such as 'a-1'"):
        build_system(inputs, SETTINGS, tmp_path / "out")
