"""Models from torchaudio's bundles and from Hugging Face, each with the way in which it is fed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.dependencies import import_torchaudio
from lhuc_asr.errors import DependencyError, ModelError, nearest
from lhuc_asr.pretrained.ctc_adaptation import CtcModel


def import_transformers() -> ModuleType:
    """Hugging Face's package, or DependencyError with the remedy."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise DependencyError(
            f"transformers cannot be imported ({error}); install it with: pip install 'lhuc_asr[pretrained]'"
        ) from error


def load_torchaudio_ctc(bundle: str, *, folder: Path | None = None) -> CtcModel:
    """A bundle of ``torchaudio.pipelines`` that is trained for CTC, such as ``WAV2VEC2_ASR_BASE_960H`` or ``MMS_FA``.

    Args:
        bundle: its name.
        folder: where downloaded checkpoints lie; None is torch's own cache.

    Raises:
        ModelError: torchaudio has no such bundle, or it has no labels and thus no CTC output.
    """
    pipelines = import_torchaudio("pipelines")
    found = getattr(pipelines, bundle, None)
    if not hasattr(found, "get_labels"):
        known = [name for name in dir(pipelines) if hasattr(getattr(pipelines, name), "get_labels")]
        what = "knows no bundle" if found is None else "has no CTC labels in its bundle"
        raise ModelError(f"torchaudio {what} {bundle!r}; the nearest with labels are {nearest(bundle, known)}")
    assert found is not None
    star: dict[str, Any] = {"with_star": False} if isinstance(found, pipelines.Wav2Vec2FABundle) else {}
    net = found.get_model(**star, dl_kwargs=None if folder is None else {"model_dir": str(folder)})
    labels = found.get_labels(**({"star": None} if star else {}))
    return torchaudio_ctc(net, labels, sampling_rate=int(found.sample_rate))


def torchaudio_ctc(net: nn.Module, labels: Sequence[str], *, blank: int = 0, sampling_rate: int = 16000) -> CtcModel:
    """A torchaudio model that takes waveforms and gives logits and lengths.

    Args:
        net: such as ``wav2vec2_model(..., aux_num_out=len(labels))``.
        labels: of all tokens; ``|`` is written as a blank between words.
        blank: number of the CTC blank.
        sampling_rate: of its waveforms.
    """

    def run(net: nn.Module, samples: Tensor) -> Tensor:
        logits: Tensor = net(samples[None].to(next(net.parameters()).device))[0][0]
        return logits

    def text(tokens: Sequence[int]) -> str:
        return " ".join("".join(labels[token] for token in tokens).replace("|", " ").split())

    return CtcModel(net.eval(), run, blank, text, sampling_rate)


def load_hugging_face_ctc(name_or_path: str) -> CtcModel:
    """Any model that ``AutoModelForCTC`` loads, such as ``facebook/wav2vec2-base-960h``, with its processor.

    Raises:
        ModelError: there is no such model, or it is none for CTC.
        DependencyError: transformers is not installed.
    """
    transformers = import_transformers()
    net = from_pretrained(transformers.AutoModelForCTC, name_or_path)
    return hugging_face_ctc(net, from_pretrained(transformers.AutoProcessor, name_or_path))


def hugging_face_ctc(net: nn.Module, processor: Any) -> CtcModel:
    """A Hugging Face CTC model with its processor, which prepares waveforms and turns tokens into text."""
    rate = int(processor.feature_extractor.sampling_rate)

    def run(net: nn.Module, samples: Tensor) -> Tensor:
        logits: Tensor = net(**prepared(processor.feature_extractor, samples, rate, net)).logits[0]
        return logits

    def text(tokens: Sequence[int]) -> str:
        return str(processor.tokenizer.decode(tokens, group_tokens=False))

    blank = net.config.pad_token_id  # type: ignore[union-attr]
    assert isinstance(blank, int)
    return CtcModel(net.eval(), run, blank, text, rate)


def prepared(extractor: Any, samples: Tensor, sampling_rate: int, net: nn.Module) -> dict[str, Tensor]:
    """What a Hugging Face feature extractor makes of (N,) samples, on the net's device."""
    inputs = extractor(samples.cpu().numpy(), sampling_rate=sampling_rate, return_tensors="pt")
    device = next(net.parameters()).device
    return {name: torch.as_tensor(value).to(device) for name, value in inputs.items()}


def from_pretrained(kind: Any, name_or_path: str) -> Any:
    """``kind.from_pretrained``, with its complaint as a ModelError in one line."""
    try:
        return kind.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(f"{kind.__name__} cannot load {name_or_path!r}: {reason[0] if reason else error!r}") from error
