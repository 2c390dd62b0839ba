"""From settings to what makes vectors: listeners to sound, and what is known of the people of some data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lhuc_asr.conditioning.attributes import Attributes, learn_attributes
from lhuc_asr.conditioning.description import Listen
from lhuc_asr.conditioning.embedding import VoiceEmbedding
from lhuc_asr.conditioning.people import KnownVectors, Who
from lhuc_asr.conditioning.settings import ConditionConfig, VectorKind
from lhuc_asr.conditioning.statistics import VoiceStatistics
from lhuc_asr.conditioning.vector_file import VectorFile, read_vectors
from lhuc_asr.errors import ConfigError
from lhuc_asr.features.pipeline import FeatureConfig


def listeners_of(
    config: ConditionConfig, features: FeatureConfig, embedding: VoiceEmbedding | None = None
) -> dict[str, Listen]:
    """Kind -> what makes vectors of that kind of sound.

    Args:
        config: which kinds.
        features: of the model.
        embedding: trained, where the settings ask for it.
    """
    listeners: dict[str, Listen] = {}
    if VectorKind.statistics in config.vectors:
        listeners[VectorKind.statistics.name] = VoiceStatistics(config.statistics, features)
    if VectorKind.embedding in config.vectors:
        assert embedding is not None, "an embedding is trained before anything is described by it"
        listeners[VectorKind.embedding.name] = embedding
    return listeners


def known_kinds(config: ConditionConfig) -> list[VectorKind]:
    """Kinds that are not heard, in the order in which they stand in z: the table last."""
    return [kind for kind in VectorKind if kind in config.vectors and not kind.is_heard]


def learn_known(config: ConditionConfig, data: Path, people: Iterable[Who]) -> dict[str, KnownVectors]:
    """Kind -> what is known of training speakers before a gate is trained.

    Args:
        config: which kinds, and where they are found.
        data: directory of the training data.
        people: training utterances.

    Raises:
        ConfigError: a file is wanted and not named.
        DataError: a file or a table is missing or wrong, or tells nothing of the training speakers.
    """
    known: dict[str, KnownVectors] = {}
    if VectorKind.file in config.vectors:
        known[VectorKind.file.name] = _vector_file(config)
    if VectorKind.attributes in config.vectors:
        known[VectorKind.attributes.name] = learn_attributes(data, people, config.attributes)
    return known


def known_of(learnt: Mapping[str, KnownVectors], config: ConditionConfig, data: Path) -> dict[str, KnownVectors]:
    """Kind -> what is known of the people of some other data.

    Args:
        learnt: of a gate.
        config: of the run: where the file of vectors is.
        data: directory of the data.

    Raises:
        ConfigError: a file is wanted and not named, or the other way round.
        DataError: a file or a table is missing or wrong.
    """
    require_file_or_none(config, wanted=VectorKind.file.name in learnt)
    known: dict[str, KnownVectors] = {}
    for kind, vectors in learnt.items():
        if kind == VectorKind.file.name:
            known[kind] = _vector_file(config)
        elif isinstance(vectors, Attributes):
            known[kind] = vectors.of(data)
    return known


def require_file_or_none(config: ConditionConfig, *, wanted: bool) -> None:
    """Raise ConfigError where a file of vectors is wanted and not named, or named and not wanted."""
    if wanted and config.vectors_from is None:
        raise ConfigError("the gate goes by vectors of a file: name that of this data, condition.vectors_from=FILE")
    if not wanted and config.vectors_from is not None:
        raise ConfigError(
            f"condition.vectors_from={config.vectors_from}: the gate goes by no file; train one with "
            "condition.vectors=[file]"
        )


def _vector_file(config: ConditionConfig) -> VectorFile:
    assert config.vectors_from is not None
    return read_vectors(Path(config.vectors_from))
