"""Tensors on disk: safetensors files that are whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lhuc_asr.errors import ModelError
from lhuc_asr.files import atomic_path


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write named tensors atomically; a full disk raises ``OSError`` and leaves what was there before."""
    content = safetensors.torch.save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the tensors in '{path}': {error}") from error


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Put weights into a network that must have exactly these names and shapes.

    Args:
        network: receives the weights.
        weights: name -> tensor, as in its ``state_dict``.
        source: where they come from, for the message.

    Raises:
        ModelError: a name or a shape differs; the text names the first ones.
    """
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in sorted(expected.keys() & weights.keys()) if expected[name].shape != weights[name].shape]
    if wrong:
        raise ModelError(
            f"the weights in '{source}' do not fit the network: {', '.join(map(repr, wrong[:3]))}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''} missing, unknown or of another shape"
        )
    network.load_state_dict(dict(weights))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, whatever their order."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()
