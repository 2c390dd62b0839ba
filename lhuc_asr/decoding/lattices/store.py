"""Lattices on disk: one safetensors file for many utterances, each column as narrow as its numbers allow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.errors import DataError
from lhuc_asr.files import atomic_path

FORMAT_VERSION = 1
LATTICES_FILE = "lattices.safetensors"
_COLUMNS = ("num_arcs_of_state", "step", "transition_id", "word", "graph_cost", "acoustic_cost", "final_cost")


def write_lattices(directory: Path, lattices: Iterable[Lattice]) -> Path:
    """Write lattices into one file that is whole or absent, in the order of the ids.

    Utterance ids are only ever values, never names of tensors or files. Reading gives every number back exactly.

    Returns:
        The file.
    """
    from safetensors.numpy import save_file

    ordered = sorted(lattices, key=lambda lattice: lattice.utterance)
    index = [[one.utterance, one.num_states, one.num_arcs, one.acoustic_scale, one.reached_final] for one in ordered]
    columns = [_columns(lattice) for lattice in ordered]
    tensors = {name: _joined([column[name] for column in columns]) for name in _COLUMNS}
    metadata = {"format_version": str(FORMAT_VERSION), "index": json.dumps(index, ensure_ascii=False)}
    path = directory / LATTICES_FILE
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return path


def remove_lattices(directory: Path) -> None:
    """Remove what an earlier run left in a directory."""
    (directory / LATTICES_FILE).unlink(missing_ok=True)


def read_lattices(directory: Path) -> dict[str, Lattice]:
    """Read what `write_lattices` wrote: utterance id -> lattice, in the order of the ids.

    Raises:
        DataError: the file is missing, damaged or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = directory / LATTICES_FILE
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format_version") != str(FORMAT_VERSION):
                version = metadata.get("format_version")
                raise DataError(f"{str(path)!r} has format {version!r}; this version reads format {FORMAT_VERSION}")
            tensors = {name: file.get_tensor(name) for name in _COLUMNS}
        return {lattice.utterance: lattice for lattice in _lattices(json.loads(metadata["index"]), tensors)}
    except OSError as error:
        raise DataError(f"no lattices in {str(directory)!r}: {error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"damaged lattices in {str(path)!r}: {error}; decode again") from error


def _columns(lattice: Lattice) -> dict[str, NDArray[Any]]:
    return {
        "num_arcs_of_state": np.bincount(lattice.source, minlength=lattice.num_states),
        "step": lattice.target - lattice.source,
        "transition_id": lattice.transition_id,
        "word": lattice.word,
        "graph_cost": lattice.graph_cost,
        "acoustic_cost": lattice.acoustic_cost,
        "final_cost": lattice.final_cost,
    }


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One column of all utterances; counts and labels become as narrow as the largest allows."""
    joined = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    if joined.dtype.kind == "f":
        return joined.astype(np.float32, copy=False)
    return joined.astype(np.min_scalar_type(int(joined.max(initial=0))))


def _lattices(index: list[list[Any]], tensors: dict[str, NDArray[Any]]) -> Iterator[Lattice]:
    state = arc = 0
    for utterance, num_states, num_arcs, acoustic_scale, reached_final in index:
        states, arcs = slice(state, state + num_states), slice(arc, arc + num_arcs)
        state, arc = state + num_states, arc + num_arcs
        counts = tensors["num_arcs_of_state"][states].astype(np.int64)
        if len(counts) != num_states or counts.sum() != num_arcs or len(tensors["word"][arcs]) != num_arcs:
            raise DataError(f"damaged lattice of utterance {utterance!r}: its arcs do not fit its states; decode again")
        source = np.repeat(np.arange(num_states, dtype=np.int32), counts)
        yield Lattice(
            utterance=utterance,
            source=source,
            target=source + tensors["step"][arcs].astype(np.int32),
            transition_id=tensors["transition_id"][arcs].astype(np.int32),
            word=tensors["word"][arcs].astype(np.int32),
            graph_cost=tensors["graph_cost"][arcs],
            acoustic_cost=tensors["acoustic_cost"][arcs],
            final_cost=tensors["final_cost"][states],
            acoustic_scale=acoustic_scale,
            reached_final=reached_final,
        )
    if state != len(tensors["final_cost"]) or arc != len(tensors["word"]):
        raise DataError("the index does not cover all states and arcs; decode again")
