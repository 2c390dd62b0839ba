"""What lhuc-decode takes from lattices: their flags, another language model, confidences, and what is written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._common import UsageError

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice
    from lhuc_asr.decoding.lattices.rescoring import LanguageModelChange
    from lhuc_asr.decoding.wfst import WfstDecoder
    from lhuc_asr.scoring.calibrating import CalibrationReport
    from lhuc_asr.system.calibrated import ModelCalibration
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem
    from lhuc_asr.system.recognise import Recognised


def refuse_without_search(args: argparse.Namespace) -> None:
    """Refuse flags that need lattices beside ``--greedy``.

    Raises:
        UsageError: there is one.
    """
    wanted = {"--confidences": args.confidences, "--keep-lattices": args.keep_lattices, "--nbest": args.nbest}
    wanted |= {"--rescore": args.rescore, "--calibrate": args.calibrate}
    for flag, value in wanted.items():
        if value:
            raise UsageError(f"--greedy searches nothing, so there are no lattices for {flag}: leave one of them out")


def add_lattice_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--confidences``, ``--keep-lattices``, ``--nbest``, ``--rescore`` and ``--calibrate``."""
    parser.add_argument(
        "--confidences",
        action="store_true",
        help="give each word the chance that it is right; so do all flags and settings that need lattices",
    )
    parser.add_argument("--keep-lattices", action="store_true", help="write the lattices as well")
    parser.add_argument(
        "--nbest",
        metavar="N",
        type=int,
        help="write the N likeliest sentences of every utterance, a line each: utterance, rank, posterior, cost, words",
    )
    parser.add_argument(
        "--rescore", metavar="ARPA", type=Path, help="a bigger language model, in place of the one of the search"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="calibrate the model's confidences on this transcribed speech, for all later runs; never test data",
    )


@dataclass(frozen=True, eq=False)
class LatticeUse:
    """What a run makes of lattices.

    Attributes:
        confidences: words get confidences.
        keep: lattices are written.
        num_sentences: of the n-best lists that are written; 0 writes none.
        calibrate: a calibration is fitted.
        change: another language model.
        language_model: SHA-256 of its file; empty where there is none.
        fitted: the model's calibration, where confidences are wanted and there is one.
    """

    confidences: bool
    keep: bool
    num_sentences: int
    calibrate: bool
    change: LanguageModelChange | None
    language_model: str
    fitted: ModelCalibration | None

    def decoder(self, system: AcousticSystem) -> WfstDecoder:
        """The search that this run needs."""
        from lhuc_asr.decoding.calibration import Calibration
        from lhuc_asr.decoding.confidence import ConfidenceEstimator
        from lhuc_asr.system.recognise import decoder_of

        calibration = Calibration() if self.fitted is None else self.fitted.calibration
        estimator = ConfidenceEstimator(system.hmm, system.lexicon, calibration=calibration)
        return decoder_of(system).reading_lattices(
            change=self.change, estimator=estimator if self.confidences else None
        )

    @property
    def has_lattices(self) -> bool:
        """Whether lattices themselves are wanted."""
        return self.keep or self.num_sentences > 0

    def page(self) -> dict[str, Any]:
        """What was used, for the page of the run."""
        return {
            "language_model": self.language_model,
            "calibration": None if self.fitted is None else dict(self.fitted.speech),
        }


class LatticeFiles:
    """Lattices and n-best lists of a run, those of an earlier run removed.

    Args:
        out: where they go.
        use: what of them is wanted; None where there are none.
        words: of the lexicon.
    """

    def __init__(self, out: Path, use: LatticeUse | None, words: Sequence[str]) -> None:
        from lhuc_asr.decoding.lattices.nbest_lists import remove_nbest
        from lhuc_asr.decoding.lattices.store import remove_lattices

        remove_lattices(out)
        remove_nbest(out)
        self._out, self._words = out, words
        self._keep = use is not None and use.keep
        self._num_sentences = 0 if use is None else use.num_sentences
        self._lattices: list[Lattice] = []
        self._lines: list[str] = []

    def add(self, lattice: Lattice) -> None:
        """Take what is wanted of one utterance."""
        from lhuc_asr.decoding.lattices.nbest_lists import nbest_lines

        if self._keep:
            self._lattices.append(lattice)
        if self._num_sentences:
            self._lines += nbest_lines(lattice, self._num_sentences, self._words)

    def write(self) -> None:
        """Write what was wanted, and tell where it is."""
        from lhuc_asr.decoding.lattices.nbest_lists import write_nbest
        from lhuc_asr.decoding.lattices.store import write_lattices

        if self._keep:
            print(f"lattices {write_lattices(self._out, self._lattices)}")
        if self._num_sentences:
            print(f"n-best lists {write_nbest(self._out, self._lines)}")


