"""Settings: presets and overrides onto dataclasses; a typo anywhere is told in one line with the nearest name."""

from __future__ import annotations

import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import Container

from lhuc_asr.adaptation.passes.protocol import Protocol
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.config.build import adaptation_settings, build_settings
from lhuc_asr.config.compose import compose, preset_directory, presets
from lhuc_asr.config.explanations import setting_names
from lhuc_asr.config.schema import Config, RuntimeConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.pipeline import FeatureKind
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.models.blstm import BlstmConfig
from lhuc_asr.models.cnn import CnnConfig
from lhuc_asr.models.dnn import DnnConfig
from lhuc_asr.models.kinds import NETWORKS, NetworkKind
from lhuc_asr.models.tdnn import TdnnConfig
from lhuc_asr.models.tdnnf import TdnnFConfig

PRESETS = [
    f"{folder.name}={preset}"
    for folder in sorted(path for path in preset_directory().iterdir() if path.is_dir())
    for preset in presets(folder.name)
]


def complaint(*overrides: str, directory: Path | None = None) -> str:
    """The one line with which these overrides are refused."""
    with pytest.raises(ConfigError) as caught:
        compose(overrides, directory=directory)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def own_presets(tmp_path: Path) -> Path:
    """A copy of the presets, to spoil."""
    return Path(shutil.copytree(preset_directory(), tmp_path / "configs"))


def test_without_overrides_the_dataclasses_defaults_hold() -> None:
    assert compose() == Config()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_and_is_short(preset: str) -> None:
    group, _, name = preset.partition("=")
    assert isinstance(compose([preset]), Config)
    lines = (preset_directory() / group / f"{name}.yaml").read_text().splitlines()
    assert group == "experiment" or len(lines) < 10


def test_presets_and_settings_mix_and_the_setting_wins() -> None:
    config = compose(["model=dnn_paper", "model.num_layers=3", "protocol=enrolment", "protocol.num_utterances=10"])
    assert (config.model.num_layers, config.model.hidden_dim) == (3, 2048)
    assert (config.protocol.name, config.protocol.num_utterances) == (Protocol.enrolment, 10)
    assert compose(["lhuc=sigmoid2"]).lhuc.amplitude is Amplitude.sigmoid2
    assert compose(["lhuc.layers=[1,2]"]).lhuc.layers == [1, 2]
    assert compose(["lhuc.layers=['layers.0.*',3]"]).lhuc.layers == ["layers.0.*", 3]


def test_a_preset_may_be_chosen_over_an_experiments() -> None:
    assert compose(["experiment=fsdd"]).features.sampling_rate == 8000
    assert compose(["experiment=fsdd", "model=dnn_paper"]).model.hidden_dim == 2048


@pytest.mark.parametrize("kind", NetworkKind)
def test_the_kind_of_network_decides_which_settings_there_are(kind: NetworkKind, own_presets: Path) -> None:
    expected = NETWORKS[kind].config(kind=kind)
    assert compose([f"model.kind={kind.name}"]).model == expected
    assert compose([f"model={{kind: {kind.name}}}"]).model == expected
    assert compose(["adapt.lr=0.4"], given={"model": expected}).model == expected
    inline = f"# @package _global_\nmodel:\n  kind: {kind.name}\n"
    (own_presets / "experiment" / "own.yaml").write_text(inline)
    assert compose(["experiment=own"], directory=own_presets).model == expected


def test_every_kind_has_a_preset() -> None:
    kinds = {compose([f"model={name}"]).model.kind for name in presets("model")}
    assert kinds == set(NetworkKind)


