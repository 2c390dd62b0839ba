"""Adapt any CTC model that a lhotse CutSet feeds, such as one of SpeechBrain, icefall or your own, to one speaker.

    python recipes/pretrained/lhotse_cuts.py --build my_model.py:build --sites 'encoder.*.activation' \\
        --cuts data/cuts.jsonl.gz --speaker anna --out exp/profiles

``build`` is a function in your file without arguments; it gives a ``CtcModel``:

    def build() -> CtcModel:
        net = MyConformer(...)
        net.load_state_dict(torch.load("my_model.pt", weights_only=True))
        return CtcModel(net, run=lambda net, feats: net(feats[None], torch.tensor([len(feats)]))[0][0], text=...)

``run`` gets the net and one cut: its features (T, F) where the cuts have some, otherwise its samples (N,). With
``--sites`` (repeatable) you name the layers whose output is hidden units; models that are known need none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from one_speaker import Speech, adapt_ctc_speaker, add_ctc_flags, flags, run

from lhuc_asr.errors import ConfigError, SpeakerError, nearest
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.pretrained.ctc_adaptation import CtcModel
from lhuc_asr.pretrained.natural_sites import default_sites


def main(argv: Sequence[str] | None = None) -> int:
    """Build, read, decode, adapt, decode again, save."""
    parser = flags(__doc__)
    add_ctc_flags(parser)
    parser.add_argument("--cuts", metavar="FILE", type=Path, required=True, help="such as cuts.jsonl.gz")
    parser.add_argument("--build", metavar="FILE.py:FUNCTION", required=True, help="what gives the CtcModel")
    parser.add_argument("--sites", metavar="PATTERN", action="append", help="wildcard of layers; repeatable")
    arguments = parser.parse_args(argv)
    model = built(arguments.build)
    speech = read_cuts(arguments.cuts, arguments.speaker, model.sampling_rate)
    sites = find_sites(model.net, arguments.sites) if arguments.sites else default_sites(model.net)
    return adapt_ctc_speaker(model, speech, arguments, LhucAdapter.identity(model.net, sites, arguments.amplitude))


def built(where: str) -> CtcModel:
    """What a user's function gives."""
    path, colon, function = where.rpartition(":")
    if not (colon and Path(path).is_file()):
        raise ConfigError(f"--build {where!r} is no FILE.py:FUNCTION of a file that exists")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = getattr(module, function)()
    if not isinstance(model, CtcModel):
        raise ConfigError(f"{where} gives a {type(model).__name__}, not a CtcModel")
    return model


def read_cuts(path: Path, speaker: str, sampling_rate: int) -> Speech:
    """The cuts in which the speaker alone speaks."""
    import lhotse

    cuts = list(lhotse.load_manifest_lazy(path))
    speakers = sorted({one.speaker for cut in cuts for one in cut.supervisions if one.speaker})
    chosen = [cut for cut in cuts if {one.speaker for one in cut.supervisions} == {speaker}]
    if not chosen:
        raise SpeakerError(
            f"{str(path)!r} has no cut in which {speaker!r} alone speaks; the nearest are {nearest(speaker, speakers)}"
        )
    texts = {cut.id: [one.text for one in cut.supervisions] for cut in chosen}
    return Speech(
        {cut.id: fed(cut, sampling_rate) for cut in chosen},
        {name: " ".join(said) for name, said in texts.items() if None not in said},
        {cut.id: cut.duration for cut in chosen},
    )


def fed(cut: Any, sampling_rate: int) -> torch.Tensor:
    """Features of a cut, or samples of its first channel."""
    if cut.has_features:
        return torch.as_tensor(cut.load_features())
    return torch.as_tensor(cut.resample(sampling_rate).load_audio()[0])


if __name__ == "__main__":
    run(main)
