"""Adapt a CTC bundle of torchaudio.pipelines (wav2vec 2.0, HuBERT, WavLM, MMS) to one speaker's untranscribed speech.

    python recipes/pretrained/torchaudio_wav2vec2.py --data data/test --speaker anna --out exp/profiles
    python recipes/pretrained/torchaudio_wav2vec2.py --audio a.wav b.wav --speaker anna --out exp/profiles

The first run downloads the checkpoint of the bundle (WAV2VEC2_ASR_BASE_960H: 360 MB).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from one_speaker import adapt_ctc_speaker, add_ctc_flags, add_speech_flags, flags, read_speech, run

from lhuc_asr.pretrained.loading import load_torchaudio_ctc


def main(argv: Sequence[str] | None = None) -> int:
    """Load, decode, adapt, decode again, save."""
    parser = flags(__doc__)
    add_speech_flags(parser)
    add_ctc_flags(parser)
    parser.add_argument("--model", metavar="BUNDLE", default="WAV2VEC2_ASR_BASE_960H", help="default %(default)s")
    parser.add_argument("--checkpoints", metavar="DIR", type=Path, help="where downloads lie (default: torch's cache)")
    arguments = parser.parse_args(argv)
    model = load_torchaudio_ctc(arguments.model, folder=arguments.checkpoints)
    model.net.to(arguments.device)
    return adapt_ctc_speaker(model, read_speech(arguments, model.sampling_rate), arguments)


if __name__ == "__main__":
    run(main)
