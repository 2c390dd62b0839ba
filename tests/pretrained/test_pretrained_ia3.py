"""(IA)^3 adapters: what PEFT computes is what our adapter computes on the plain model, in both directions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lhuc_asr.errors import ProfileError, SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.pretrained.ia3 import export_ia3, import_ia3
from lhuc_asr.pretrained.natural_sites import default_sites

peft = pytest.importorskip("peft", reason="the extra 'pretrained' is not installed")

WAVEFORMS = torch.randn(2, 1600, generator=torch.Generator().manual_seed(1))
FEATS = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)]
    return nn.Sequential(*layers).eval()


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.Sigmoid()]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(8, 4)).eval()


def in_peft(net: nn.Module, path: Path, **config: Any) -> nn.Module:
    """The net with random (IA)^3 scales, also negative ones; saved to a folder by PEFT."""
    wrapped = peft.get_peft_model(copy.deepcopy(net), peft.IA3Config(**config)).eval()
    with torch.no_grad():
        for name, scale in wrapped.named_parameters():
            if "ia3_l" in name:
                scale.normal_(1.0, 0.7, generator=torch.Generator().manual_seed(len(name)))
    wrapped.save_pretrained(str(path))
    assert isinstance(wrapped, nn.Module)
    return wrapped


@torch.no_grad()
def output(net: nn.Module, example: Tensor) -> Tensor:
    out = net(example)
    return out if isinstance(out, Tensor) else out.logits


def same(net: nn.Module, adapter: LhucAdapter, wrapped: nn.Module, example: Tensor) -> None:
    plain = output(net, example)
    with adapter.attached(net):
        adapted = output(net, example)
    torch.testing.assert_close(adapted, output(wrapped, example), rtol=1e-5, atol=1e-5)
    assert (adapted - plain).abs().max() > 1e-2


NATURAL = {"target_modules": ["k_proj", "v_proj", "output_dense"], "feedforward_modules": ["output_dense"]}
CASES: dict[str, tuple[Any, Tensor, dict[str, Any]]] = {
    "linear": (mlp, FEATS, {"target_modules": ["0", "3", "5"], "feedforward_modules": ["3", "5"]}),
    "outputs only": (mlp, FEATS, {"target_modules": ["0", "3"], "feedforward_modules": []}),
    "by expression": (mlp, FEATS, {"target_modules": "[35]", "feedforward_modules": "5|3"}),
    "convolutions": (convolutions, IMAGES, {"target_modules": ["0", "2"], "feedforward_modules": ["2"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_pefts_adapter_does_the_same_here(case: str, tmp_path: Path) -> None:
    build, example, config = CASES[case]
    net = build()
    wrapped = in_peft(net, tmp_path, **config)
    adapter = import_ia3(net, tmp_path, example=example)
    assert adapter.kind is Amplitude.identity
    same(net, adapter, wrapped, example)
    prove_sites_act(net, adapter.sites, example)


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_is_the_same_in_peft(case: str, tmp_path: Path) -> None:
    build, example, config = CASES[case]
    net = build()
    wrapped = in_peft(net, tmp_path / "theirs", **config)
    adapter = import_ia3(net, tmp_path / "theirs", example=example)
    export_ia3(net, adapter, tmp_path / "ours", example=example)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(net), str(tmp_path / "ours")).eval()
    torch.testing.assert_close(output(loaded, example), output(wrapped, example), rtol=0, atol=0)
    theirs, ours = (load_file(tmp_path / who / "adapter_model.safetensors") for who in ("theirs", "ours"))
    assert {name: value.shape for name, value in theirs.items()} == {name: value.shape for name, value in ours.items()}


@pytest.mark.parametrize("with_example", [False, True])
def test_wav2vec2_from_peft(hugging_face_net: Any, tmp_path: Path, with_example: bool) -> None:
    net = hugging_face_net("Wav2Vec2")
    wrapped = in_peft(net, tmp_path, **NATURAL)
    adapter = import_ia3(net, tmp_path, example=WAVEFORMS if with_example else None)
    assert len(adapter.r) == 6
    same(net, adapter, wrapped, WAVEFORMS)


@pytest.mark.parametrize("kind", list(Amplitude))
@pytest.mark.parametrize("with_example", [False, True])
def test_natural_sites_to_peft(hugging_face_net: Any, tmp_path: Path, kind: Amplitude, with_example: bool) -> None:
    net = hugging_face_net("Wav2Vec2")
    adapter = LhucAdapter.identity(net, default_sites(net), kind)
    with torch.no_grad():
        for r in adapter.parameters():
            r.add_(torch.randn(r.shape, generator=torch.Generator().manual_seed(3)), alpha=0.5)
    export_ia3(net, adapter, tmp_path, example=WAVEFORMS if with_example else None, base_model="a/model")
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(net), str(tmp_path)).eval()
    same(net, adapter, loaded, WAVEFORMS)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "a/model"


def test_whisper_has_natural_places_though_its_dropout_is_no_module(whisper_folder: Path, tmp_path: Path) -> None:
    import transformers

    net = transformers.WhisperForConditionalGeneration.from_pretrained(whisper_folder).eval()
    example = {"input_features": torch.randn(1, 80, 100), "decoder_input_ids": torch.tensor([[95, 5, 6]])}
    wrapped = in_peft(net, tmp_path, target_modules=["k_proj", "fc2"], feedforward_modules=["fc2"])
    adapter = import_ia3(net, tmp_path)
    with torch.no_grad():
        expected = wrapped(**example).logits
        with adapter.attached(net):
            torch.testing.assert_close(net(**example).logits, expected, rtol=1e-5, atol=1e-5)
    assert import_ia3(net, tmp_path, example=example).r.keys() == adapter.r.keys()


def test_a_name_that_ends_another_is_not_scaled_with_it(tmp_path: Path) -> None:
    """PEFT takes names in lists for ends of names; ours must mean one module each."""
    net = nn.Sequential()
    net.add_module("fc", nn.Linear(6, 6))
    inner = nn.Sequential()
    inner.add_module("fc", nn.Linear(6, 6))
    net.add_module("block", inner)
    adapter = LhucAdapter({"fc": torch.full((6,), 2.0)}, Amplitude.identity)
    export_ia3(net, adapter, tmp_path)
    same(net, adapter, peft.PeftModel.from_pretrained(copy.deepcopy(net), str(tmp_path)).eval(), FEATS)


class Residual(nn.Module):
    """The hidden units are read by a linear layer and by a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.second = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        units = self.act(self.first(x))
        summed: Tensor = units + self.second(units)
        return summed


