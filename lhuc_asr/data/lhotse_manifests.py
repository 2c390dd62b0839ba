"""Manifests of the lhotse library: recordings with supervisions, or cuts, as a manifest of ours, and back."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhuc_asr.data.audio import audio_info
from lhuc_asr.data.kaldi import resolve_audio
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import Inspected, Problem, ProblemKind, raise_problems
from lhuc_asr.errors import DataError
from lhuc_asr.files import atomic_path

_REMEDY = "'lhuc-prepare lhotse --root DIR --out DIR --keep-going' makes a copy without what is wrong"
_FILE_NAME = re.compile(r"(?:(?P<before>.*)[_.-])?(?P<kind>recordings|supervisions|cuts)(?:[_.-](?P<after>.*))?")
_GENDERS = {"male": "m", "female": "f"}


@dataclass(frozen=True, slots=True)
class LhotseSet:
    """The files of one set.

    Attributes:
        name: of the set, from the names of its files.
        speech: the recordings, or the cuts, which hold everything.
        supervisions: who said what in the recordings; None for cuts.
    """

    name: str
    speech: Path
    supervisions: Path | None = None


def find_manifests(path: Path) -> list[LhotseSet]:
    """The sets at a place: a file of cuts or recordings, or all those in a directory.

    Raises:
        DataError: there is none, or recordings lack their supervisions.
    """
    here = path.parent if path.is_file() else path
    files = {file.name: file for file in sorted(here.glob("*.jsonl*")) if file.name.endswith((".jsonl", ".jsonl.gz"))}
    asked = [path] if path.is_file() else list(files.values())
    found = []
    for file in asked:
        kind, name = _kind_and_name(file)
        if kind == "cuts":
            found.append(LhotseSet(name, file))
        elif kind == "recordings":
            partner = file.name.replace("recordings", "supervisions")
            if partner not in files:
                raise DataError(f"{str(file)!r} has no {partner!r} beside it")
            found.append(LhotseSet(name, file, files[partner]))
    if not found:
        raise DataError(
            f"{str(path)!r} holds no lhotse manifest: neither *cuts*.jsonl[.gz] nor *recordings*.jsonl[.gz]"
        )
    doubles = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    if doubles:
        raise DataError(f"{str(path)!r} holds more than one set called {doubles[0]!r}; name one file")
    return found


def _kind_and_name(file: Path) -> tuple[str, str]:
    stem = re.sub(r"\.jsonl(\.gz)?$", "", file.name)
    match = _FILE_NAME.fullmatch(stem)
    if match is None:
        return "cuts", stem
    return match["kind"], match["after"] or match["before"] or "all"


def read_lhotse(path: Path, *, allow_commands: bool = False, allow_missing: bool = False) -> Manifest:
    """Read the one set of lhotse manifests that lies at a place.

    Args:
        path: a file of cuts, a file of recordings with its supervisions beside it, or a directory with one set.
        allow_commands: accept recordings that are commands.
        allow_missing: accept sound files that do not exist, unless none does; an error when their audio is read.

    Raises:
        DataError: there is none, more than one, or something is wrong in it.
    """
    found = find_manifests(path)
    if len(found) > 1:
        names = ", ".join(repr(each.speech.name) for each in found)
        raise DataError(f"{str(path)!r} holds {len(found)} sets; name one of {names}")
    inspected = inspect_lhotse(found[0], allow_commands=allow_commands)
    problems = inspected.problems_but_missing_audio if allow_missing else inspected.problems
    raise_problems(problems, source=str(path), remedy=_REMEDY)
    if not inspected.manifest.utterances:
        raise DataError(f"{str(path)!r} holds no utterance")
    return inspected.manifest


def inspect_lhotse(files: LhotseSet, *, allow_commands: bool = False) -> Inspected:
    """Read what can be read of a set and tell everything that is wrong with its manifests.

    Raises:
        DataError: a file is not a lhotse manifest.
    """
    if files.supervisions is not None:
        recordings, supervisions = _load(files.speech, "RecordingSet"), _load(files.supervisions, "SupervisionSet")
        return inspect_sets(recordings, supervisions, files.speech.parent, allow_commands=allow_commands)
    reader = _Reader(files.speech.parent, allow_commands)
    for cut in _load(files.speech, "CutSet"):
        reader.add_cut(cut)
    return reader.inspected()


def inspect_sets(
    recordings: Iterable[Any], supervisions: Iterable[Any], directory: Path, *, allow_commands: bool = False
) -> Inspected:
    """The same for recordings and supervisions that lhotse has in memory; relative paths begin at ``directory``."""
    reader = _Reader(directory, allow_commands)
    by_id = {recording.id: recording for recording in recordings}
    for supervision in supervisions:
        reader.add(supervision, by_id.get(supervision.recording_id), 0.0)
    return reader.inspected()


def _load(path: Path, kind: str) -> Iterable[Any]:
    import lhotse

    try:
        items = list(getattr(lhotse, kind).from_jsonl(path))
    except Exception as error:  # whatever a malformed line does to lhotse
        raise DataError(f"{str(path)!r} is not a lhotse {kind}: {type(error).__name__}: {error}") from error
    return items


@dataclass(slots=True)
class _Reader:
    """Collects utterances and problems from lhotse's objects."""

    directory: Path
    allow_commands: bool
    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def inspected(self) -> Inspected:
        """What was collected, sorted, each id once."""
        utterances = sorted(self.utterances, key=lambda utterance: utterance.id)
        for identifier, count in Counter(utterance.id for utterance in utterances).items():
            if count > 1:
                self.complain(ProblemKind.duplicated, identifier, f"{count} utterances are called {identifier!r}")
        unique = {utterance.id: utterance for utterance in reversed(utterances)}
        return Inspected(Manifest(tuple(unique[identifier] for identifier in sorted(unique))), self.problems)

    def complain(self, kind: ProblemKind, identifier: str, text: str) -> None:
        self.problems.append(Problem(kind, identifier, text, (identifier,)))

    def add_cut(self, cut: Any) -> None:
        """Every supervision of a cut, at its place in the recording."""
        if type(cut).__name__ not in ("MonoCut", "MultiCut") or cut.recording is None:
            text = f"{cut.id!r} is a {type(cut).__name__} without a recording of its own; only plain cuts can be used"
            self.complain(ProblemKind.bad_line, cut.id, text)
            return
        if not cut.supervisions:
            self.complain(ProblemKind.no_speaker, cut.id, f"cut {cut.id!r} has no supervision, so no speaker")
        for supervision in cut.supervisions:
            self.add(supervision, cut.recording, cut.start)

    def add(self, supervision: Any, recording: Any, offset: float) -> None:
        """One supervision, if its recording can be found."""
        identifier = supervision.id
        if recording is None:
            text = f"utterance {identifier!r} lies in the recording {supervision.recording_id!r}, which is not there"
            self.complain(ProblemKind.no_audio_entry, identifier, text)
            return
        if not supervision.speaker:
            self.complain(ProblemKind.no_speaker, identifier, f"utterance {identifier!r} has no speaker")
        start = round(offset + supervision.start, 8)
        end = round(start + supervision.duration, 8)
        whole = start == 0 and abs(end - recording.duration) < 1e-6
        gender = (supervision.gender or "").lower()
        utterance = Utterance(
            identifier,
            self._recording(identifier, recording, supervision.channel),
            supervision.speaker or "",
            start,
            None if whole else end,
            None if supervision.text is None else " ".join(supervision.text.split()),
            _GENDERS.get(gender, gender) or None,
        )
        self.utterances.append(utterance)

    def _recording(self, identifier: str, recording: Any, channel: int | list[int]) -> Recording:
        channels = [channel] if isinstance(channel, int) else list(channel)
        sources = [source for source in recording.sources if channels[0] in source.channels]
        if len(channels) != 1 or not sources:
            text = f"utterance {identifier!r} is on the channels {channels}; one of {recording.channel_ids} is needed"
            self.complain(ProblemKind.channel, identifier, text)
        if recording.transforms:
            text = f"recording {recording.id!r} is to be transformed; write its audio to files first"
            self.complain(ProblemKind.bad_line, identifier, text)
        source = (sources or recording.sources)[0]
        index = source.channels.index(channels[0]) if sources else 0
        name = recording.id if len(recording.sources) == 1 else f"{recording.id}-{channels[0]}"
        return Recording(name, self._source(identifier, source), index, source.type == "command")

    def _source(self, identifier: str, source: Any) -> str:
        if source.type == "command":
            if not self.allow_commands:
                text = f"utterance {identifier!r} runs the command {source.source!r}; --allow-commands permits it"
                self.complain(ProblemKind.command, identifier, text)
            return str(source.source)
        if source.type != "file":
            text = f"the audio of {identifier!r} is a {source.type!r}; only files and commands can be read"
            self.complain(ProblemKind.unreadable_audio, identifier, text)
            return ""
        path, tried = resolve_audio(str(source.source), self.directory)
        if path is None:
            text = f"the audio of {identifier!r} does not exist; tried {', '.join(repr(str(each)) for each in tried)}"
            self.complain(ProblemKind.missing_audio, identifier, text)
        return str(path or tried[0])


