"""Where LHUC belongs in well-known speech models: the hidden units of every feed-forward block, one site for each.

The units of a block are what its first linear layer gives after the activation and what its second one reads. A site
is a module at that place that runs in every mode: the activation where it is a module of its own, and otherwise the
dropout behind it, which also runs, and gives what it gets, in evaluation mode. The table needs no package installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lhuc_asr.errors import SiteError
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.hooks import bare
from lhuc_asr.lhuc.layout import Layout
from lhuc_asr.lhuc.sites import Site


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Where the hidden units of one kind of block can be scaled.

    Attributes:
        units: wildcard for the modules, by their names in the model, whose output is these units.
        reader: the linear layer that alone reads them, by its name beside such a module.
        layout: of that output.
    """

    units: str
    reader: str
    layout: str = "BTH"


_HUGGING_FACE = (FeedForward("encoder.layers.*.feed_forward.intermediate_act_fn", "output_dense"),)
_HUGGING_FACE_MACARON = tuple(
    FeedForward(f"encoder.layers.*.{ffn}.intermediate_act_fn", "output_dense") for ffn in ("ffn1", "ffn2")
)
_WHISPER = (FeedForward("layers.*.activation_fn", "fc2"),)

NATURAL_SITES: Mapping[str, Sequence[FeedForward]] = {
    "torchaudio.Wav2Vec2Model": (
        FeedForward("encoder.transformer.layers.*.feed_forward.intermediate_dropout", "output_dense"),
    ),
    "torchaudio.Conformer": tuple(
        FeedForward(f"conformer_layers.*.{ffn}.sequential.2", "4", "TBH") for ffn in ("ffn1", "ffn2")
    ),
    "torchaudio.Emformer": (FeedForward("emformer_layers.*.pos_ff.2", "4", "TBH"),),
    "transformers.Wav2Vec2Model": _HUGGING_FACE,
    "transformers.HubertModel": _HUGGING_FACE,
    "transformers.WavLMModel": _HUGGING_FACE,
    "transformers.Data2VecAudioModel": _HUGGING_FACE,
    "transformers.UniSpeechModel": _HUGGING_FACE,
    "transformers.UniSpeechSatModel": _HUGGING_FACE,
    "transformers.Wav2Vec2ConformerModel": _HUGGING_FACE_MACARON,
    "transformers.Wav2Vec2BertModel": _HUGGING_FACE_MACARON,
    "transformers.WhisperEncoder": _WHISPER,
    "transformers.WhisperDecoder": _WHISPER,
}
"""Package and class -> its feed-forward blocks. A model is known when it is, inherits from, or contains one of these.

So ``Wav2Vec2ForCTC``, torchaudio's HuBERT and WavLM, its emformer transducer and what the bundles of
``torchaudio.pipelines`` for recognition and alignment give are known as well.
"""


def default_sites(model: nn.Module, *, example: Any = None) -> tuple[Site, ...]:
    """The natural sites of a well-known model, from the bottom to the top.

    Args:
        model: a model of the table above, alone or inside any other; of several, every one gives its sites.
        example: input to watch the model on, as for ``find_sites``: every site must run once and be as wide as said.

    Raises:
        SiteError: the table knows neither the model nor any part of it; or a site does not do so on the example.

    Example:
        >>> from lhuc_asr.dependencies import import_torchaudio
        >>> models = import_torchaudio("models")
        >>> conformer = models.Conformer(8, 2, ffn_dim=5, num_layers=1, depthwise_conv_kernel_size=3)
        >>> [site.name for site in default_sites(conformer)]
        ['conformer_layers.0.ffn1.sequential.2', 'conformer_layers.0.ffn2.sequential.2']
    """
    net = bare(model)
    sites = tuple(site for site, _ in _natural(net))
    for site in sites if example is not None else ():
        (seen,) = find_sites(net, site.name, example=example, layout=site.layout)
        if seen != site:
            raise SiteError(f"{site.name!r} has {seen.num_units} units on the example, but its layer {site.num_units}")
    return sites


def readers(model: nn.Module) -> dict[str, str]:
    """Site -> the linear layer that alone reads its units, for the natural sites of a model; none of an unknown one."""
    net = bare(model)
    return {site.name: reader for site, reader in _natural(net)} if any(True for _ in _known_parts(net)) else {}


def _natural(net: nn.Module) -> Iterator[tuple[Site, str]]:
    parts = list(_known_parts(net))
    if not parts:
        raise SiteError(
            f"no natural sites are known for {type(net).__name__}, nor for anything in it; known are "
            f"{', '.join(NATURAL_SITES)}. Name the modules whose output is hidden units yourself: "
            "find_sites(model, 'encoder.*.activation', example=...)"
        )
    for prefix, part, blocks in parts:
        yield from _sites_of(prefix, part, blocks)


def _known_parts(net: nn.Module) -> Iterator[tuple[str, nn.Module, Sequence[FeedForward]]]:
    """Name (with a dot), module and table row of every known part that lies in no other."""
    within: tuple[str, ...] = ()
    for name, module in net.named_modules():
        blocks = _row(module)
        if blocks and not name.startswith(within or "\0"):
            prefix = f"{name}." if name else ""
            within = (*within, prefix)
            yield prefix, module, blocks


def _row(module: nn.Module) -> Sequence[FeedForward]:
    keys = (f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(module).__mro__)
    return next((NATURAL_SITES[key] for key in keys if key in NATURAL_SITES), ())


def _sites_of(prefix: str, part: nn.Module, blocks: Sequence[FeedForward]) -> Iterator[tuple[Site, str]]:
    unused = set(blocks)
    for name, _ in part.named_modules():
        for block in blocks:
            if fnmatchcase(name, block.units):
                unused.discard(block)
                reader = f"{name.rpartition('.')[0]}.{block.reader}"
                num_units = part.get_submodule(reader).in_features
                assert isinstance(num_units, int)
                yield Site(prefix + name, (num_units,), Layout(block.layout)), prefix + reader
    if unused:
        missing = ", ".join(repr(block.units) for block in blocks if block in unused)
        raise SiteError(
            f"{type(part).__name__} has no {missing}, where its hidden units are in the versions that the table knows: "
            "name the sites yourself with find_sites"
        )
