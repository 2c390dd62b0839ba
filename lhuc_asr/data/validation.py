"""Checking data before anything starts: every table, every sound file, every word, and all problems told at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhuc_asr.data.audio_check import Heard, listen_to_all
from lhuc_asr.data.kaldi import inspect_kaldi_dir
from lhuc_asr.data.manifest import Manifest
from lhuc_asr.data.problems import BadDataError, Inspected, Problem, ProblemKind, raise_problems, summary
from lhuc_asr.units import Hertz, Seconds

__all__ = [
    "BadDataError",
    "CheckConfig",
    "Checked",
    "Problem",
    "ProblemKind",
    "check",
    "drop_bad",
    "raise_problems",
    "summary",
    "validate",
]


@dataclass(frozen=True, slots=True)
class Checked:
    """Data, and what is wrong with it.

    Attributes:
        manifest: all utterances of which something could be made, the bad ones among them.
        problems: everything that was found, tables first.
        seconds: utterance id -> how long it lasts, for those whose audio can be read.
    """

    manifest: Manifest
    problems: list[Problem]
    seconds: Mapping[str, Seconds]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """What to check data against.

    Attributes:
        sampling_rate: the rate that every recording must have; None asks them to agree with the most common one.
        known_words: the lexicon's words; None checks no words.
        normalise: how a transcript's words are written before they are looked up.
        allow_commands: run the commands in ``wav.scp``.
        num_jobs: worker processes that decode the audio.
        memory: file that remembers which audio was found good; None listens to all of it.
    """

    sampling_rate: Hertz | None = None
    known_words: Container[str] | None = None
    normalise: Callable[[str], str] = str.upper
    allow_commands: bool = False
    num_jobs: int = 1
    memory: Path | None = None


def validate(
    data: Manifest | Path,
    *,
    sampling_rate: Hertz | None = None,
    known_words: Container[str] | None = None,
    allow_commands: bool = False,
    num_jobs: int = 1,
) -> list[Problem]:
    """Everything that is wrong with a manifest, or with a Kaldi directory and its tables; see ``check``."""
    config = CheckConfig(
        sampling_rate=sampling_rate, known_words=known_words, allow_commands=allow_commands, num_jobs=num_jobs
    )
    return check(data, config).problems


def check(data: Manifest | Inspected | Path, config: CheckConfig | None = None) -> Checked:
    """Read all there is and tell all that is wrong with it.

    Args:
        data: a manifest; one that was inspected, whose problems are told as well; or a Kaldi directory, whose tables
            are then judged.
        config: what to check against.

    Raises:
        DataError: the directory does not exist, or a table is not text.
    """
    config = config or CheckConfig()
    if isinstance(data, Manifest):
        inspected = Inspected(data, list(_manifest_problems(data)))
    elif isinstance(data, Inspected):
        inspected = data
    else:
        inspected = inspect_kaldi_dir(data, allow_commands=config.allow_commands)
    found, manifest = list(inspected.problems), inspected.manifest
    unheard = {id for problem in found if problem.kind in _NO_USE_TO_LISTEN for id in problem.utterances}
    heard = listen_to_all(
        manifest.where(lambda utterance: utterance.id not in unheard), num_jobs=config.num_jobs, memory=config.memory
    )
    found += [problem for recording in heard for problem in recording.problems]
    found += _rate_problems(heard, config.sampling_rate)
    if config.known_words is not None:
        found += _word_problems(manifest, config.known_words, config.normalise)
    return Checked(manifest, found, {id: length for recording in heard for id, length in recording.seconds.items()})


_NO_USE_TO_LISTEN = {
    *(ProblemKind.command, ProblemKind.missing_audio, ProblemKind.unreadable_audio),
    *(ProblemKind.no_audio_entry, ProblemKind.channel),
}


def drop_bad(checked: Checked) -> Manifest:
    """The manifest without the utterances that a problem condemns.

    Unsorted tables are sorted, strays are left out, and an utterance with an unknown word stays: to leave it out would
    flatter every word error rate.

    Raises:
        BadDataError: no utterance is left.
    """
    bad = {id for problem in checked.problems for id in problem.utterances}
    good = checked.manifest.where(lambda utterance: utterance.id not in bad)
    if not good.utterances:
        told = f": {summary(checked.problems)}; {checked.problems[0]}" if checked.problems else ""
        raise BadDataError(f"none of {len(checked.manifest)} utterances is good{told}", checked.problems)
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


def _rate_problems(heard: Sequence[Heard], wanted: Hertz | None) -> Iterator[Problem]:
    rates = Counter(item.sampling_rate for item in heard if item.sampling_rate)
    common = rates.most_common(1)[0][0] if rates else None
    expected = f"{wanted} Hz are wanted" if wanted else f"most recordings have {common} Hz"
    for item in heard:
        if item.sampling_rate not in (None, wanted or common):
            text = f"recording {item.recording.id!r} has {item.sampling_rate} Hz; {expected}"
            yield Problem(ProblemKind.sampling_rate, item.recording.id, text, item.utterances)


def _word_problems(
    manifest: Manifest, known_words: Container[str], normalise: Callable[[str], str]
) -> Iterator[Problem]:
    where: dict[str, list[str]] = {}
    for utterance in manifest:
        for word in dict.fromkeys(normalise(utterance.transcript or "").split()):
            if word not in known_words:
                where.setdefault(word, []).append(utterance.id)
    for word, ids in sorted(where.items()):
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        text = f"the lexicon lacks {word!r}, said in {ids[0]!r}{more}"
        yield Problem(ProblemKind.unknown_word, word, text)
