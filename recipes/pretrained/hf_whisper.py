"""Adapt Whisper to one speaker's untranscribed speech: scales in the encoder, in the decoder, or in both.

    python recipes/pretrained/hf_whisper.py --model openai/whisper-tiny --language en \\
        --data data/test --speaker anna --out exp/profiles --part encoder

``--model`` is a name on the hub or a folder. Utterances are at most 30 s long; divide longer ones into segments.
"""

from __future__ import annotations

from collections.abc import Sequence

from one_speaker import Result, add_speech_flags, flags, read_speech, run, tell_and_keep, updates

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.pretrained.natural_sites import default_sites
from lhuc_asr.pretrained.whisper import WhisperModel, adapt_whisper


def main(argv: Sequence[str] | None = None) -> int:
    """Load, decode, adapt, decode again, save."""
    parser = flags(__doc__)
    add_speech_flags(parser)
    parser.add_argument("--model", metavar="NAME", default="openai/whisper-tiny", help="default %(default)s")
    parser.add_argument("--language", metavar="CODE", help="such as en; needed unless the model knows one only")
    parser.add_argument("--part", choices=["encoder", "decoder", "both"], default="encoder", help="default %(default)s")
    arguments = parser.parse_args(argv)
    model = WhisperModel.load(arguments.model, language=arguments.language)
    model.net.to(arguments.device)
    parts = ("encoder", "decoder") if arguments.part == "both" else (arguments.part,)
    sites = [site for site in default_sites(model.net) if site.name.split(".")[1] in parts]
    adapter = LhucAdapter.identity(model.net, sites, arguments.amplitude)
    speech = read_speech(arguments, model.sampling_rate)
    enrolled, tested = speech.divided(arguments.enrol)

    def recognise() -> dict[str, str]:
        return {name: model.words(model.recognise(samples)) for name, samples in tested.items()}

    before = recognise()
    done = adapt_whisper(model, adapter, enrolled, updates(arguments))
    with adapter.attached(model.net):
        after = recognise()
    return tell_and_keep(Result(model.net, adapter, done, before, after), speech, arguments)


if __name__ == "__main__":
    run(main)
