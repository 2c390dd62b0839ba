"""Kaldi data directories (``wav.scp``, ``segments``, ``text``, ``utt2spk``, ``spk2gender``) as a manifest, and back."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lhuc_asr.data.kaldi_tables import SPACE, KaldiTables, read_tables, split_fields
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import Inspected, Problem, ProblemKind, raise_problems
from lhuc_asr.errors import DataError
from lhuc_asr.files import write_text
from lhuc_asr.units import Seconds

_logger = logging.getLogger(__name__)

_REMEDY = "'lhuc-prepare kaldi --root DIR --out DIR --keep-going' makes a copy without what is wrong"


def read_kaldi_dir(path: Path, *, allow_commands: bool = False, allow_missing: bool = False) -> Manifest:
    """Read a Kaldi data directory whose tables are in order.

    Args:
        path: the directory.
        allow_commands: accept ``cmd |`` in ``wav.scp``; such commands are run when their audio is read.
        allow_missing: accept sound files that do not exist, unless none does; an error when their audio is read.

    Raises:
        DataError: a table is missing, unsorted or holds doubles; a sound file does not exist; an utterance has no
            speaker; a speaker has no utterance; a command is not allowed; there is no utterance at all.
    """
    found = inspect_kaldi_dir(path, allow_commands=allow_commands)
    problems = found.problems_but_missing_audio if allow_missing else found.problems
    raise_problems(problems, source=str(path), remedy=_REMEDY)
    if not found.manifest.utterances:
        raise DataError(f"{str(path)!r} holds no utterance: its wav.scp is empty")
    return found.manifest


def inspect_kaldi_dir(path: Path, *, allow_commands: bool = False) -> Inspected:
    """Read what can be read of a Kaldi directory and tell everything that is wrong with its tables.

    Raises:
        DataError: the directory does not exist, or a table is not UTF-8 text.
    """
    tables = read_tables(path)
    problems = tables.problems()
    recordings, missing = _recordings(tables, allow_commands)
    utterances, bad_lines = _utterances(tables, recordings)
    _tell_unused(tables, utterances)
    return Inspected(Manifest(tuple(utterances)), [*problems, *bad_lines, *missing])


def _tell_unused(tables: KaldiTables, utterances: list[Utterance]) -> None:
    """Mention what is no mistake and yet may surprise."""
    unused = sum(not tables.utterances_in(recording) for recording in tables.table("wav.scp"))
    if unused:
        _logger.warning("%s: no segment lies in %d recordings of wav.scp", tables.directory, unused)
    silent = sum(utterance.transcript is None for utterance in utterances)
    if tables.has("text") and silent:
        _logger.warning("%s: %d of %d utterances have no transcript", tables.directory, silent, len(utterances))


def _recordings(tables: KaldiTables, allow_commands: bool) -> tuple[dict[str, Recording], list[Problem]]:
    recordings: dict[str, Recording] = {}
    problems: list[Problem] = []
    for identifier, value in tables.table("wav.scp").items():
        concerned = tables.utterances_in(identifier)
        if value.endswith("|"):
            recordings[identifier] = Recording(identifier, value[:-1].strip(SPACE), is_command=True)
            if not allow_commands:
                text = f"recording {identifier!r} runs the command {value!r}; --allow-commands permits it"
                problems.append(Problem(ProblemKind.command, identifier, text, concerned))
            continue
        source, tried = resolve_audio(value, tables.directory)
        recordings[identifier] = Recording(identifier, str(source or tried[0]))
        if source is None:
            text = f"the audio of {identifier!r} does not exist; tried {', '.join(repr(str(path)) for path in tried)}"
            problems.append(Problem(ProblemKind.missing_audio, identifier, text, concerned))
    return recordings, problems


def resolve_audio(value: str, directory: Path) -> tuple[Path | None, list[Path]]:
    """Find the file that a manifest names: an absolute path, or one relative to its directory or to the parent of that.

    Returns:
        The absolute path, or None, and the paths that were tried.
    """
    directory = directory.resolve()
    written = Path(value)
    tried = [written] if written.is_absolute() else [directory / written, directory.parent / written]
    return (next((path for path in tried if value and path.is_file()), None), tried)


def _utterances(tables: KaldiTables, recordings: Mapping[str, Recording]) -> tuple[list[Utterance], list[Problem]]:
    segments, problems = _segments(tables, recordings)
    speakers, texts, genders = tables.table("utt2spk"), tables.table("text"), tables.table("spk2gender")
    utterances = [
        Utterance(
            identifier,
            segments[identifier].recording,
            speakers[identifier],
            segments[identifier].start,
            segments[identifier].end,
            " ".join(split_fields(texts[identifier])) if identifier in texts else None,
            genders.get(speakers[identifier]) or None,
        )
        for identifier in tables.utterance_ids
        if identifier in segments and speakers.get(identifier)
    ]
    return utterances, problems


@dataclass(frozen=True, slots=True)
class _Segment:
    recording: Recording
    start: Seconds = 0.0
    end: Seconds | None = None


def _segments(tables: KaldiTables, recordings: Mapping[str, Recording]) -> tuple[dict[str, _Segment], list[Problem]]:
    if not tables.has("segments"):
        return {identifier: _Segment(recording) for identifier, recording in recordings.items()}, []
    segments: dict[str, _Segment] = {}
    problems: list[Problem] = []
    for identifier, value in tables.table("segments").items():
        try:
            segments[identifier] = _parse_segment(split_fields(value), recordings)
        except KeyError as error:
            text = f"utterance {identifier!r} lies in the recording {error.args[0]!r}, which wav.scp does not name"
            problems.append(Problem(ProblemKind.no_audio_entry, identifier, text, (identifier,)))
        except ValueError as error:
            text = f"the segment of {identifier!r} is {value!r}; expected RECORDING START END [CHANNEL] ({error})"
            problems.append(Problem(ProblemKind.bad_line, identifier, text, (identifier,)))
    return segments, problems


def _parse_segment(fields: Iterable[str], recordings: Mapping[str, Recording]) -> _Segment:
    fields = list(fields)
    if len(fields) not in (3, 4):
        raise ValueError(f"{len(fields)} fields")
    recording = recordings[fields[0]]
    start, end = float(fields[1]), float(fields[2])
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError("times must be finite")
    if len(fields) == 4:
        recording = Recording(recording.id, recording.source, int(fields[3]), recording.is_command)
    return _Segment(recording, start, None if end == -1 else end)


def write_kaldi_dir(manifest: Manifest, path: Path) -> None:
    """Write a manifest as a Kaldi data directory; each file is whole or absent, every path to a sound file absolute.

    ``segments`` is written where an utterance is not a whole recording of the same name, with Kaldi's -1 for "to the
    end" and a fifth column for channels other than the first.

    Raises:
        DataError: an id cannot stand in a Kaldi table, or two utterances contradict each other.
    """
    utterances = sorted(manifest, key=lambda utterance: utterance.id)
    _check_ids(utterances)
    sources = _unique(((u.recording.id, _source(u.recording)) for u in utterances), "recording", "source")
    genders = _unique(((u.speaker, u.gender) for u in utterances if u.gender), "speaker", "gender")
    spoken: dict[str, list[str]] = {}
    for utterance in utterances:
        spoken.setdefault(utterance.speaker, []).append(utterance.id)
    tables = {
        "wav.scp": sources,
        "segments": {} if all(map(_is_whole, utterances)) else _segment_lines(utterances),
        "text": {u.id: u.transcript for u in utterances if u.transcript is not None},
        "utt2spk": {u.id: u.speaker for u in utterances},
        "spk2utt": {speaker: " ".join(ids) for speaker, ids in spoken.items()},
        "spk2gender": genders,
    }
    for name, table in tables.items():
        if table or name in ("wav.scp", "utt2spk"):
            write_table(path / name, table)
        else:
            (path / name).unlink(missing_ok=True)


def write_table(path: Path, table: Mapping[str, str]) -> None:
    """Write id -> value as a sorted Kaldi table."""
    write_text(path, "".join(f"{identifier} {table[identifier]}".rstrip(SPACE) + "\n" for identifier in sorted(table)))


def _check_ids(utterances: Iterable[Utterance]) -> None:
    seen: set[str] = set()
    for utterance in utterances:
        for identifier in (utterance.id, utterance.speaker, utterance.recording.id):
            if not identifier or any(blank in identifier for blank in f"{SPACE}\n"):
                raise DataError(
                    f"the id {identifier!r} cannot stand in a Kaldi directory: ids are not empty and hold no blanks; "
                    "a lhotse manifest can hold it"
                )
        if utterance.id in seen:
            raise DataError(f"two utterances are called {utterance.id!r}")
        seen.add(utterance.id)


def _source(recording: Recording) -> str:
    if recording.is_command:
        return f"{recording.source} |"
    path = recording.location
    if path.strip(SPACE) != path or "\n" in path or path.endswith("|"):
        raise DataError(f"the path {path!r} of recording {recording.id!r} cannot stand in wav.scp")
    return path


def _unique(pairs: Iterable[tuple[str, str | None]], what: str, attribute: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for identifier, value in pairs:
        assert value is not None
        if table.setdefault(identifier, value) != value:
            raise DataError(f"the {what} {identifier!r} has two {attribute}s: {table[identifier]!r} and {value!r}")
    return table


def _is_whole(utterance: Utterance) -> bool:
    whole = utterance.start == 0 and utterance.end is None and utterance.recording.channel == 0
    return whole and utterance.recording.id == utterance.id


def _segment_lines(utterances: Iterable[Utterance]) -> dict[str, str]:
    lines = {}
    for utterance in utterances:
        end = -1 if utterance.end is None else utterance.end
        channel = f" {utterance.recording.channel}" if utterance.recording.channel else ""
        lines[utterance.id] = f"{utterance.recording.id} {utterance.start} {end}{channel}"
    return lines