def test_settings_of_a_chosen_kind_can_be_changed(own_presets: Path) -> None:
    config = compose(["model=tdnnf", "model.hidden_dim=256"])
    assert isinstance(config.model, TdnnFConfig)
    assert (config.model.hidden_dim, config.model.bottleneck_dim, config.model.subsampling) == (256, 96, 3)
    assert isinstance(compose(["model=dnn_paper", "model.kind=cnn"]).model, CnnConfig), "all settings of a DNN"
    text = "# @package _global_\ndefaults:\n  - override /model: tdnnf\nmodel:\n  hidden_dim: 64\n"
    (own_presets / "experiment" / "own.yaml").write_text(text)
    chosen = compose(["experiment=own", "model.bottleneck_dim=8"], directory=own_presets).model
    assert isinstance(chosen, TdnnFConfig)
    assert (chosen.hidden_dim, chosen.bottleneck_dim, chosen.subsampling) == (64, 8, 3)
    assert isinstance(compose(["experiment=speechocean762", "model=blstm"]).model, BlstmConfig)


def test_presets_without_a_kind_are_those_of_the_given_one(own_presets: Path) -> None:
    (own_presets / "model" / "own.yaml").write_text("hidden_dim: 64\n")
    assert compose(["model=own"], directory=own_presets).model == DnnConfig(hidden_dim=64)
    given = {"model": TdnnConfig(dilations=[1])}
    assert compose(["model=own"], given=given, directory=own_presets).model == TdnnConfig(dilations=[1], hidden_dim=64)
    assert compose(["model=cnn"], given=given).model == compose(["model=cnn"]).model


def test_one_seed_serves_all() -> None:
    config = compose(["runtime.seed=7"])
    assert (config.gmm.seed, config.adapt.seed) == (7, 7)
    assert compose(["runtime.seed=7", "adapt.seed=1"]).adapt.seed == 1


def test_nothing_of_hydra_comes_out() -> None:
    def walk(value: Any) -> None:
        assert not isinstance(value, Container)
        for part in value if isinstance(value, list) else ():
            walk(part)
        for field in fields(value) if is_dataclass(value) else ():
            walk(getattr(value, field.name))

    walk(compose(["experiment=speechocean762", "lhuc.layers=[1]"]))


def test_given_settings_take_the_place_of_defaults() -> None:
    given = {"adapt": AdaptConfig(lr=0.3, num_epochs=9)}
    config = compose(["adapt.lr=0.1"], given=given)
    assert (config.adapt.lr, config.adapt.num_epochs) == (0.1, 9)
    assert compose().adapt.num_epochs == AdaptConfig().num_epochs


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("adapt.lrr=1", "there is no setting 'adapt.lrr'; nearest: 'adapt.lr'"),
        ("amplitude=exp", "there is no setting 'amplitude'; nearest: 'sat.amplitude', 'lhuc.amplitude'"),
        ("speaker=X", "there is no setting 'speaker'"),
        ("hydra.run.dir=x", "there is no setting 'hydra.run.dir'"),
        ("adapt.lr.x=1", "there is no setting 'adapt.lr.x'; nearest: 'adapt.lr'"),
        ("adapt={lrr: 3}", "there is no setting 'adapt.lrr'"),
        ("+adapt.lr=1", "'+adapt.lr=1' is not a setting"),
        ("~adapt.lr", "'~adapt.lr' is not a setting"),
        ("adapt.lr", "'adapt.lr' is not a setting"),
        ("model=dnn_papr", "model has no preset 'dnn_papr'; there are: blstm, cnn, "),
        ("model=../../x", "model has no preset '../../x'"),
        ("experiment=dem", "experiment has no preset 'dem'; there are: ami, aurora4, demo"),
        ("adapt.lr=abc", "'adapt.lr=abc': Value 'abc' of type 'str' could not be converted to Float"),
        ("adapt.lr=", "could not be converted to Float"),
        ("lhuc.layers=1", "'lhuc.layers=1': lhuc.layers takes a list: write lhuc.layers=[1,2], or lhuc.layers=[] for"),
        ("adapt.lr=null", "'adapt.lr=null': field 'adapt.lr' is not Optional"),
        ("adapt.lr=0.1,0.2", "a list is written adapt.lr=[0.1,0.2]"),
        ("adapt.lr=[0.1", "'adapt.lr=[0.1': no viable alternative"),
        ("adapt.lr=${no.such}", "'adapt.lr=${no.such}': Interpolation key 'no.such' not found"),
        (
            "lhuc.amplitude=tanh",
            "'lhuc.amplitude=tanh': Invalid value 'tanh', expected one of [exp, sigmoid2, identity",
        ),
        ("model.kind=resnet", "Invalid value 'resnet', expected one of [dnn, cnn,"),
        ("model.filter_bandz=3", "there is no setting 'model.filter_bandz'; nearest: 'model.filter_bands'"),
        (
            "model.filter_bands=3",
            "'model.filter_bands=3': a network of kind dnn has no setting 'model.filter_bands'; it has: kind, num_la",
        ),
        ("model={filter_bandz: 3}", "there is no setting 'model.filter_bandz'"),
        ("model={kind: tdnn, filter_bands: 3}", "a network of kind tdnn has no setting 'model.filter_bands'"),
        ("adapt.lr=-1", "adapt.lr must be positive, got -1.0"),
        ("runtime.num_jobs=-2", "runtime.num_jobs must be 0 or more, got -2"),
        ("protocol=enrolmnt", "there are: enrolment, online, rounds, two_pass"),
    ],
)
def test_a_wrong_override_is_told_in_one_line(override: str, said: str) -> None:
    assert said in complaint(override)


