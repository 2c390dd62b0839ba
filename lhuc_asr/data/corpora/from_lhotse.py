"""Corpora whose layout lhotse knows: what it finds in memory, checked like all other data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lhuc_asr.data.lhotse_manifests import inspect_sets
from lhuc_asr.data.problems import Inspected
from lhuc_asr.errors import DataError


def found_by_lhotse(prepare: Callable[[], Any], root: Path, corpus: str) -> Any:
    """What one of lhotse's ``prepare_*`` functions finds.

    Raises:
        DataError: it does not find the corpus there.
    """
    from lhotse.audio.backend import audio_backend
    from lhotse.audio.utils import AudioLoadingError

    try:
        with audio_backend("LibsndfileBackend"):  # reads SPHERE files, for which lhotse would call a program
            return prepare()
    except (AssertionError, AudioLoadingError, KeyError, OSError, ValueError) as error:
        reason = str(error).strip() or type(error).__name__
        raise DataError(f"{str(root)!r} cannot be read as {corpus}: {reason}") from error


def inspected(
    sets: Mapping[str, Any],
    root: Path,
    *,
    allow_commands: bool,
    clean: Callable[[str], str] = str,
    speaker: Callable[[Any], str] | None = None,
) -> Inspected:
    """One set of lhotse's as ours, every utterance named after its speaker.

    Args:
        sets: ``recordings`` and ``supervisions``.
        root: where relative paths begin.
        allow_commands: accept recordings that are commands.
        clean: a transcript as the corpus writes it -> words; utterances without any are left out.
        speaker: a supervision -> who speaks, where lhotse's own answer does not serve.
    """
    supervisions = []
    for one in sets["supervisions"]:
        text = " ".join(clean(one.text or "").split())
        name = speaker(one) if speaker else one.speaker
        if text:
            supervisions.append(_renamed(one, name, text))
    return inspect_sets(sets["recordings"], supervisions, root, allow_commands=allow_commands)


def _renamed(supervision: Any, speaker: str, text: str) -> Any:
    from lhotse.utils import fastcopy

    name = supervision.id if supervision.id.startswith(speaker) else f"{speaker}-{supervision.id}"
    return fastcopy(supervision, id=name, speaker=speaker, text=text)


def need_folders(root: Path, corpus: str, *names: str) -> None:
    """Raise DataError where a corpus lacks folders or files that it must have, naming them all."""
    missing = ", ".join(repr(name) for name in names if not (root / name).exists())
    if missing:
        raise DataError(f"{str(root)!r} is not {corpus}: it lacks {missing}")
