"""Folding nets that others have built: torch's Transformer, torchaudio's encoders, Hugging Face's."""

import pytest
import torch
from torch import nn

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import FoldError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.lhuc.fold import fold, outputs_of, plan_fold


def folds(net, patterns, example):
    """Fold all sites that match, prove it on the example, and say where each has gone."""
    torch.manual_seed(1)
    sites = find_sites(net, patterns, example=example)
    r = {site.name: 0.5 * torch.randn(site.units) for site in sites}
    adapter = LhucAdapter(r, layouts={site.name: site.layout for site in sites})
    before = fingerprint(net)
    folded = fold(net, adapter, example)
    assert fingerprint(net) == before != fingerprint(folded)
    plain, adapted = (outputs_of(model.eval(), Example.of(example))[0] for model in (net, folded))
    assert not torch.allclose(plain, adapted, atol=1e-3)
    return {plan.site.name: plan.where for plan in plan_fold(net, sites, example)}


def test_conformer():
    torch.manual_seed(0)
    net = import_torchaudio("models").Conformer(16, 2, 24, 2, 3)
    example = (torch.randn(2, 12, 16), torch.tensor([12, 9]))
    where = folds(net, ["*ffn?.sequential.2", "*.conv_module.sequential.[1245]", "*.final_layer_norm"], example)
    assert where["conformer_layers.1.ffn2.sequential.2"] == "into 'conformer_layers.1.ffn2.sequential.4' input columns"
    glu = "conformer_layers.0.conv_module.sequential.1"
    assert where[glu] == "into 'conformer_layers.0.conv_module.sequential.2' input columns"
    norm = "conformer_layers.0.final_layer_norm"
    assert where[norm] == f"into own rows of {norm!r}"


def test_wav2vec2_of_torchaudio():
    torch.manual_seed(0)
    net = import_torchaudio("models").wav2vec2_model(
        *("group_norm", [(8, 10, 5), (8, 3, 2)], False, 16, 0.0, 4, 2, 2, 2, 0.0, 24, 0.0, 0.0, False, 0.0, 5)
    )
    where = folds(net, ["*intermediate_dense", "*.v_proj", "*.final_layer_norm", "*layers.*.conv"], torch.randn(2, 400))
    last = "encoder.transformer.layers.1.final_layer_norm"
    assert where[last] == "into 'aux' input columns"
    with pytest.raises(FoldError, match=r"weights of conv1d in '.*' are computed from others \(weight norm"):
        folds(net, "*.pos_conv_embed.conv", torch.randn(2, 400))


@pytest.mark.parametrize("stable", [False, True])
def test_wav2vec2_of_hugging_face(stable):
    transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        vocab_size=7,
        do_stable_layer_norm=stable,
        feat_extract_norm="layer" if stable else "group",
    )
    net = transformers.Wav2Vec2ForCTC(config)
    mask = torch.ones(2, 400, dtype=torch.long)
    mask[1, 300:] = 0
    example = {"input_values": torch.randn(2, 400), "attention_mask": mask}
    where = folds(net, ["*.intermediate_act_fn", "*.v_proj", "*.layers.*.layer_norm", "*.0.activation"], example)
    assert where["wav2vec2.encoder.layers.0.feed_forward.intermediate_act_fn"] == (
        "into 'wav2vec2.encoder.layers.0.feed_forward.output_dense' input columns"
    )
    with pytest.raises(FoldError, match=r"'wav2vec2.feature_extractor.conv_layers.1.activation': not foldable: "):
        folds(net, "*.conv_layers.1.activation", example)


def test_transformer_of_torch_whose_fast_path_skips_hooks():
    torch.manual_seed(0)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    where = folds(net, ["*.linear1", "*.linear2", "*.norm1"], torch.randn(2, 5, 8))
    assert where["layers.0.linear1"] == "into 'layers.0.linear2' input columns"  # through its ReLU
    assert where["layers.0.linear2"] == "into own rows of 'layers.0.linear2'"