def test_units_that_something_else_reads_too_are_refused_by_name(tmp_path: Path) -> None:
    net = Residual()
    in_peft(net, tmp_path, target_modules=["second", "first"], feedforward_modules=["second"])
    with pytest.raises(SiteError, match="more than 'second' uses the output of 'act'"):
        import_ia3(net, tmp_path, example=FEATS)
    adapter = LhucAdapter.identity(net, find_sites(net, "act"))
    with pytest.raises(SiteError, match="more than 'second' uses the output of 'act'"):
        export_ia3(net, adapter, tmp_path / "ours", example=FEATS)
    assert not (tmp_path / "ours").exists()


def test_shared_inputs_are_refused_by_name_and_all_at_once(hugging_face_net: Any, tmp_path: Path) -> None:
    net = hugging_face_net("Wav2Vec2")
    in_peft(net, tmp_path, target_modules=["q_proj", "output_dense"], feedforward_modules=["q_proj", "output_dense"])
    for example in (None, WAVEFORMS):
        with pytest.raises(SiteError, match=r"layers\.0\.attention\.q_proj.*layers\.1\.attention\.q_proj") as caught:
            import_ia3(net, tmp_path, example=example)
        assert "output_dense" not in str(caught.value)


def test_an_unknown_model_without_an_example_is_refused_with_advice(tmp_path: Path) -> None:
    net = mlp()
    in_peft(net, tmp_path, target_modules=["3"], feedforward_modules=["3"])
    with pytest.raises(SiteError, match=r"'3': no module is known.*an example might show more"):
        import_ia3(net, tmp_path)


