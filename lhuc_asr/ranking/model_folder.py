"""A trained ranking model on disk: weights and known ids as tensors, columns as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lhuc_asr.errors import ModelError
from lhuc_asr.files import read_json, write_json
from lhuc_asr.ranking.encoding import Encoder
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.ranker_config import RankerConfig
from lhuc_asr.ranking.schema import LogSchema
from lhuc_asr.ranking.vocabulary import Vocabulary
from lhuc_asr.tensors import load_tensors, save_tensors

_WEIGHTS, _IDS, _COLUMNS = "weights.safetensors", "ids.safetensors", "columns.json"
_MEAN, _DEVIATION, _KNOWN = "mean", "deviation", "known."
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """A model and what turns logs into its numbers."""

    ranker: Ranker
    encoder: Encoder


def save_ranker(folder: Path, trained: TrainedRanker) -> None:
    """Write a model; its settings are written by whoever has composed them."""
    encoder = trained.encoder
    ids: dict[str, Tensor] = {
        f"{_KNOWN}{name}": torch.from_numpy(words.known)
        for name, words in zip(encoder.schema.sparse, encoder.vocabularies, strict=True)
    }
    ids |= {_MEAN: torch.from_numpy(encoder.mean_D), _DEVIATION: torch.from_numpy(encoder.deviation_D)}
    save_tensors(trained.ranker.state_dict(), folder / _WEIGHTS)
    save_tensors(ids, folder / _IDS)
    schema = encoder.schema
    columns = {"sparse": list(schema.sparse), "dense": list(schema.dense), "tasks": list(schema.tasks)}
    write_json(folder / _COLUMNS, {"format": _FORMAT, **columns})


def load_ranker(folder: Path, config: RankerConfig) -> TrainedRanker:
    """Read what ``save_ranker`` wrote.

    Args:
        folder: of the model.
        config: with which it was made.

    Raises:
        ModelError: a file is missing or damaged, or was made with other settings.
    """
    schema, ids = _read_schema(folder / _COLUMNS), load_tensors(folder / _IDS)
    weights = load_tensors(folder / _WEIGHTS)
    try:
        encoder = Encoder(
            schema,
            tuple(Vocabulary(ids[f"{_KNOWN}{name}"].numpy()) for name in schema.sparse),
            ids[_MEAN].numpy(),
            ids[_DEVIATION].numpy(),
        )
        ranker = Ranker(encoder, config)
        ranker.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise ModelError(f"'{folder}' has no model of these settings: {problem[:300]}") from error
    ranker.eval()
    return TrainedRanker(ranker, encoder)


def _read_schema(path: Path) -> LogSchema:
    try:
        page = read_json(path)
        if page["format"] != _FORMAT:
            raise ModelError(f"'{path}' has format {page['format']}, this version reads {_FORMAT}")
        return LogSchema(tuple(page["sparse"]), tuple(page["dense"]), tuple(page["tasks"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"'{path}' does not tell the columns of a ranking model: {error}") from error
