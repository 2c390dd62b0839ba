"""What runs of lhuc-adapt left behind, read for a comparison: words before and after, and what they were learnt from.

The directory's name tells the arm of the comparison: all up to an ``@``; what follows it, such as an amount of speech,
tells runs of one arm apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from lhuc_asr.decoding.words.hypothesis import Hypothesis, read_hypotheses
from lhuc_asr.errors import DataError
from lhuc_asr.files import read_json
from lhuc_asr.units import Seconds

_NEEDED = (
    "settings",
    "scored_utterances",
    "adaptation_seconds",
    "update_seconds",
    "num_parameters",
    "model_fingerprint",
)


@dataclass(frozen=True)
class AdaptationRun:
    """One run.

    Attributes:
        directory: where it lies.
        before: utterance id -> words of the first pass, of all utterances that are scored; no path is no words.
        after: the same of the adapted model.
        seconds: speaker -> speech that was learnt from.
        update_seconds: time that all updates took.
        num_parameters: numbers of one speaker that were learnt.
        failed: speaker -> why there is nothing of the speaker.
        fingerprint: of the model.
        oracle: the targets are the aligned references: research.
        settings: of the adaptation, as lhuc-adapt tells them.
        rounds_kept: of self-training, speaker -> number of the round that was kept; empty otherwise.
        heard: online, utterance id -> seconds of the speaker's speech that was said before it, as far as it was
            recognised; empty otherwise.
    """

    directory: Path
    before: Mapping[str, str]
    after: Mapping[str, str]
    seconds: Mapping[str, Seconds]
    update_seconds: Seconds
    num_parameters: int
    failed: Mapping[str, str]
    fingerprint: str
    oracle: bool
    settings: Mapping[str, Any]
    rounds_kept: Mapping[str, int]
    heard: Mapping[str, Seconds]

    @property
    def name(self) -> str:
        """Of its directory."""
        return self.directory.name

    @property
    def arm(self) -> str:
        """What it shares with runs that differ by the amount of speech alone."""
        return self.name.partition("@")[0]

    @property
    def protocol(self) -> str:
        """What is learnt from and what is scored: two_pass, enrolment or online."""
        return str(self.settings["protocol"]["name"])

    @property
    def is_guarded(self) -> bool:
        """A guard decided which speakers' scales were used."""
        return bool(self.settings.get("guard", {}).get("enabled"))

    @property
    def settings_but_guard(self) -> str:
        """Runs that share them differ by the guard alone."""
        return json.dumps({name: own for name, own in self.settings.items() if name != "guard"}, sort_keys=True)

    @property
    def mean_seconds(self) -> Seconds:
        """Speech that was learnt from, per speaker."""
        return sum(self.seconds.values()) / len(self.seconds)

    @property
    def real_time_factor(self) -> float:
        """Time of the updates by the length of the speech that was learnt from."""
        return self.update_seconds / max(1e-9, sum(self.seconds.values()))

    def restricted(self, utterances: Iterable[str]) -> AdaptationRun:
        """The same run on some of its utterances."""
        kept = sorted(utterances)
        return replace(
            self,
            before={name: self.before[name] for name in kept},
            after={name: self.after[name] for name in kept},
        )


def read_run(directory: Path) -> AdaptationRun:
    """Read what lhuc-adapt wrote.

    Raises:
        DataError: it wrote nothing there, is not finished, or was older than these comparisons.
    """
    try:
        page: dict[str, Any] = read_json(directory / "results.json")
    except (OSError, ValueError) as error:
        raise DataError(f"'{directory}' holds no finished run of lhuc-adapt ({error})") from error
    if lacking := [key for key in _NEEDED if key not in page]:
        raise DataError(
            f"the run in '{directory}' does not tell its {', '.join(lacking)}: run lhuc-adapt there again, with its "
            "second pass; finished speakers are not done again"
        )
    scored = [utterance for own in page["scored_utterances"].values() for utterance in own]
    if not scored:
        raise DataError(f"nobody was adapted to in '{directory}': all {len(page['failed_speakers'])} speakers failed")
    before = read_hypotheses(directory / "si")
    spoken = page["scored_utterances"].values() if page["settings"]["protocol"]["name"] == "online" else ()
    return AdaptationRun(
        directory=directory,
        before=_texts(before, scored),
        after=_texts(read_hypotheses(directory / "adapted"), scored),
        seconds=page["adaptation_seconds"],
        update_seconds=sum(page["update_seconds"].values()),
        num_parameters=page["num_parameters"],
        failed=page["failed_speakers"],
        fingerprint=page["model_fingerprint"],
        oracle=page["oracle"],
        settings=page["settings"],
        rounds_kept=page.get("rounds_kept", {}),
        heard={name: seconds for order in spoken for name, seconds in _heard(order, before).items()},
    )


def comparable(runs: Sequence[AdaptationRun]) -> list[AdaptationRun]:
    """The runs on the utterances that all of them scored.

    Raises:
        DataError: two have the same name or different protocols, there are no such utterances, or they do not begin
            with the same model and first pass.
    """
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"runs are told apart by the names of their directories; {twice[0]!r} stands there twice")
    for run in runs[1:]:
        if run.protocol != runs[0].protocol:
            raise DataError(
                f"the run {runs[0].name!r} is of protocol {runs[0].protocol}, {run.name!r} of {run.protocol}: they "
                "knew different parts of the speech that is scored; compare runs of one protocol"
            )
    shared = set(runs[0].before).intersection(*(run.before for run in runs))
    if not shared:
        raise DataError(f"the runs {', '.join(map(repr, names))} have no utterance in common")
    parts = [run.restricted(shared) for run in runs]
    for part in parts[1:]:
        if part.fingerprint != parts[0].fingerprint:
            raise DataError(f"the runs {parts[0].name!r} and {part.name!r} were made with different models")
        different = [name for name, text in part.before.items() if text != parts[0].before[name]]
        if different:
            raise DataError(
                f"the runs {parts[0].name!r} and {part.name!r} have different first passes, in {len(different)} of "
                f"{len(shared)} utterances, such as {different[0]!r}; runs that are compared begin with the same"
            )
    return parts


def nearest_amount(runs: Sequence[AdaptationRun], run: AdaptationRun) -> AdaptationRun:
    """The one that learnt from the most similar amount of speech."""
    return min(runs, key=lambda other: abs(other.mean_seconds - run.mean_seconds))


def _texts(found: Mapping[str, Hypothesis], utterances: Iterable[str]) -> dict[str, str]:
    return {name: found[name].text if name in found else "" for name in utterances}


def _heard(order: Sequence[str], found: Mapping[str, Hypothesis]) -> dict[str, Seconds]:
    """What had been heard before each of one speaker's utterances, which are given in the order of speech."""
    lengths = (found[name].duration if name in found else 0.0 for name in order)
    return dict(zip(order, accumulate(lengths, initial=0.0), strict=False))