def write_lhotse(manifest: Manifest, path: Path) -> None:
    """Write ``recordings.jsonl.gz`` and ``supervisions.jsonl.gz`` into a directory; every sound file's header is read.

    Raises:
        AudioError: a recording cannot be read.
        DataError: two recordings have the same name.
    """
    recordings: dict[str, dict[str, Any]] = {}
    for utterance in manifest:
        entry = recordings.setdefault(utterance.recording.id, _recording_entry(utterance.recording))
        if entry["sources"][0]["source"] != utterance.recording.location:
            raise DataError(f"two recordings are called {utterance.recording.id!r}")
    supervisions = (_supervision_entry(u, recordings[u.recording.id]["duration"]) for u in manifest)
    _write_lines(path / "recordings.jsonl.gz", recordings.values())
    _write_lines(path / "supervisions.jsonl.gz", supervisions)


def _recording_entry(recording: Recording) -> dict[str, Any]:
    info = audio_info(recording)
    channels = list(range(info.num_channels))
    kind = "command" if recording.is_command else "file"
    return {
        "id": recording.id,
        "sources": [{"type": kind, "channels": channels, "source": recording.location}],
        "sampling_rate": info.sampling_rate,
        "num_samples": info.num_samples,
        "duration": info.duration,
        "channel_ids": channels,
    }


def _supervision_entry(utterance: Utterance, duration: float) -> dict[str, Any]:
    entry = {
        "id": utterance.id,
        "recording_id": utterance.recording.id,
        "start": utterance.start,
        "duration": (duration if utterance.end is None else utterance.end) - utterance.start,
        "channel": utterance.recording.channel,
        "text": utterance.transcript,
        "speaker": utterance.speaker,
        "gender": utterance.gender,
    }
    return {key: value for key, value in entry.items() if value is not None}


def _write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, gzip.open(temporary, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
