"""Tensors on disk: whole, absent, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lhuc_asr.errors import ModelError
from lhuc_asr.models.weights import digest, load_tensors, load_weights, save_tensors


def test_round_trip_is_exact(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b.c": torch.arange(5), "d": torch.randn(4, 2).T}
    save_tensors(tensors, tmp_path / "x.safetensors")
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\xff" * 100])
def test_missing_or_damaged_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        load_tensors(path)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors({"a": torch.randn(30)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        load_tensors(path)


def test_a_failing_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors({"a": torch.ones(2)}, path)

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_tensors({"a": torch.zeros(2)}, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]
    assert torch.equal(load_tensors(path)["a"], torch.ones(2))


def test_weights_of_another_network_are_refused() -> None:
    network = nn.Linear(2, 3)
    with pytest.raises(ModelError, match="'weight'"):
        load_weights(network, {"weight": torch.zeros(3, 1), "bias": torch.zeros(3)}, source="x")
    with pytest.raises(ModelError, match="'extra'"):
        load_weights(network, {**network.state_dict(), "extra": torch.zeros(1)}, source="x")


def test_digest_sees_values_names_and_shapes_but_not_order() -> None:
    a, b = torch.arange(4.0), torch.ones(2)
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a.clone()})
    others = [{"a": a + 1e-6, "b": b}, {"c": a, "b": b}, {"a": a.view(2, 2), "b": b}, {"a": a}]
    assert len({digest(other) for other in [{"a": a, "b": b}, *others]}) == 5
