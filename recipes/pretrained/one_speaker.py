"""What the scripts of this folder share: flags, one speaker's speech, and what is told and kept at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lhuc_asr.data.audio import read_audio
from lhuc_asr.data.load import load_manifest
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.errors import DataError, LhucError, SpeakerError, nearest
from lhuc_asr.lang.text import normalise
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.fingerprint import fingerprint
from lhuc_asr.pretrained.ctc_adaptation import CtcAdaptationConfig, CtcModel, CtcObjective, adapt_ctc
from lhuc_asr.pretrained.natural_sites import default_sites
from lhuc_asr.pretrained.prefix_beam import PrefixBeamSearch
from lhuc_asr.pretrained.updating import Adaptation, Target, UpdateConfig
from lhuc_asr.profiles.format import Profile, save_profile
from lhuc_asr.scoring.wer import score

T = TypeVar("T", bound=Target)


@dataclass(frozen=True)
class Speech:
    """One speaker's utterances.

    Attributes:
        inputs: utterance -> what the model is fed, such as (N,) samples.
        transcripts: utterance -> words, where somebody wrote them down.
        seconds: of each utterance.
    """

    inputs: Mapping[str, Tensor]
    transcripts: Mapping[str, str]
    seconds: Mapping[str, float]

    def divided(self, num_enrolled: int | None) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """What to learn from, and what to recognise: the first utterances and the others, or twice all."""
        names = list(self.inputs)
        if num_enrolled is None:
            return self.inputs, self.inputs
        if not 0 < num_enrolled < len(names):
            raise DataError(
                f"--enrol {num_enrolled} of {len(names)} utterances leaves nothing to learn from or to decode"
            )
        learnt, others = names[:num_enrolled], names[num_enrolled:]
        return {name: self.inputs[name] for name in learnt}, {name: self.inputs[name] for name in others}


def flags(description: str | None) -> argparse.ArgumentParser:
    """The flags of all scripts."""
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0], allow_abbrev=False, formatter_class=argparse.HelpFormatter
    )
    parser.add_argument("--speaker", metavar="ID", required=True, help="whose speech it is")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the profile goes")
    parser.add_argument("--enrol", metavar="N", type=int, help="learn from the first N utterances, decode the others")
    parser.add_argument("--epochs", metavar="N", type=int, default=3, help="passes over the speech (default 3)")
    parser.add_argument("--lr", metavar="X", type=float, default=0.01, help="learning rate of Adam (default 0.01)")
    parser.add_argument("--amplitude", choices=[kind.name for kind in Amplitude], default="exp", help="default exp")
    return parser


def add_speech_flags(parser: argparse.ArgumentParser) -> None:
    """A data directory with many speakers, or sound files of one."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DIR", type=Path, help="Kaldi data directory or lhotse manifests")
    source.add_argument("--audio", metavar="FILE", type=Path, nargs="+", help="sound files, one utterance each")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="such as cuda (default cpu)")


def add_ctc_flags(parser: argparse.ArgumentParser) -> None:
    """What only CTC models have."""
    parser.add_argument("--objective", choices=[kind.name for kind in CtcObjective], default="sequence")
    parser.add_argument("--beam", metavar="N", type=int, default=0, help="prefixes of the beam search; 0 is greedy")


def read_speech(arguments: argparse.Namespace, sampling_rate: int) -> Speech:
    """The speaker's utterances from ``--data`` or ``--audio``, resampled to what the model wants."""
    if arguments.data is not None:
        manifest = load_manifest(arguments.data)
    else:
        files = [(path.stem, Recording(path.stem, str(path))) for path in arguments.audio]
        manifest = Manifest(tuple(Utterance(name, recording, arguments.speaker) for name, recording in files))
    chosen = [utterance for utterance in manifest if utterance.speaker == arguments.speaker]
    if not chosen:
        known = nearest(arguments.speaker, list(manifest.speakers))
        raise SpeakerError(f"{str(arguments.data)!r} has no speaker {arguments.speaker!r}; the nearest are {known}")
    inputs = {one.id: torch.as_tensor(read_audio(one, sampling_rate=sampling_rate)) for one in chosen}
    if len(inputs) < len(chosen):
        raise DataError("two of the sound files have the same name, and names of utterances must differ")
    transcripts = {name: words for name, words in manifest.transcripts.items() if name in inputs}
    return Speech(inputs, transcripts, {name: len(samples) / sampling_rate for name, samples in inputs.items()})


