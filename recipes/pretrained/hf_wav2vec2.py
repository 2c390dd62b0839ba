"""Adapt a CTC model of Hugging Face (Wav2Vec2ForCTC, HubertForCTC, ...) to one speaker's untranscribed speech.

    python recipes/pretrained/hf_wav2vec2.py --model facebook/wav2vec2-base-960h \\
        --data data/test --speaker anna --out exp/profiles --ia3 exp/anna-ia3

``--model`` is a name on the hub or a folder. With ``--ia3`` the scales are also written as an (IA)^3 adapter, which
``peft.PeftModel.from_pretrained(model, "exp/anna-ia3")`` loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from one_speaker import adapt_ctc_speaker, add_ctc_flags, add_speech_flags, flags, read_speech, run

from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.pretrained.ia3 import export_ia3
from lhuc_asr.pretrained.loading import load_hugging_face_ctc
from lhuc_asr.pretrained.natural_sites import default_sites


def main(argv: Sequence[str] | None = None) -> int:
    """Load, decode, adapt, decode again, save."""
    parser = flags(__doc__)
    add_speech_flags(parser)
    add_ctc_flags(parser)
    parser.add_argument("--model", metavar="NAME", default="facebook/wav2vec2-base-960h", help="default %(default)s")
    parser.add_argument("--ia3", metavar="DIR", type=Path, help="write the scales for PEFT, too")
    arguments = parser.parse_args(argv)
    model = load_hugging_face_ctc(arguments.model)
    model.net.to(arguments.device)
    adapter = LhucAdapter.identity(model.net, default_sites(model.net), arguments.amplitude)
    status = adapt_ctc_speaker(model, read_speech(arguments, model.sampling_rate), arguments, adapter)
    if arguments.ia3 is not None and status == 0:
        export_ia3(model.net, adapter, arguments.ia3, base_model=arguments.model)
        print(f"(IA)^3 adapter {arguments.ia3}")
    return status


if __name__ == "__main__":
    run(main)
