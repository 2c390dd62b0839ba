"""lhuc-adapt: fit a model to speakers from their own untranscribed speech, and recognise them again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._common import (
    OK,
    SOME_FAILED,
    add_overrides,
    command_parser,
    main_guard,
    parse_arguments,
    start_runtime,
)
from lhuc_asr.cli._speakers import add_speakers, chosen_speakers

if TYPE_CHECKING:
    from lhuc_asr.adaptation.results import SpeakerFailure, SpeakerResult
    from lhuc_asr.adaptation.session import AdaptationSession
    from lhuc_asr.config.schema import Config
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.system.corpus import UsableSpeech


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "adapt",
        "Recognise speakers, learn one scale per hidden unit from what was recognised, and recognise them again. "
        "A run that was broken off goes on where it stopped; finished speakers are not done again.",
    )
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model directory of lhuc-train")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="the speakers' speech")
    add_speakers(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="where profiles and words go")
    parser.add_argument("--first-pass", metavar="DIR", type=Path, help="keep first passes here, to share between runs")
    parser.add_argument("--no-second-pass", action="store_true", help="stop when the profiles are written")
    parser.add_argument(
        "--keep-going", action="store_true", help="use a speaker's good utterances where others are bad"
    )
    parser.add_argument("--allow-commands", action="store_true", help="run the commands (`cmd |`) of wav.scp")
    add_overrides(parser)
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    from lhuc_asr.config.compose import compose

    start_runtime(compose(args.overrides).runtime)
    from lhuc_asr.adaptation.session import AdaptationSession
    from lhuc_asr.config.build import adaptation_settings
    from lhuc_asr.config.provenance import write_provenance
    from lhuc_asr.data.load import load_manifest
    from lhuc_asr.system.corpus import usable_feats
    from lhuc_asr.system.model_directory import load_system

    system = load_system(args.model)
    config = compose(args.overrides, given={"decoding": system.decoding, "features": system.features})
    manifest = chosen_speakers(args, load_manifest(args.data, allow_commands=args.allow_commands))
    write_provenance(args.out, config, args.overrides)
    speech = usable_feats(manifest, system.features, args.out / "features", num_jobs=config.runtime.jobs)
    session = AdaptationSession(
        system.searching_with(config.decoding),
        adaptation_settings(config),
        args.out,
        first_pass_directory=args.first_pass,
        num_jobs=config.runtime.jobs,
    )
    _print_settings(config, session)
    return _Report(args, manifest, session).run(speech)


def _print_settings(config: Config, session: AdaptationSession) -> None:
    num_units = sum(site.num_units for site in session.sites)
    arm = " (research: the targets are the aligned references)" if config.adapt.supervision.name == "oracle" else ""
    print(
        f"{config.protocol.name.name}, supervision {config.adapt.supervision.name}{arm}; "
        f"{config.lhuc.amplitude.name} scales of {num_units} units in {len(session.sites)} layers; "
        f"lr {config.adapt.lr:g}, {config.adapt.num_epochs} epochs",
        flush=True,
    )


class _Report:
    """Prints one line per speaker as it comes, and at the end what all of them together gave."""

    def __init__(self, args: argparse.Namespace, manifest: Manifest, session: AdaptationSession) -> None:
        self.args, self.manifest, self.session = args, manifest, session
        self.results: list[SpeakerResult] = []
        self.failures: list[SpeakerFailure] = []

    def run(self, speech: UsableSpeech) -> int:
        """Adapt to everybody; the exit code says whether somebody failed."""
        from lhuc_asr.adaptation.results import SpeakerResult

        self._refuse_unusable(speech)
        failed = {failure.speaker for failure in self.failures}
        able = speech.manifest.where(lambda utterance: utterance.speaker not in failed)
        outcomes = self.session.run(able, speech.feats, second_pass=not self.args.no_second_pass) if len(able) else ()
        for outcome in outcomes:
            if isinstance(outcome, SpeakerResult):
                self.results.append(outcome)
                print(self._line(outcome), flush=True)
            else:
                self._note_failure(outcome)
        self._finish()
        return SOME_FAILED if self.failures else OK

    def _refuse_unusable(self, speech: UsableSpeech) -> None:
        """A speaker with bad audio fails, unless ``--keep-going`` leaves the bad utterances out."""
        from lhuc_asr.adaptation.results import SpeakerFailure

        for speaker in self.manifest.speakers:
            own = [utterance.id for utterance in self.manifest if utterance.speaker == speaker]
            bad = [speech.unusable[utterance] for utterance in own if utterance in speech.unusable]
            if self.args.keep_going and len(bad) < len(own):
                for reason in bad:
                    print(f"{speaker}: left out: {reason}", flush=True)
            elif bad:
                more = f" (and {len(bad) - 1} more of {len(own)} utterances)" if len(bad) > 1 else ""
                self._note_failure(
                    SpeakerFailure(speaker=speaker, reason=f"{bad[0]}{more}; --keep-going leaves it out")
                )

    def _note_failure(self, failure: SpeakerFailure) -> None:
        self.failures.append(failure)
        print(f"{failure.speaker}: failed: {failure.reason}", flush=True)

    def _line(self, result: SpeakerResult) -> str:
        parts = [
            f"{result.speaker}: {result.seconds:.1f} s",
            f"objective {result.update.objective_before:.3f} -> {result.update.objective_after:.3f}",
        ]
        if result.second_pass is not None and (rates := self._error_rates(result)):
            parts.append("WER {:.1f} -> {:.1f} %".format(*rates))
        return ", ".join(parts) + (" (done before)" if result.resumed else "")

    def _error_rates(self, result: SpeakerResult) -> tuple[float, float] | None:
        from lhuc_asr.scoring.wer import score

        evaluation = [utterance for utterance in result.plan.evaluation if utterance in self.manifest.transcripts]
        if not evaluation:
            return None
        references = {utterance: self.manifest.transcripts[utterance] for utterance in evaluation}
        first, second = (
            score(references, _texts(words, evaluation), self.manifest.speaker_of).total.wer
            for words in (result.first_pass, result.second_pass or {})
        )
        return first, second

    def _finish(self) -> None:
        from lhuc_asr.decoding.hypothesis import write_hypotheses

        before = {key: item for result in self.results for key, item in result.first_pass.items()}
        after = {key: item for result in self.results for key, item in (result.second_pass or {}).items()}
        write_hypotheses(self.args.out / "si", before.values())
        more = self._facts()
        if not self.args.no_second_pass:
            write_hypotheses(self.args.out / "adapted", after.values())
            self._compare(before, after, more)
        for stage, speed in self.session.speed.items():
            print(f"{stage.replace('_', ' ')}: {speed}")
        if self.failures:
            print(f"{len(self.failures)} of {len(self.manifest.speakers)} speakers failed:")
            for failure in self.failures:
                print(f"  {failure.speaker}: {failure.reason}")

    def _compare(self, before: dict[str, Any], after: dict[str, Any], more: dict[str, Any]) -> None:
        """The table of errors, where there are transcripts."""
        from lhuc_asr.scoring.comparison import compare
        from lhuc_asr.scoring.report import comparison_text, write_results
        from lhuc_asr.scoring.wer import score

        evaluated = [utterance for result in self.results for utterance in result.plan.evaluation]
        references = {
            utterance: self.manifest.transcripts[utterance]
            for utterance in evaluated
            if utterance in self.manifest.transcripts
        }
        if not references:
            return
        scores = {
            name: score(references, _texts(words, references), self.manifest.speaker_of)
            for name, words in (("SI", before), ("LHUC", after))
        }
        comparison = compare(scores["SI"], scores["LHUC"])
        print(f"\n{comparison_text(comparison, 'SI', 'LHUC')}\n")
        write_results(self.args.out / "results.json", scores, {("SI", "LHUC"): comparison}, **more)

    def _facts(self) -> dict[str, Any]:
        return {
            "settings": self.session.settings.plain(),
            "fingerprint": self.session.system.fingerprint,
            "speed": {stage: speed.real_time_factor for stage, speed in self.session.speed.items()},
            "failed_speakers": {failure.speaker: failure.reason for failure in self.failures},
        }


def _texts(hypotheses: Any, wanted: Any) -> dict[str, str]:
    """Utterance id -> words; an utterance without a path counts as recognised without words."""
    return {utterance: hypotheses[utterance].text if utterance in hypotheses else "" for utterance in wanted}