@pytest.mark.parametrize(
    ("preset", "text", "said"),
    [
        ("adapt/bad", "lrr: 3", "preset 'adapt/bad': there is no setting 'adapt.lrr'; nearest: 'adapt.lr'"),
        ("adapt/bad", "lr: x", "preset 'adapt/bad': adapt.lr: Value 'x'"),
        ("adapt/bad", "lr: [", "a preset is not YAML"),
        ("adapt/bad", "lr: -3", "adapt.lr must be positive"),
        ("model/bad", "kind: tdnnf\nfilter_bands: 3", "preset 'model/bad': a network of kind tdnnf has no setting"),
        ("model/bad", "kind: resnet", "preset 'model/bad': model.kind: Invalid value 'resnet'"),
        ("model/bad", "- 3", "preset 'model/bad'"),
        ("experiment/bad", "# @package _global_\nmodel: 3", "preset 'experiment/bad'"),
        ("experiment/bad", "# @package _global_\nadapts:\n  lr: 1", "there is no setting 'adapts'; nearest: 'adapt"),
        (
            "experiment/bad",
            "# @package _global_\ndefaults:\n  - override /model: nope",
            "no preset 'model/nope'; there are:",
        ),
        ("experiment/bad", "# @package _global_\ndefaults:\n  - override /modl: nope", "Could not override 'modl'"),
    ],
)
def test_a_wrong_preset_is_told_in_one_line(own_presets: Path, preset: str, text: str, said: str) -> None:
    (own_presets / f"{preset}.yaml").write_text(text + "\n")
    assert said in complaint(preset.replace("/", "="), directory=own_presets)


def test_every_setting_can_be_overridden_and_every_group_is_listed() -> None:
    listed = (preset_directory() / "config.yaml").read_text()
    for group in (field.name for field in fields(Config)):
        assert f"  - {group}: null" in listed
    assert {"adapt.lr", "features.fbank.num_mel_bins", "training.newbob.initial_lr", "model.filter_bands"} <= set(
        setting_names()
    )


def test_rooms_get_what_they_ask_for() -> None:
    config = compose(["adapt.lr=0.2"])
    assert build_settings(config).gmm_features.kind is FeatureKind.mfcc
    assert adaptation_settings(config).adapt.lr == 0.2


def test_zero_jobs_is_one_per_core() -> None:
    assert RuntimeConfig().jobs >= 1
    assert RuntimeConfig(num_jobs=3).jobs == 3