def lattice_use(args: argparse.Namespace, system: AcousticSystem) -> LatticeUse:
    """What the command line and the settings ask for; what cannot be is refused.

    Raises:
        UsageError: ``--calibrate`` for adapted speakers, or ``--nbest`` below 1.
        DataError: the language model cannot be read, or lacks words.
        ModelError: the calibration was altered.
    """
    from lhuc_asr.decoding.lattices.reading import HypothesisKind

    if args.calibrate and args.profiles is not None:
        raise UsageError("--calibrate fits the confidences of the model alone: leave out --profiles")
    if args.nbest is not None and args.nbest < 1:
        raise UsageError(f"--nbest must be at least 1 sentence, got {args.nbest}")
    one_best = system.decoding.hypothesis is HypothesisKind.one_best
    use = LatticeUse(
        confidences=args.confidences
        or args.keep_lattices
        or args.nbest is not None
        or args.calibrate
        or args.rescore is not None
        or not one_best,
        keep=args.keep_lattices,
        num_sentences=args.nbest or 0,
        calibrate=args.calibrate,
        change=None if args.rescore is None else _change(args.rescore, system),
        language_model="" if args.rescore is None else _sha256(args.rescore),
        fitted=None,
    )
    return _calibrated(use, system) if use.confidences and not args.calibrate else use


def _sha256(path: Path) -> str:
    from lhuc_asr.files import sha256

    return sha256(path)


def _change(path: Path, system: AcousticSystem) -> LanguageModelChange:
    from lhuc_asr.decoding.lattices.rescoring import LanguageModelChange
    from lhuc_asr.errors import DataError
    from lhuc_asr.lang.arpa import read_arpa

    if not path.is_file():
        raise DataError(f"there is no language model '{path}'")
    change = LanguageModelChange(read_arpa(system.lm_path), read_arpa(path), system.lexicon.words)
    change.check_vocabulary()
    return change


def _calibrated(use: LatticeUse, system: AcousticSystem) -> LatticeUse:
    """With the model's calibration; tells where there is none, and where it was fitted under other settings."""
    from lhuc_asr.system.calibrated import read_calibration

    fitted = read_calibration(system)
    if fitted is None:
        print("confidences are word posteriors, not calibrated: --calibrate fits a calibration on transcribed speech")
        return use
    if others := fitted.differences(system, language_model=use.language_model):
        print(f"the calibration of the confidences was fitted under other conditions: {'; '.join(others)}")
    return replace(use, fitted=fitted)


def fit_calibration(
    use: LatticeUse, system: AcousticSystem, speech: UsableSpeech, found: Recognised
) -> CalibrationReport:
    """Calibrate on what was recognised, and put the calibration into the model directory.

    Raises:
        DataError: nothing was recognised in transcribed speech.
    """
    from lhuc_asr.scoring.calibrating import calibrate
    from lhuc_asr.scoring.report import calibration_json
    from lhuc_asr.system.calibrated import ModelCalibration, speech_key, write_calibration
    from lhuc_asr.system.settings import to_plain

    report = calibrate(found.hypotheses, speech.manifest.transcripts, speech.manifest.speaker_of)
    fitted = ModelCalibration(
        calibration=report.calibration,
        decoding=to_plain(system.decoding),
        language_model=use.language_model,
        speech=speech_key(speech.manifest),
        figures=calibration_json(report),
    )
    path = write_calibration(system, fitted)
    print(f"{report}\nwritten to {path}")
    return report
