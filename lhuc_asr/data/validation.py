"""Checking data before anything starts: every table, every sound file, every word, and all problems told at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhuc_asr.data.audio import AudioInfo, SoundFileError, read_recording, stretch
from lhuc_asr.data.kaldi import inspect_kaldi_dir
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.data.problems import Problem, ProblemKind, raise_problems, summary
from lhuc_asr.data.speech_activity import seconds_of_speech
from lhuc_asr.errors import AudioError, DataError
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track
from lhuc_asr.units import Hertz, Seconds

__all__ = ["Checked", "Problem", "ProblemKind", "check", "drop_bad", "raise_problems", "summary", "validate"]

LEAST_SPEECH: Seconds = 0.02
"""An utterance with less speech than this is silent."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Data, and what is wrong with it.

    Attributes:
        manifest: all utterances of which something could be made, the bad ones among them.
        problems: everything that was found, tables first.
    """

    manifest: Manifest
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """What to check data against.

    Attributes:
        sampling_rate: the rate that every recording must have; None asks them to agree with the most common one.
        known_words: the lexicon's words; None checks no words.
        allow_commands: run the commands in ``wav.scp``.
        num_jobs: worker processes that decode the audio.
    """

    sampling_rate: Hertz | None = None
    known_words: Container[str] | None = None
    allow_commands: bool = False
    num_jobs: int = 1


def validate(
    data: Manifest | Path,
    *,
    sampling_rate: Hertz | None = None,
    known_words: Container[str] | None = None,
    allow_commands: bool = False,
    num_jobs: int = 1,
) -> list[Problem]:
    """Everything that is wrong with a manifest, or with a Kaldi directory and its tables; see ``check``."""
    return check(data, CheckConfig(sampling_rate, known_words, allow_commands, num_jobs)).problems


def check(data: Manifest | Path, config: CheckConfig | None = None) -> Checked:
    """Read all there is and tell all that is wrong with it.

    Args:
        data: a manifest, or a Kaldi directory, whose tables are then judged as well.
        config: what to check against.

    Raises:
        DataError: the directory does not exist, or a table is not text.
    """
    config = config or CheckConfig()
    if isinstance(data, Manifest):
        found, manifest = list(_manifest_problems(data)), data
    else:
        directory = inspect_kaldi_dir(data, allow_commands=config.allow_commands)
        found, manifest = directory.problems, directory.manifest
    unheard = {id for problem in found if problem.kind in _NO_USE_TO_LISTEN for id in problem.utterances}
    audio = list(_audio_problems(manifest.where(lambda utterance: utterance.id not in unheard), config))
    words = [] if config.known_words is None else list(_word_problems(manifest, config.known_words))
    return Checked(manifest, [*found, *audio, *words])


_NO_USE_TO_LISTEN = {ProblemKind.command, ProblemKind.missing_audio, ProblemKind.no_audio_entry}


def drop_bad(checked: Checked) -> Manifest:
    """The manifest without the utterances that a problem condemns.

    Unsorted tables are sorted, strays are left out, and an utterance with an unknown word stays: to leave it out would
    flatter every word error rate.

    Raises:
        DataError: no utterance is left.
    """
    bad = {id for problem in checked.problems for id in problem.utterances}
    good = checked.manifest.where(lambda utterance: utterance.id not in bad)
    if not good.utterances:
        raise DataError(f"all {len(checked.manifest)} utterances are bad: {summary(checked.problems)}")
    return good


def _manifest_problems(manifest: Manifest) -> Iterator[Problem]:
    ids = [utterance.id for utterance in manifest]
    for identifier, count in Counter(ids).items():
        if count > 1:
            text = f"{count} utterances are called {identifier!r}"
            yield Problem(ProblemKind.duplicated, identifier, text, (identifier,))
    if ids != sorted(ids):
        yield Problem(ProblemKind.unsorted, "manifest", "the utterances are not sorted by id")
    for utterance in manifest:
        if not utterance.speaker:
            text = f"utterance {utterance.id!r} has no speaker"
            yield Problem(ProblemKind.no_speaker, utterance.id, text, (utterance.id,))


@dataclass(frozen=True, slots=True)
class _Heard:
    """What decoding one recording showed."""

    sampling_rate: Hertz | None
    problems: list[Problem]


_Spoken = tuple[Recording, list[Utterance]]


def _audio_problems(manifest: Manifest, config: CheckConfig) -> Iterator[Problem]:
    recordings: dict[tuple[str, bool], _Spoken] = {}
    for utterance in manifest:
        recording = utterance.recording
        recordings.setdefault((recording.source, recording.is_command), (recording, []))[1].append(utterance)
    spoken = list(recordings.values())
    heard = map_in_processes(_listen, spoken, num_jobs=config.num_jobs, ahead=16)
    rates: list[tuple[_Spoken, Hertz]] = []
    for item, result in zip(spoken, track(heard, "checking audio", total=len(spoken), unit="recording"), strict=True):
        yield from result.problems
        if result.sampling_rate is not None:
            rates.append((item, result.sampling_rate))
    yield from _rate_problems(rates, config.sampling_rate)


def _rate_problems(rates: Sequence[tuple[_Spoken, Hertz]], wanted: Hertz | None) -> Iterator[Problem]:
    if not rates:
        return
    common = Counter(rate for _, rate in rates).most_common(1)[0][0]
    for (recording, utterances), rate in rates:
        if rate != (wanted or common):
            expected = f"{wanted} Hz are wanted" if wanted else f"most recordings have {common} Hz"
            text = f"recording {recording.id!r} has {rate} Hz; {expected}"
            yield Problem(ProblemKind.sampling_rate, recording.id, text, tuple(u.id for u in utterances))


def _listen(spoken: _Spoken) -> _Heard:
    """Decode one recording and look at each of its utterances."""
    recording, utterances = spoken
    try:
        channels, rate = read_recording(recording)
    except AudioError as error:
        kind = error.kind if isinstance(error, SoundFileError) else ProblemKind.unreadable_audio
        return _Heard(None, [Problem(kind, recording.id, str(error), tuple(u.id for u in utterances))])
    info = AudioInfo(rate, *channels.shape)
    problems = []
    for utterance in utterances:
        try:
            first, last = stretch(utterance, info)
            problem = _hear(utterance, channels[first:last, utterance.recording.channel], rate)
        except SoundFileError as error:
            problem = Problem(error.kind, utterance.id, str(error), (utterance.id,))
        problems += [problem] if problem else []
    return _Heard(rate, problems)


def _hear(utterance: Utterance, samples: np.ndarray[tuple[int], np.dtype[np.float32]], rate: Hertz) -> Problem | None:
    identifier = utterance.id
    bad = int(np.count_nonzero(~np.isfinite(samples)))
    if bad:
        text = f"{bad} of the {len(samples)} samples of utterance {identifier!r} are not finite numbers"
        return Problem(ProblemKind.non_finite, identifier, text, (identifier,))
    if seconds_of_speech(samples, rate) < LEAST_SPEECH:
        text = f"utterance {identifier!r} is silent: {len(samples) / rate:.2f} s, none of it speech"
        return Problem(ProblemKind.silent, identifier, text, (identifier,))
    return None


def _word_problems(manifest: Manifest, known_words: Container[str]) -> Iterator[Problem]:
    where: dict[str, list[str]] = {}
    for utterance in manifest:
        for word in dict.fromkeys((utterance.transcript or "").split()):
            if word not in known_words:
                where.setdefault(word, []).append(utterance.id)
    for word, ids in sorted(where.items()):
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        text = f"the lexicon lacks {word!r}, said in {ids[0]!r}{more}"
        yield Problem(ProblemKind.unknown_word, word, text)