def updates(arguments: argparse.Namespace) -> UpdateConfig:
    """How to learn, from the flags."""
    return UpdateConfig(num_epochs=arguments.epochs, lr=arguments.lr)


def adapt_ctc_speaker(
    model: CtcModel, speech: Speech, arguments: argparse.Namespace, adapter: LhucAdapter | None = None
) -> int:
    """Adapt a CTC model, and tell and keep what came of it; an adapter of natural sites if none is given."""
    decoder = PrefixBeamSearch(beam_size=arguments.beam, blank=model.blank) if arguments.beam else None
    adapter = adapter or LhucAdapter.identity(model.net, default_sites(model.net), arguments.amplitude)
    enrolled, tested = speech.divided(arguments.enrol)
    config = CtcAdaptationConfig(objective=CtcObjective[arguments.objective], updates=updates(arguments))

    def recognise() -> dict[str, str]:
        return {name: model.words(model.recognise(one, decoder)) for name, one in tested.items()}

    before = recognise()
    done = adapt_ctc(model, adapter, enrolled, config, decoder=decoder)
    with adapter.attached(model.net):
        after = recognise()
    return tell_and_keep(Result(model.net, adapter, done, before, after), speech, arguments)


@dataclass(frozen=True)
class Result:
    """What came of adaptation: the net, its scales, the report, and utterance -> words before and after."""

    net: torch.nn.Module
    adapter: LhucAdapter
    done: Adaptation[Any]
    before: Mapping[str, str]
    after: Mapping[str, str]


def tell_and_keep(result: Result, speech: Speech, arguments: argparse.Namespace) -> int:
    """Print words and figures, and save the profile unless it silences the model; gives the exit status."""
    done = result.done
    for name in result.before:
        print(f"{name} before  {result.before[name]}")
        print(f"{name} after   {result.after[name]}")
    print(f"objective {done.objective_before:.4f} -> {done.objective_after:.4f} in {done.num_updates} updates")
    for what, words in (("before", result.before), ("after", result.after)):
        print_score(what, words, speech, arguments.speaker)
    for name in done.unused:
        print(f"{name}: nothing was recognised, so nothing was learnt from it")
    if done.has_collapsed:
        print(f"no profile is kept: after adaptation nothing is recognised any more in {', '.join(done.silenced)}")
        return 1
    profile = Profile.from_adapter(
        result.adapter,
        speaker=arguments.speaker,
        base_fingerprint=fingerprint(result.net),
        seconds=sum(speech.seconds[name] for name in done.first_pass if name not in done.unused),
        supervision="first_pass",
        objective_before=done.objective_before,
        objective_after=done.objective_after,
        guard=done.guard(),
        settings={key: str(value) for key, value in vars(arguments).items() if value is not None},
    )
    print(f"profile {save_profile(profile, arguments.out)}: {profile.num_parameters} scales")
    return 0


def print_score(what: str, words: Mapping[str, str], speech: Speech, speaker: str) -> None:
    """The word error rate, where every utterance has a transcript."""
    references = {name: normalise(speech.transcripts[name]) for name in words if name in speech.transcripts}
    if len(references) == len(words):
        found = {name: normalise(text) for name, text in words.items()}
        print(f"{what}: {score(references, found, dict.fromkeys(references, speaker))}")


def run(main: Callable[[], int]) -> None:
    """Leave the process with the script's status; a user's mistake is told in one line, and leaves with 2."""
    try:
        sys.exit(main())
    except LhucError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