def test_sites_that_ia3_cannot_have_are_refused_by_name(hugging_face_net: Any, tmp_path: Path) -> None:
    net = hugging_face_net("Wav2Vec2")
    norms = find_sites(net, "wav2vec2.encoder.layers.*.final_layer_norm", example=WAVEFORMS)
    with pytest.raises(SiteError, match=r"layers\.0\.final_layer_norm': no module is known"):
        export_ia3(net, LhucAdapter.identity(net, norms), tmp_path, example=WAVEFORMS)


def test_a_scale_for_each_band_is_refused(tmp_path: Path) -> None:
    net = convolutions()
    adapter = LhucAdapter({"0": torch.zeros(3, 4)}, layouts={"0": Layout("BHHT")})
    with pytest.raises(SiteError, match="every channel and band"):
        export_ia3(net, adapter, tmp_path)


def test_two_sites_on_the_same_units_are_refused(tmp_path: Path) -> None:
    net = mlp()
    adapter = LhucAdapter.identity(net, find_sites(net, ["1", "2"], example=FEATS))
    with pytest.raises(SiteError, match="another site scales the module '3' as well"):
        export_ia3(net, adapter, tmp_path, example=FEATS)


def test_two_modules_that_are_one_site_are_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
    in_peft(net, tmp_path, target_modules=["0", "1"], feedforward_modules=["1"])
    with pytest.raises(SiteError, match="'1': another of its modules scales the site '0' as well"):
        import_ia3(net, tmp_path, example=FEATS)


def test_other_kinds_of_adapters_are_refused(tmp_path: Path) -> None:
    peft.get_peft_model(mlp(), peft.LoraConfig(target_modules=["0"])).save_pretrained(str(tmp_path))
    with pytest.raises(ProfileError, match="of kind 'LORA'"):
        import_ia3(mlp(), tmp_path)


def test_trained_weights_beside_the_scales_are_refused_by_name(tmp_path: Path) -> None:
    config = peft.IA3Config(target_modules=["0"], feedforward_modules=[], modules_to_save=["5"])
    peft.get_peft_model(mlp(), config).save_pretrained(str(tmp_path))
    with pytest.raises(ProfileError, match=r"'base_model\.model\.5\.(weight|bias)', which is no vector"):
        import_ia3(mlp(), tmp_path)


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (nn.Sequential(nn.Linear(6, 8)), "has no module '3'"),
        (nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 5)), "has 9 units here"),
        (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Bilinear(8, 8, 5)), "here a Bilinear"),
    ],
)
def test_an_adapter_of_another_model_is_refused(net: nn.Module, told: str, tmp_path: Path) -> None:
    in_peft(mlp(), tmp_path, target_modules=["3"], feedforward_modules=["3"])
    with pytest.raises(ProfileError, match=told):
        import_ia3(net, tmp_path)


@pytest.mark.parametrize("what", ["no folder", "no tensors", "broken json", "broken tensors"])
def test_a_damaged_folder_is_told_in_one_line(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "ia3"
    if what != "no folder":
        in_peft(mlp(), folder, target_modules=["0"], feedforward_modules=[])
    if what == "no tensors":
        (folder / "adapter_model.safetensors").unlink()
    if what == "broken json":
        (folder / "adapter_config.json").write_text("{")
    if what == "broken tensors":
        (folder / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ProfileError) as caught:
        import_ia3(mlp(), folder)
    assert "\n" not in str(caught.value)


def test_the_wrong_shape_for_its_side_is_refused(tmp_path: Path) -> None:
    """Six factors for an input of six units, but kept as PEFT keeps those of an output."""
    in_peft(mlp(), tmp_path, target_modules=["0"], feedforward_modules=["0"])
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file({name: value.reshape(-1, 1) for name, value in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ProfileError, match=r"factors of shape \(6, 1\) for '0', whose input"):
        import_ia3(mlp(), tmp_path)
