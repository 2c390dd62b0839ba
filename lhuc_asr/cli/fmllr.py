"""lhuc-fmllr: one affine transform of the features for each speaker, for a model that was trained on such."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lhuc_asr.cli._common import OK, add_overrides, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._model import open_model
from lhuc_asr.cli._speech import add_speech, chosen_speech, refuse_unusable, untransformed_speech

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lhuc_asr.config.schema import Config
    from lhuc_asr.features.fmllr import SpeakerTransforms
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "fmllr",
        "Estimate speakers' transforms (fMLLR) from their own speech, for lhuc-decode --transforms and lhuc-adapt "
        "--transforms. The model must have been trained on transformed features (fmllr=sat).",
    )
    add_speech(parser, data="the speakers' speech", out="where the transforms go")
    parser.add_argument(
        "--text",
        metavar="PATH",
        type=Path,
        help="what is said: a directory of lhuc-decode, or a text file; without it, the model's own GMM recognises it",
    )
    add_overrides(parser, such_as="fmllr.min_frames=1000 or protocol=enrolment")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    system, config = open_model(args.model, args.overrides)
    manifest = chosen_speech(args, all_by_default=True)
    system.speaker_gmm()  # refuses a model that has none
    from lhuc_asr.system.transforming import estimate_transforms

    speech = untransformed_speech(args, manifest, system, config)
    feats = _learnt_from(args, speech, config)
    texts = _texts(args, system, feats, config)
    speaker_of = speech.manifest.speaker_of
    transforms = estimate_transforms(system, feats, texts, speaker_of, config.fmllr, num_jobs=config.runtime.jobs)
    transforms.save(args.out)
    _report(transforms)
    return OK


def _learnt_from(args: argparse.Namespace, speech: UsableSpeech, config: Config) -> dict[str, NDArray[np.float32]]:
    """Features of the utterances that the protocol lets transforms be estimated on."""
    from lhuc_asr.adaptation.passes.protocol import plan_speaker

    refuse_unusable(args, speech)
    own = {speaker: speech.manifest.of_speaker(speaker) for speaker in speech.manifest.speakers}
    plans = [plan_speaker(speaker, part, config.protocol) for speaker, part in own.items()]
    return {utterance: speech.feats[utterance] for plan in plans for utterance in plan.adaptation}


def _texts(
    args: argparse.Namespace, system: AcousticSystem, feats: Mapping[str, NDArray[np.float32]], config: Config
) -> dict[str, str]:
    """Utterance id -> words, given or recognised by the GMM; those are kept as well."""
    from lhuc_asr.decoding.words.hypothesis import write_hypotheses
    from lhuc_asr.system.transforming import read_words, recognise_by_gmm

    if args.text is not None:
        return read_words(args.text)
    found = recognise_by_gmm(system, system.speaker_gmm(), feats, num_jobs=config.runtime.jobs)
    write_hypotheses(args.out / "first_pass", found.hypotheses.values())
    for utterance, reason in found.failed.items():
        print(f"{utterance}: not recognised: {reason}")
    return {utterance: hypothesis.text for utterance, hypothesis in found.hypotheses.items()}


def _report(transforms: SpeakerTransforms) -> None:
    for speaker, transform in transforms.items():
        if reason := transforms.unchanged.get(speaker):
            print(f"{speaker}: features stay as they are: {reason}")
        else:
            print(f"{speaker}: {transforms.num_frames[speaker]} frames, log |det A| {transform.log_determinant:.2f}")
    num_estimated = len(transforms) - len(transforms.unchanged)
    print(f"{num_estimated} of {len(transforms)} speakers have a transform")
