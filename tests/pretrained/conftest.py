"""Tiny models with random weights, built by the packages' own classes, and tones to feed them with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from torch import nn

from lhuc_asr.dependencies import import_torchaudio

Build = Callable[..., Any]

LETTERS = "-|ABCDEFGHIJ"
CONVOLUTIONS = [(8, 10, 5), (8, 8, 4), (8, 4, 4)]
"""Channels, width, stride: one frame for 80 samples."""


def tone(seconds: float, pitch: float, rate: int = 16000) -> torch.Tensor:
    """A tone that grows and fades, with a little noise."""
    time = torch.arange(int(seconds * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(int(pitch)))
    return 0.3 * torch.sin(2 * torch.pi * pitch * time) * torch.sin(torch.pi * time / seconds) + 0.01 * noise


@pytest.fixture(scope="session")
def utterances() -> dict[str, torch.Tensor]:
    return {f"anna-{pitch}": tone(0.3 + pitch / 4000, pitch) for pitch in (220, 330, 440)}


@pytest.fixture(scope="session")
def torchaudio_net() -> Build:
    """``wav2vec2_model`` or ``wavlm_model`` with two layers."""

    def build(*, norm_first: bool = False, **settings: Any) -> nn.Module:
        torch.manual_seed(0)
        params = torchaudio_params(norm_first) | settings
        net: nn.Module = import_torchaudio("models").wav2vec2_model(**params)
        return lively(net)

    return build


def torchaudio_params(norm_first: bool = False) -> dict[str, Any]:
    return {
        "extractor_mode": "layer_norm" if norm_first else "group_norm",
        "extractor_conv_layer_config": CONVOLUTIONS,
        "extractor_conv_bias": norm_first,
        "encoder_embed_dim": 16,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 2,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 20,
        "encoder_ff_interm_dropout": 0.1,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": norm_first,
        "encoder_layer_drop": 0.0,
        "aux_num_out": len(LETTERS),
    }


def lively(net: nn.Module) -> nn.Module:
    """Let blocks and the output matter more than their small random weights would, so that tones give tokens."""
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, 2.0 if "aux" in name or "lm_head" in name else 0.4)
    return net


def hugging_face_settings() -> dict[str, Any]:
    """What all configurations of the wav2vec 2.0 family understand."""
    return {
        "vocab_size": len(LETTERS),
        "pad_token_id": 0,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 20,
        "conv_dim": [8, 8, 8],
        "conv_kernel": [10, 8, 4],
        "conv_stride": [5, 4, 4],
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
    }


@pytest.fixture(scope="session")
def hugging_face_net() -> Build:
    """``<Kind>ForCTC`` with two layers, or another class of that family."""
    transformers = pytest.importorskip("transformers", reason="the extra 'pretrained' is not installed")

    def build(kind: str, head: str = "ForCTC", **settings: Any) -> nn.Module:
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**(hugging_face_settings() | settings))
        net: nn.Module = getattr(transformers, kind + head)(config)
        return lively(net).eval()

    return build


@pytest.fixture(scope="session")
def hugging_face_folder(hugging_face_net: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Wav2Vec2ForCTC with its processor, as a download has it."""
    import transformers

    folder = tmp_path_factory.mktemp("wav2vec2")
    vocabulary = tmp_path_factory.mktemp("vocabulary") / "vocab.json"
    letters = {("<pad>" if letter == "-" else letter): number for number, letter in enumerate(LETTERS)}
    vocabulary.write_text(str({**letters, "<unk>": len(letters)}).replace("'", '"'))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    hugging_face_net("Wav2Vec2").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Whisper that hears one second, of many languages, with its processor."""
    transformers = pytest.importorskip("transformers", reason="the extra 'pretrained' is not installed")
    folder = tmp_path_factory.mktemp("whisper")
    characters = {character: number for number, character in enumerate([*map(chr, range(33, 127)), "\u0120"])}
    end, *others = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
    tokenizer = transformers.WhisperTokenizer(vocab=characters, merges=[], **dict.fromkeys(MARKS, end))
    tokenizer.add_tokens([end, *others], special_tokens=True)
    number = dict(zip([end, *others], tokenizer.convert_tokens_to_ids([end, *others]), strict=True))
    torch.manual_seed(0)
    net = transformers.WhisperForConditionalGeneration(whisper_config(transformers, number[end], number[others[0]]))
    net.generation_config._from_model_config = False  # as in real folders, where the file is kept as it is
    net.generation_config.is_multilingual = True
    net.generation_config.no_timestamps_token_id = number["<|notimestamps|>"]
    net.generation_config.lang_to_id = {"<|en|>": number["<|en|>"]}
    net.generation_config.task_to_id = {"transcribe": number["<|transcribe|>"]}
    lively(net).save_pretrained(folder)
    extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


MARKS = ("unk_token", "bos_token", "eos_token", "pad_token")


def whisper_config(transformers: Any, end: int, start: int) -> Any:
    return transformers.WhisperConfig(
        vocab_size=100,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=10,
        max_source_positions=50,
        max_target_positions=16,
        decoder_start_token_id=start,
        **dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), end),
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


@pytest.fixture(scope="session")
def kaldi_dir(utterances: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of one speaker."""
    from lhuc_asr.data.audio import write_audio
    from lhuc_asr.data.kaldi import write_kaldi_dir
    from lhuc_asr.data.manifest import Manifest, Recording, Utterance

    folder = tmp_path_factory.mktemp("data")
    said = []
    for name, samples in utterances.items():
        path = folder / f"{name}.wav"
        write_audio(path, np.asarray(samples), 16000)
        said.append(Utterance(name, Recording(name, str(path)), "anna", transcript="A BAD CAB"))
    write_kaldi_dir(Manifest(tuple(said)), folder)
    return folder
