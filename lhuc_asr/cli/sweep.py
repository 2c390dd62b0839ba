"""lhuc-sweep: adapt the same speakers under every combination of settings, and set the results side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._adapting import ORACLE_NOTE, add_adapting, sort_out
from lhuc_asr.cli._common import OK, SOME_FAILED, add_overrides, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._model import load_model, settings_of
from lhuc_asr.cli._speech import chosen_speech, transforms_sha256, usable_speech

if TYPE_CHECKING:
    from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
    from lhuc_asr.config.sweep import GridPoint
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.decoding.wfst import WfstDecoder
    from lhuc_asr.decoding.words.hypothesis import Hypothesis
    from lhuc_asr.scoring.comparison import Comparison
    from lhuc_asr.scoring.sweep import Learning, SweepPoint
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "sweep",
        "Adapt the same speakers under every combination of settings: key=a,b,c or key=range(1,4) gives several "
        "values to a setting, [1,2] is one value, and key=value holds for all points. Points that are finished are "
        "not done again, also those of earlier sweeps into the same directory.",
    )
    add_adapting(parser, data="the speakers' speech and transcripts", out="where points, figures and pictures go")
    add_overrides(parser, such_as="adapt.num_epochs=1,2,3 or lhuc.amplitude=exp,relu")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    from lhuc_asr.config.sweep import grid

    first = grid(args.overrides)[0]  # a mistake at any point is told before the model is read
    system, config = load_model(args.model, first.overrides)
    points = grid(args.overrides, given=settings_of(system))
    manifest = chosen_speech(args)
    sweep = _Sweep(args, points, system, manifest)
    sweep.check()
    return sweep.run(usable_speech(args, manifest, system, config))


@dataclass
class _Sweep:
    """Goes from point to point; each is an adaptation of its own, in its own directory."""

    args: argparse.Namespace
    points: list[GridPoint]
    system: AcousticSystem
    manifest: Manifest
    _decoders: dict[str, WfstDecoder] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse before any work what can be known to go wrong: no transcripts, what settings name, foreign points."""
        from lhuc_asr.adaptation.groundwork import Groundwork
        from lhuc_asr.config.build import adaptation_settings
        from lhuc_asr.errors import DataError
        from lhuc_asr.scoring.sweep import check_source, read_points

        if missing := [utterance.id for utterance in self.manifest if utterance.transcript is None]:
            raise DataError(
                f"a sweep counts errors, but {len(missing)} of {len(self.manifest)} utterances have no transcript, "
                f"such as {missing[0]!r}"
            )
        for point in self.points:
            Groundwork(self.system, adaptation_settings(point.config)).check()
        check_source(self.args.out, read_points(self.args.out), self._source)

    @cached_property
    def _source(self) -> dict[str, str]:
        """What all points of a directory must share: the recogniser, and who said what."""
        import hashlib

        from lhuc_asr.adaptation.keys import search_key

        said = "\n".join(sorted(f"{one.speaker}\t{one.id}\t{one.transcript}" for one in self.manifest))
        source = {"model": search_key(self.system), "speech": hashlib.sha256(said.encode()).hexdigest()}
        transforms = transforms_sha256(self.args)
        return source if transforms is None else {**source, "transforms": transforms}

    def run(self, speech: UsableSpeech) -> int:
        """Adapt at every point; the exit code says whether somebody failed at any of them."""
        unusable = sort_out(self.manifest, speech, keep_going=self.args.keep_going).failed
        for speaker, reason in unusable.items():
            self._note_failure("all points", speaker, reason)
        able = speech.manifest.where(lambda utterance: utterance.speaker not in unusable)
        done = []
        if len(able):
            for number, point in enumerate(self.points, start=1):
                found = self._adapt(point, able, speech, unusable, f"[{number}/{len(self.points)}]")
                done += [found] if found else []
        self._finish(done)
        if self._failures:
            print("speakers failed:", *self._failures, sep="\n  ")
        return SOME_FAILED if self._failures else OK

    def _note_failure(self, where: str, speaker: str, reason: str) -> None:
        self._failures.append(f"{speaker}, {where}: {reason}")
        print(f"{where}: {speaker}: failed: {reason}", flush=True)

    def _adapt(
        self, point: GridPoint, able: Manifest, speech: UsableSpeech, unusable: dict[str, str], title: str
    ) -> SweepPoint | None:
        """One point; None when nobody could be adapted to."""
        from lhuc_asr.config.provenance import PROVENANCE_FILE, write_provenance
        from lhuc_asr.scoring.sweep import POINTS, RESULTS_FILE, write_point

        directory = self.args.out / POINTS / point.name
        results, failures = self._outcomes(point, able, speech, directory)
        if not results:
            (directory / RESULTS_FILE).unlink(missing_ok=True)
            return None
        resumed = all(result.resumed for result in results)
        if not resumed or not (directory / PROVENANCE_FILE).exists():
            write_provenance(directory, point.config, point.overrides)
        found = write_point(
            directory,
            _compared(results, failures, self.manifest),
            _learning(results),
            settings=point.settings,
            failed={**unusable, **{failure.speaker: failure.reason for failure in failures}},
            source=self._source,
        )
        before = " (done before)" if resumed else ""
        rates = f"WER {found.before.wer:.2f} -> {found.after.wer:.2f} %"
        print(f"{title} {point.name}: {rates}{before}", flush=True)
        return found

    def _outcomes(
        self, point: GridPoint, able: Manifest, speech: UsableSpeech, directory: Path
    ) -> tuple[list[SpeakerResult], list[SpeakerFailure]]:
        """Whom it was adapted to at a point, and who failed."""
        from lhuc_asr.adaptation.results import SpeakerResult
        from lhuc_asr.adaptation.session import AdaptationSession
        from lhuc_asr.config.build import adaptation_settings

        system = self.system.searching_with(point.config.decoding)
        session = AdaptationSession(
            system,
            adaptation_settings(point.config),
            directory,
            first_pass_directory=self._first_pass(point),
            num_jobs=point.config.runtime.jobs,
            decoder=self._decoder(point, system),
        )
        results: list[SpeakerResult] = []
        failures: list[SpeakerFailure] = []
        for outcome in session.run(able, speech.feats):
            if isinstance(outcome, SpeakerResult):
                results.append(outcome)
            else:
                failures.append(outcome)
                self._note_failure(point.name, outcome.speaker, outcome.reason)
        return results, failures

    def _first_pass(self, point: GridPoint) -> Path:
        """First passes are shared by all points that search alike."""
        from lhuc_asr.config.sweep import settings_name

        shared: Path = self.args.first_pass or self.args.out / "first_pass"
        other = point.differences_of("decoding")
        return shared.with_name(f"{shared.name}@{settings_name(other)}") if other else shared

    def _decoder(self, point: GridPoint, system: AcousticSystem) -> WfstDecoder:
        """The graph is read once for all points that search alike."""
        from lhuc_asr.config.sweep import settings_name
        from lhuc_asr.system.recognise import decoder_of

        search = settings_name(point.differences_of("decoding"))
        if search not in self._decoders:
            self._decoders = {search: decoder_of(system)}  # one at a time: graphs may be large
        return self._decoders[search]

    def _finish(self, done: list[SweepPoint]) -> None:
        """The table and the picture of this sweep, and the figures of all that lie in the directory."""
        from lhuc_asr.scoring.sweep import SWEEP_FILE, read_points, sweep_table, write_sweep
        from lhuc_asr.scoring.sweep_picture import draw_sweep

        everything = read_points(self.args.out)
        write_sweep(self.args.out, everything, fingerprint=self.system.fingerprint)
        if done:
            common = self._common()
            print(f"\n{sweep_table(done)}\n")
            print(f"everywhere: {common or 'defaults'}; {_who(done)}")
            picture = self.args.out / f"{self._picture_name()}.png"
            if draw_sweep(picture, done, note=common):
                print(f"picture: {picture}")
        more = len(everything) - len(done)
        earlier = f" ({more} of them from other sweeps)" if more else ""
        print(f"figures: {self.args.out / SWEEP_FILE}, {len(everything)} points{earlier}")

    def _shared(self) -> dict[str, object]:
        """Differences from the defaults that all points have."""
        first, *others = (point.differences for point in self.points)
        return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}

    def _common(self) -> str:
        from lhuc_asr.scoring.sweep import short_names, value_text

        shared = self._shared()
        names = short_names(shared)
        return ", ".join(
            f"{names[key]} {value_text(key, value)}{ORACLE_NOTE if value == 'oracle' else ''}"
            for key, value in shared.items()
        )

    def _picture_name(self) -> str:
        """Sweeps of other settings, or under other common settings, have a picture of their own."""
        from lhuc_asr.config.sweep import settings_name

        keys = [key for key in self.points[0].settings if len({str(p.settings[key]) for p in self.points}) > 1]
        shared = self._shared()
        return "+".join(keys)[:100] + (f"@{settings_name(shared)}" if shared else "")


