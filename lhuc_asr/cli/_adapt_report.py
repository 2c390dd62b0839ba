"""What lhuc-adapt says and writes of its speakers: a line for each as it comes, at the end what all of them gave."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._adapting import sort_out
from lhuc_asr.cli._common import OK, SOME_FAILED
from lhuc_asr.cli._speech import transforms_sha256

if TYPE_CHECKING:
    from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
    from lhuc_asr.adaptation.session import AdaptationSession
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.decoding.speed import DecodingSpeed
    from lhuc_asr.decoding.words.hypothesis import Hypothesis
    from lhuc_asr.scoring.wer import Score
    from lhuc_asr.system.corpus import UsableSpeech


class AdaptReport:
    """Prints one line per speaker as it comes, and at the end what all of them together gave."""

    def __init__(self, args: argparse.Namespace, manifest: Manifest, session: AdaptationSession) -> None:
        self.args, self.manifest, self.session = args, manifest, session
        self.results: list[SpeakerResult] = []
        self.failed: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def run(self, speech: UsableSpeech) -> int:
        """Adapt to everybody; the exit code says whether somebody failed."""
        from lhuc_asr.adaptation.results import SpeakerFailure

        able = self._able(speech)
        outcomes = self.session.run(able, speech.feats, second_pass=not self.args.no_second_pass) if len(able) else ()
        for outcome in outcomes:
            if isinstance(outcome, SpeakerFailure):
                self._note_failure(outcome)
            else:
                self.results.append(outcome)
                print(self._line(outcome), flush=True)
        self._finish()
        return SOME_FAILED if self.failed else OK

    def _able(self, speech: UsableSpeech) -> Manifest:
        """The speech of those who can be adapted to; the others fail now."""
        from lhuc_asr.system.corpus import quiet_speakers

        bad = sort_out(self.manifest, speech, keep_going=self.args.keep_going)
        self.left_out.update(bad.left_out)
        for speaker, reason in bad.failed.items():
            self._refuse(speaker, reason)
        able = speech.manifest.where(lambda utterance: utterance.speaker not in self.failed)
        needed = self.session.settings.adapt.min_seconds
        for speaker, seconds in quiet_speakers(able, at_least=needed).items():
            self._refuse(
                speaker,
                f"speaker {speaker!r} says next to nothing: {seconds:.1f} s of all the audio are louder than silence; "
                f"at least {needed:g} s are needed (adapt.min_seconds)",
            )
        return able.where(lambda utterance: utterance.speaker not in self.failed)

    def _refuse(self, speaker: str, reason: str) -> None:
        from lhuc_asr.adaptation.results import SpeakerFailure, write_status

        failure = SpeakerFailure(speaker=speaker, reason=reason)
        write_status(self.args.out / "status", failure)
        self._note_failure(failure)

    def _note_failure(self, failure: SpeakerFailure) -> None:
        stays = "; what an earlier run learnt stays" if self.session.store.holds(failure.speaker) else ""
        self.failed[failure.speaker] = f"{failure.reason}{stays}"
        print(f"{failure.speaker}: failed: {self.failed[failure.speaker]}", flush=True)

    def _line(self, result: SpeakerResult) -> str:
        parts = [
            f"{result.speaker}: {result.seconds:.1f} s",
            f"objective {result.update.objective_before:.3f} -> {result.update.objective_after:.3f}",
        ]
        if result.update.held_out is not None:
            parts.append(str(result.update.held_out))
        if result.update.rounds:
            parts.append(f"round {result.update.round_kept} of {len(result.update.rounds)} kept")
        if result.update.guard is not None:
            parts.append(str(result.update.guard))
        scores = self._scores([result])
        if len(scores) > 1:
            parts.append("WER " + " -> ".join(f"{score.total.wer:.1f}" for score in scores.values()) + " %")
        if result.share_kept < 1:
            parts.insert(1, f"{100 * result.share_kept:.0f} % of the speech kept")
        if result.failed:
            parts.append(f"{len(result.failed)} utterances without a path")
        return ", ".join(parts) + (" (done before)" if result.resumed else "")

    def _finish(self) -> None:
        """What all speakers gave, for people and programs."""
        from lhuc_asr.decoding.words.hypothesis import write_hypotheses
        from lhuc_asr.scoring.comparison import compare
        from lhuc_asr.scoring.report import comparison_text, write_results

        write_hypotheses(self.args.out / "si", _joined(result.first_pass for result in self.results).values())
        if not self.args.no_second_pass:
            after = _joined(result.second_pass or {} for result in self.results)
            write_hypotheses(self.args.out / "adapted", after.values())
        scores = self._scores(self.results)
        comparisons = {}
        if len(scores) > 1:
            (first, before), (second, adapted) = scores.items()
            comparisons[first, second] = compare(before, adapted)
            print(f"\n{comparison_text(comparisons[first, second], first, second)}")
            print(self._missing())
        write_results(self.args.out / "results.json", scores, comparisons, **self._facts())
        self._print_end()

    def _scores(self, results: Sequence[SpeakerResult]) -> dict[str, Score]:
        """System -> its score on these speakers' evaluation utterances, as far as they have transcripts."""
        from lhuc_asr.scoring.wer import score_hypotheses

        known = self.manifest.transcripts
        references = {name: known[name] for result in results for name in result.plan.evaluation if name in known}
        if not references:
            return {}
        passes = {self._first: _joined(result.first_pass for result in results)}
        if not self.args.no_second_pass:
            passes[self._adapted] = _joined(result.second_pass or {} for result in results)
        speaker_of = self.manifest.speaker_of
        return {system: score_hypotheses(references, words, speaker_of) for system, words in passes.items()}

    def _missing(self) -> str:
        """Who is not in the table of errors: a mean over those who did well only must say so."""
        if not self.failed:
            return ""
        num_failed, num_speakers = len(self.failed), len(self.manifest.speakers)
        return f"not in this table: {num_failed} of {num_speakers} speakers, who failed: {', '.join(self.failed)}\n"

    @property
    def _first(self) -> str:
        return "SI" if self.args.conditioned is None else "conditioned"

    @property
    def _adapted(self) -> str:
        adapt = self.session.settings.adapt
        kind, learnt = adapt.supervision.name, adapt.parameters.name.replace("lhuc", "LHUC")
        method = learnt if self.args.conditioned is None else f"conditioned + {learnt}"
        return method if kind == "one_best" else f"{method}, {kind} targets"

    @property
    def _is_oracle(self) -> bool:
        return self.session.settings.adapt.supervision.name == "oracle"

    def _facts(self) -> dict[str, Any]:
        from lhuc_asr.parallel import peak_memory_gb

        return {
            "settings": self.session.settings.plain(),
            "oracle": self._is_oracle,
            "supervision": self.session.settings.adapt.described(),
            "kept": {result.speaker: dict(result.kept) for result in self.results},
            "model_fingerprint": self.session.system.fingerprint,
            "transforms": transforms_sha256(self.args),
            "profiles": {result.speaker: self.session.load(result.speaker).sha256 for result in self.results},
            "scored_utterances": {result.speaker: list(result.plan.evaluation) for result in self.results},
            "adaptation_seconds": {result.speaker: result.seconds for result in self.results},
            "update_seconds": {result.speaker: result.update.seconds for result in self.results},
            "rounds_kept": {own.speaker: own.update.round_kept for own in self.results if own.update.rounds},
            "num_parameters": self.session.ground.num_parameters,
            "silence": self._silence(),
            "speed": {stage: speed.real_time_factor for stage, speed in self.session.speed.items()},
            "peak_memory_gb": round(peak_memory_gb(), 2),
            "failed_speakers": self.failed,
            "left_out_utterances": self.left_out,
        }

    def _silence(self) -> dict[str, list[float]]:
        """Speaker -> share of the outputs that are silence, in the first pass and in the second."""
        from lhuc_asr.adaptation.targets.supervision import silence_share

        return {
            result.speaker: [
                silence_share((found.transition_ids for found in words.values()), self.session.system.hmm)
                for words in (result.first_pass, result.second_pass)
                if words is not None
            ]
            for result in self.results
        }

    def _print_end(self) -> None:
        for stage, speed in self.session.speed.items():
            text = str(speed) if stage != "update" else self._update_text(speed)
            print(f"{stage.replace('_', ' ')}: {text}")
        if self.failed:
            print(f"{len(self.failed)} of {len(self.manifest.speakers)} speakers failed:")
            for speaker, reason in self.failed.items():
                print(f"  {speaker}: {reason}")

    def _update_text(self, speed: DecodingSpeed) -> str:
        """Online, recognition goes on meanwhile: what updates cost there is told in seconds of one core."""
        if self.session.settings.protocol.name.name == "online":
            return f"{speed.cpu_real_time_factor:.4f} s of one core per second of speech"
        return f"real-time factor {speed.real_time_factor:.4f}"


def _joined(passes: Iterable[Mapping[str, Hypothesis]]) -> dict[str, Hypothesis]:
    """Utterance id -> best path, of all speakers."""
    return {utterance: hypothesis for words in passes for utterance, hypothesis in words.items()}
