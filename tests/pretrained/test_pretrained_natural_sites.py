"""The natural sites of well-known models act in every mode, one for each feed-forward block."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.probe import prove_sites_act
from lhuc_asr.pretrained.natural_sites import NATURAL_SITES, default_sites, readers

WAVEFORMS = torch.randn(2, 1600, generator=torch.Generator().manual_seed(1))
FEATS = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(1))
LENS = torch.tensor([12, 12])


def check(net: nn.Module, example: Any, num_sites: int, **also: Any) -> None:
    """As many sites as there are blocks; on an example the same; all act; each is what its reader reads."""
    sites = default_sites(net)
    assert len(sites) == num_sites
    assert default_sites(net, example=example) == sites
    prove_sites_act(net, sites, example, also=also)
    for site in sites:
        reads: list[torch.Tensor] = []
        gives: list[torch.Tensor] = []
        hooks = [
            net.get_submodule(site.name).register_forward_hook(lambda *args, gives=gives: gives.append(args[2])),
            net.get_submodule(readers(net)[site.name]).register_forward_hook(
                lambda layer, inputs, output, reads=reads: reads.append(inputs[0])
            ),
        ]
        net.eval()
        Example.of(example).output(net)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(gives[0], reads[0], rtol=0, atol=0)


@pytest.mark.parametrize("norm_first", [False, True])
def test_torchaudio_wav2vec2_and_hubert(torchaudio_net: Any, norm_first: bool) -> None:
    check(torchaudio_net(norm_first=norm_first), WAVEFORMS, 2)


def test_torchaudio_wavlm() -> None:
    settings = [*(8, 0.1, 4, 2), *(2, 2), *(32, 100), *(0.1, 6), *(0.1, 0.1), *(False, 0.0), 5]
    net = import_torchaudio("models").wavlm_model("group_norm", [(8, 10, 5), (8, 8, 4)], False, *settings)
    check(net, WAVEFORMS, 2)


def test_torchaudio_hubert_for_pretraining(torchaudio_net: Any) -> None:
    models = import_torchaudio("models")
    wav2vec2 = torchaudio_net()
    net = models.HuBERTPretrainModel(wav2vec2, nn.Identity(), nn.Identity(), None)
    assert [site.name for site in default_sites(net)] == [f"wav2vec2.{site.name}" for site in default_sites(wav2vec2)]


def test_torchaudio_bundles_wrap_the_same_model(torchaudio_net: Any) -> None:
    wrap = import_torchaudio("pipelines._wav2vec2.utils")._extend_model
    check(wrap(torchaudio_net(), normalize_waveform=True, apply_log_softmax=True), WAVEFORMS, 2)


@pytest.mark.parametrize("convolution_first", [False, True])
def test_torchaudio_conformer(convolution_first: bool) -> None:
    torch.manual_seed(0)
    net = import_torchaudio("models").Conformer(8, 2, 6, 2, 3, convolution_first=convolution_first)
    check(net, (FEATS, LENS), 4)


def test_torchaudio_emformer_also_when_it_streams() -> None:
    torch.manual_seed(0)
    net = import_torchaudio("models").Emformer(8, 2, 6, 2, segment_length=4, right_context_length=1)
    chunk = Example((FEATS[:1, :5], torch.tensor([5])), call=lambda net, *args: net.infer(*args))
    check(net, (FEATS, LENS), 2, streaming=chunk)


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM", "Data2VecAudio", "UniSpeech", "UniSpeechSat"])
def test_hugging_face_encoders(hugging_face_net: Any, kind: str) -> None:
    check(hugging_face_net(kind), WAVEFORMS, 2)


def test_hugging_face_wav2vec2_with_the_norm_first(hugging_face_net: Any) -> None:
    check(hugging_face_net("Wav2Vec2", do_stable_layer_norm=True, feat_extract_norm="layer"), WAVEFORMS, 2)


@pytest.mark.parametrize("kind", ["Wav2Vec2Conformer", "Wav2Vec2Bert"])
def test_hugging_face_conformers_have_two_blocks_a_layer(hugging_face_net: Any, kind: str) -> None:
    example = WAVEFORMS if kind == "Wav2Vec2Conformer" else FEATS
    check(hugging_face_net(kind, feature_projection_input_dim=8, conv_depthwise_kernel_size=3), example, 4)


def test_whisper_encoder_and_decoder(whisper_folder: Path) -> None:
    import transformers

    net = transformers.WhisperForConditionalGeneration.from_pretrained(whisper_folder)
    feats = torch.randn(2, 80, 100, generator=torch.Generator().manual_seed(1))
    check(net, {"input_features": feats, "decoder_input_ids": torch.tensor([[95, 5, 6], [95, 7, 8]])}, 4)
    assert len(default_sites(net.model.encoder)) == 2
    assert len(default_sites(net.model.decoder)) == 2


def test_every_row_of_the_table_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for key in NATURAL_SITES:
        name = key.partition(".")[2].removesuffix("Model").removesuffix("Encoder").removesuffix("Decoder")
        assert name in text or name.lower() in text, f"{key} is in no test"


def test_units_are_those_of_the_model_without_a_call() -> None:
    """By kind alone, Whisper's activation would be taken for a layer norm's output."""
    net = import_torchaudio("models").Conformer(8, 2, 6, 1, 3)
    assert [(site.num_units, site.layout.letters) for site in default_sites(net)] == [(6, "TBH"), (6, "TBH")]


def test_a_model_inside_a_users_own_is_known(torchaudio_net: Any) -> None:
    class Recogniser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = torchaudio_net(aux_num_out=None)
            self.out = nn.Linear(16, 5)

        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.out(self.front(waveforms)[0])
            return output

    check(Recogniser(), WAVEFORMS, 2)


def test_a_subclass_is_known() -> None:
    class MyConformer(import_torchaudio("models").Conformer):  # type: ignore[misc]
        pass

    assert len(default_sites(MyConformer(8, 2, 6, 2, 3))) == 4


def test_an_unknown_model_is_refused_with_what_is_known_and_how_to_go_on() -> None:
    with pytest.raises(SiteError, match=r"known for Linear.*torchaudio.Conformer.*find_sites\(model"):
        default_sites(nn.Linear(2, 3))


def test_a_known_class_whose_inside_has_changed_is_refused() -> None:
    net = import_torchaudio("models").Conformer(8, 2, 6, 1, 3)
    del net.conformer_layers[0].ffn2
    with pytest.raises(SiteError, match=r"Conformer has no 'conformer_layers\.\*\.ffn2"):
        default_sites(net)


def test_layers_that_training_drops_by_chance_still_adapt_in_evaluation_mode(torchaudio_net: Any) -> None:
    net = torchaudio_net(encoder_layer_drop=0.9).eval()
    adapter = LhucAdapter.identity(net, default_sites(net))
    with adapter.attached(net):
        net(WAVEFORMS)[0].square().sum().backward()
    assert all(r.grad is not None and r.grad.abs().sum() > 0 for r in adapter.parameters())


def bundles() -> list[str]:
    pipelines = import_torchaudio("pipelines")
    return [name for name in dir(pipelines) if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)]


@pytest.mark.parametrize("name", bundles())
def test_every_bundle_of_torchaudio_has_a_site_for_each_layer(name: str) -> None:
    """Their architectures as they are, without memory for the weights."""
    bundle = getattr(import_torchaudio("pipelines"), name)
    with torch.device("meta"):
        net = import_torchaudio("pipelines._wav2vec2.utils")._get_model(bundle._model_type, bundle._params)
    params = bundle._params
    expected = [params["encoder_ff_interm_features"]] * params["encoder_num_layers"]
    assert [site.num_units for site in default_sites(net)] == expected


def test_the_room_needs_none_of_the_packages_whose_models_it_knows() -> None:
    code = (
        "import importlib, pkgutil, sys, lhuc_asr.pretrained as room\n"
        "for module in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'lhuc_asr.pretrained.{module.name}')\n"
        "print([name for name in ('transformers', 'peft', 'torchaudio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
