"""lhuc-decode: recognise speech with a model, and with the speakers' profiles where they are given."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._common import OK, SOME_FAILED, add_overrides, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._flags import add_conditioned
from lhuc_asr.cli._lattices import (
    LatticeFiles,
    LatticeUse,
    add_lattice_flags,
    fit_calibration,
    lattice_use,
    refuse_without_search,
)
from lhuc_asr.cli._model import conditioner_of, open_model, tell_unknown
from lhuc_asr.cli._speech import (
    add_speech,
    add_transforms,
    chosen_speech,
    refuse_unusable,
    transforms_sha256,
    usable_speech,
)

if TYPE_CHECKING:
    from lhuc_asr.adaptation.passes.known_profiles import KnownProfiles
    from lhuc_asr.conditioning.conditioner import Conditioner
    from lhuc_asr.config.schema import Config
    from lhuc_asr.data.manifest import Manifest
    from lhuc_asr.decoding.ctc import GreedyCtcDecoder
    from lhuc_asr.decoding.words.hypothesis import Hypothesis
    from lhuc_asr.system.corpus import UsableSpeech
    from lhuc_asr.system.model_directory import AcousticSystem
    from lhuc_asr.system.recognise import Recognised

_PAGE = "decode.json"

Adapted = Callable[[str], AbstractContextManager[Any]]
"""Utterance id -> the context in which it is computed."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "decode", "Recognise speech: words with times, state paths and, where wanted, confidences, per utterance."
    )
    add_speech(parser, data="the speech", out="where the words go")
    parser.add_argument(
        "--profiles", metavar="STORE", type=Path, help="profiles of lhuc-adapt, used speaker by speaker"
    )
    add_conditioned(
        parser,
        "a gate of lhuc-condition, which hears every utterance; speakers with a profile are left to it",
    )
    add_transforms(parser)
    parser.add_argument(
        "--greedy",
        action="store_true",
        help="with a CTC network: write down the best output of every frame, without lexicon and language model",
    )
    add_lattice_flags(parser)
    add_overrides(parser, such_as="decoding.beam=16, decoding=fast or decoding.hypothesis=mbr")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    system, config = open_model(args.model, args.overrides)
    manifest = chosen_speech(args, all_by_default=True)
    _check_transcripts(args, manifest)
    known = _profiles(args, system, manifest.speakers)
    conditioner = conditioner_of(args.conditioned, system, config.condition, args.data)
    greedy = _greedy_decoder(args, system)
    use = lattice_use(args, system)
    (args.out / _PAGE).unlink(missing_ok=True)
    speech = usable_speech(args, manifest, system, config)
    refuse_unusable(args, speech)
    tell_unknown(conditioner, speech.manifest)
    adapted = _adapted(system, known, conditioner, speech, config)
    found = _recognise(args, system, adapted, speech, greedy or use, config)
    hypotheses = fit_calibration(use, system, speech, found).hypotheses if args.calibrate else found.hypotheses
    _write(args.out, hypotheses)
    found = replace(found, hypotheses=hypotheses)
    used = {"profiles": known.manifest(), **_heard(conditioner, config), "greedy": args.greedy}
    _write_page(args, system, used, speech, found, use)
    _tell(found, speech.manifest, scored=greedy is None or greedy.spells_words)
    return SOME_FAILED if found.failed else OK


def _greedy_decoder(args: argparse.Namespace, system: AcousticSystem) -> GreedyCtcDecoder | None:
    """What takes the place of the search, where that is asked for."""
    from lhuc_asr.system.recognise import greedy_decoder_of

    if not args.greedy:
        return None
    refuse_without_search(args)
    return greedy_decoder_of(system)


def _check_transcripts(args: argparse.Namespace, manifest: Manifest) -> None:
    from lhuc_asr.errors import DataError

    if args.calibrate and not manifest.transcripts:
        raise DataError(f"--calibrate needs to know what was said, but '{args.data}' has no transcripts")


def _recognise(
    args: argparse.Namespace,
    system: AcousticSystem,
    adapted: Adapted,
    speech: UsableSpeech,
    how: LatticeUse | GreedyCtcDecoder,
    config: Config,
) -> Recognised:
    """Decode, every utterance with its scales; lattices and n-best lists are written where they are wanted."""
    from lhuc_asr.conditioning.settings import Hearing
    from lhuc_asr.system.recognise import all_log_likes, recognise_all, recognise_greedily

    kept = LatticeFiles(args.out, how if isinstance(how, LatticeUse) else None, system.lexicon.words)
    by_frame = args.conditioned is not None and config.condition.hearing is Hearing.causal
    items = all_log_likes(system, speech.feats, adapted=adapted, at_once=by_frame, num_jobs=config.runtime.jobs)
    if not isinstance(how, LatticeUse):
        return recognise_greedily(how, items, num_utterances=len(speech.feats))
    found = recognise_all(
        how.decoder(system),
        items,
        num_utterances=len(speech.feats),
        num_jobs=config.runtime.jobs,
        on_lattice=kept.add if how.has_lattices else None,
    )
    kept.write()
    return found