def _compared(results: list[SpeakerResult], failures: list[SpeakerFailure], manifest: Manifest) -> Comparison:
    """Errors before and after. Who has no profile is recognised as before, so that points stay comparable."""
    from lhuc_asr.scoring.comparison import compare
    from lhuc_asr.scoring.wer import score_hypotheses

    before: dict[str, Hypothesis] = {}
    after: dict[str, Hypothesis] = {}
    wanted: list[str] = []
    for result in results:
        wanted += result.plan.evaluation
        before.update(result.first_pass)
        after.update(result.second_pass or {})
    for failure in failures:
        if failure.plan is not None and failure.first_pass:
            wanted += failure.plan.evaluation
            before.update(failure.first_pass)
            after.update(failure.first_pass)
    references = {utterance: manifest.transcripts[utterance] for utterance in wanted}
    first, second = (score_hypotheses(references, words, manifest.speaker_of) for words in (before, after))
    return compare(first, second)


def _learning(results: list[SpeakerResult]) -> Learning:
    from lhuc_asr.scoring.sweep import Learning

    audio = sum(result.seconds for result in results)
    return Learning(
        objective_before=sum(result.update.objective_before * result.seconds for result in results) / audio,
        objective_after=sum(result.update.objective_after * result.seconds for result in results) / audio,
        update_seconds=sum(result.update.seconds for result in results),
        audio_seconds=audio,
    )


def _who(done: list[SweepPoint]) -> str:
    first = done[0]
    return f"{first.num_better + first.num_same + first.num_worse} speakers, {first.before.num_words} words"
