"""What can be wrong with data, found all at once and told all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lhuc_asr.data.manifest import Manifest
from lhuc_asr.errors import DataError

_NUM_TOLD = 3


class ProblemKind(Enum):
    """The ways in which data can be bad, in the order in which they are told."""

    missing_table = "a file of the directory is missing"
    bad_line = "a line cannot be read"
    unsorted = "ids are not sorted"
    duplicated = "an id appears twice"
    no_audio_entry = "an utterance without a recording"
    no_speaker = "an utterance without a speaker"
    speakers_differ = "utt2spk and spk2utt contradict each other"
    no_utterance = "a speaker or a transcript without an utterance"
    command = "audio comes from a command that was not allowed"
    missing_audio = "a sound file does not exist"
    unreadable_audio = "a sound file cannot be read"
    empty_audio = "a sound file holds no samples"
    truncated_audio = "a sound file ends too early"
    non_finite = "samples are not finite numbers"
    sampling_rate = "sampling rates differ"
    channel = "a channel does not exist"
    segment = "an utterance lies outside its recording"
    silent = "an utterance holds no speech"
    unknown_word = "a word is not in the lexicon"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: the sort of mistake.
        where: id of the utterance, recording or speaker, or path of the file.
        text: what is wrong, in one line.
        utterances: ids that ``--keep-going`` drops because of it; empty where sorting or ignoring cures it.
    """

    kind: ProblemKind
    where: str
    text: str
    utterances: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class Inspected:
    """What could be made of data whose description may be wrong.

    Attributes:
        manifest: the utterances of which something could be made, sorted, each id once.
        problems: everything that is wrong with the tables or manifests; no sound file was opened.
    """

    manifest: Manifest
    problems: list[Problem]

    @property
    def problems_but_missing_audio(self) -> list[Problem]:
        """What is wrong but for sound files that do not exist, each of which is its own speaker's trouble.

        Where no utterance has its sound file, the place is wrong and not the speakers: then all problems.
        """
        missing = {id for each in self.problems if each.kind is ProblemKind.missing_audio for id in each.utterances}
        if all(utterance.id in missing for utterance in self.manifest):
            return self.problems
        return [problem for problem in self.problems if problem.kind is not ProblemKind.missing_audio]


def summary(problems: Sequence[Problem]) -> str:
    """How many problems of each kind, in one line.

    Example:
        >>> summary([Problem(ProblemKind.silent, "a-1", "...", ("a-1",))])
        '1 problem (1 silent)'
    """
    counts = Counter(problem.kind for problem in problems)
    parts = ", ".join(f"{counts[kind]} {kind.name}" for kind in ProblemKind if counts[kind])
    return f"{len(problems)} problem{'s' * (len(problems) != 1)} ({parts})"


class BadDataError(DataError):
    """Data is refused; ``problems`` tells everything that is wrong with it, the message only the beginning."""

    def __init__(self, text: str, problems: Sequence[Problem]) -> None:
        super().__init__(text, tuple(problems))
        self.problems = tuple(problems)


def _one_of_each_kind_first(problems: Sequence[Problem]) -> list[Problem]:
    """So that many consequences do not hide their cause: the kinds in their order, then what is left."""
    firsts = {problem.kind: problem for problem in reversed(problems)}
    told = [firsts[kind] for kind in ProblemKind if kind in firsts]
    return told + [problem for problem in problems if problem not in told]


def raise_problems(problems: Sequence[Problem], *, source: str, remedy: str) -> None:
    """Refuse the data when anything is wrong with it.

    Raises:
        BadDataError: there are problems; the text counts them by kind and tells a few, of different kinds if it can.
    """
    if problems:
        told = "; ".join(str(problem) for problem in _one_of_each_kind_first(problems)[:_NUM_TOLD])
        more = f"; and {len(problems) - _NUM_TOLD} more" if len(problems) > _NUM_TOLD else ""
        raise BadDataError(f"{source!r} has {summary(problems)}: {told}{more}; {remedy}", problems)