def _write(out: Path, hypotheses: Mapping[str, Hypothesis]) -> None:
    """Words, state paths and text; and a ctm, in which words have times and, where they are known, confidences."""
    from lhuc_asr.decoding.words.hypothesis import write_hypotheses
    from lhuc_asr.scoring.sclite import write_ctm

    write_hypotheses(out, hypotheses.values())
    write_ctm(out / "ctm", {utterance: hypothesis.words for utterance, hypothesis in hypotheses.items()})


def _profiles(args: argparse.Namespace, system: AcousticSystem, speakers: tuple[str, ...]) -> KnownProfiles:
    """Profiles of the chosen speakers; the speakers without one are told."""
    from lhuc_asr.adaptation.passes.known_profiles import KnownProfiles

    if args.profiles is None:
        return KnownProfiles(Path(), system.fingerprint)
    known = KnownProfiles.open(args.profiles, speakers, fingerprint=system.fingerprint)
    if without := [speaker for speaker in speakers if speaker not in known.profiles]:
        instead = "speaker-independent" if args.conditioned is None else "by their voices"
        print(f"{instead}, for want of a profile: {', '.join(without)}")
    if known.unlike_most:
        print(f"with profiles that were learnt under other settings than most: {', '.join(known.unlike_most)}")
    return known


def _adapted(
    system: AcousticSystem, known: KnownProfiles, conditioner: Conditioner | None, speech: UsableSpeech, config: Config
) -> Adapted:
    """Utterance id -> the context in which its scales are attached: of the speaker's profile, or as they are heard."""
    from lhuc_asr.conditioning.hearing import HearingRecogniser

    speaker_of = speech.manifest.speaker_of
    by_profile = known.adapting(system.network, speaker_of)
    if conditioner is None:
        return by_profile
    shift = system.features.frame_shift_ms
    hearing = HearingRecogniser(conditioner, speech.feats.raw, speaker_of, config.condition, shift)
    by_ear = hearing.adapting(system.network)
    return lambda name: by_profile(name) if speaker_of[name] in known.profiles else by_ear(name)


def _heard(conditioner: Conditioner | None, config: Config) -> dict[str, Any]:
    """Which gate was used, and how."""
    if conditioner is None:
        return {}
    from lhuc_asr.files import sha256

    path = config.condition.vectors_from
    vectors = {} if path is None else {"vectors": sha256(Path(path))}
    return {"conditioned": {"gate": conditioner.sha256, "hearing": config.condition.hearing.name, **vectors}}


def _write_page(
    args: argparse.Namespace,
    system: AcousticSystem,
    used: Mapping[str, Any],
    speech: UsableSpeech,
    found: Recognised,
    use: LatticeUse,
) -> None:
    """The page that names what was used."""
    from lhuc_asr.files import write_json
    from lhuc_asr.parallel import peak_memory_gb
    from lhuc_asr.system.settings import to_plain

    page = {
        "model_fingerprint": system.fingerprint,
        **used,
        "transforms": transforms_sha256(args),
        "decoding": to_plain(system.decoding),
        **use.page(),
        "failed_utterances": {**speech.unusable, **found.failed},
        "real_time_factor": found.speed.real_time_factor,
        "search_real_time_factor": found.speed.cpu_real_time_factor,
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }
    write_json(args.out / _PAGE, page)


def _tell(found: Recognised, manifest: Manifest, *, scored: bool) -> None:
    """What was found, for people; ``scored``: words were recognised, and not phones."""
    from lhuc_asr.scoring.confidence import score_confidences
    from lhuc_asr.scoring.wer import score_hypotheses

    for utterance, reason in found.failed.items():
        print(f"{utterance}: failed: {reason}")
    if not scored:
        print("phones were written down, not words: no word error rate")
    elif references := manifest.transcripts:
        print(score_hypotheses(references, found.hypotheses, manifest.speaker_of))
        words = {utterance: hypothesis.words for utterance, hypothesis in found.hypotheses.items()}
        if (worth := score_confidences(references, words)) is not None:
            print(f"confidences: {worth}")
    print(f"decoding: {found.speed}")
