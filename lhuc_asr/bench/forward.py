"""What speakers cost in recognition: one batch by the bare net, with an adapter, folded, and from banks of speakers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from lhuc_asr.bench.nets import BenchNet
from lhuc_asr.bench.timing import Rounds, Timings, Variant, interleave
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.bank import SpeakerBank
from lhuc_asr.lhuc.fold import fold
from lhuc_asr.lhuc.probe import prove_sites_act

_SEED = 20160101
_SPREAD = 0.2
_LOOP_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class Forward:
    """Timings of one net.

    Attributes:
        variants: what was timed.
        timings: their seconds.
        differences: pairs that must give the same log-probabilities -> how much they differ at most.
    """

    variants: tuple[Variant, ...]
    timings: Timings
    differences: Mapping[str, float]


def batch_make_ups(known: Sequence[str], num_utterances: int) -> dict[str, list[str]]:
    """Who speaks in a batch, in four ways.

    Args:
        known: the speakers there are.
        num_utterances: of the batch.

    Returns:
        ``all distinct``; ``uniform``: drawn, each speaker as likely; ``skewed``: drawn, the k-th speaker as likely as
        1/k (Zipf); ``identical``: one speaker.
    """
    draw = random.Random(_SEED)
    zipf = list(accumulate(1 / rank for rank in range(1, len(known) + 1)))
    return {
        "all distinct": list(known[:num_utterances]),
        "uniform": draw.choices(known, k=num_utterances),
        "skewed": draw.choices(known, cum_weights=zipf, k=num_utterances),
        "identical": [known[0]] * num_utterances,
    }


def measure_forward(bench: BenchNet, rounds: Rounds, *, num_known: int = 1000, title: str = "forward") -> Forward:
    """Time all ways to run a batch; those that must give the same log-probabilities are compared.

    Args:
        bench: the net.
        rounds: how long.
        num_known: speakers of the great bank.
        title: of the progress bar.
    """
    variants = forward_variants(bench, num_known)
    with torch.no_grad():
        timings = interleave(variants, rounds, bench.device, description=title)
    return Forward(tuple(variants), timings, _differences(timings.outcomes))


def forward_variants(bench: BenchNet, num_known: int) -> list[Variant]:
    """All ways to run the same batch."""
    feats, batch = bench.feats(), bench.shape.num_utterances
    prove_sites_act(bench.net, bench.sites, feats[:2])  # now, so that no variant proves it again on the whole batch
    great = _bank(bench, num_known)
    few = _part(bench, great, batch)
    single = _part(bench, great, 1)
    speaker = great.known[0]
    adapter = great.adapter(speaker)
    folded = fold(bench.net, adapter, feats[:2])
    return [
        Variant("bare", lambda: bench.net(feats)),
        Variant("bare once more", lambda: bench.net(feats), against="bare"),
        Variant("adapter attached", lambda: bench.net(feats), lambda: adapter.attached(bench.net), "bare"),
        Variant("folded", lambda: folded(feats), against="bare"),
        _mixed(bench, single, [speaker] * batch, "bank of 1", "bare"),
        _mixed(bench, few, list(few.known), f"bank of {batch}, all distinct", "bank of 1"),
        *_all_make_ups(bench, great),
    ]


def _all_make_ups(bench: BenchNet, bank: SpeakerBank) -> list[Variant]:
    variants = []
    for make_up, speakers in batch_make_ups(bank.known, bench.shape.num_utterances).items():
        mixed = f"bank of {len(bank)}, {make_up}"
        variants.append(_mixed(bench, bank, speakers, mixed, "bank of 1"))
        variants.append(_loop(bench, bank, speakers, f"speaker by speaker, {make_up}", mixed))
    return variants


def _mixed(bench: BenchNet, bank: SpeakerBank, speakers: Sequence[str], name: str, against: str) -> Variant:
    """The whole batch at once, every utterance with its speaker's scales."""
    feats = bench.feats()

    def run() -> Tensor:
        with bank.speakers(speakers):
            output: Tensor = bench.net(feats)
        return output

    return Variant(name, run, lambda: bank.attached(bench.net), against)


def _loop(bench: BenchNet, bank: SpeakerBank, speakers: Sequence[str], name: str, against: str) -> Variant:
    """One speaker after the other, each with all of the speaker's utterances of the batch."""
    places = {speaker: [i for i, other in enumerate(speakers) if other == speaker] for speaker in speakers}
    parts = {speaker: bench.feats()[found].contiguous() for speaker, found in places.items()}
    back = torch.tensor([place for found in places.values() for place in found], device=bench.device).argsort()

    def run() -> Tensor:
        outputs = []
        for speaker, part in parts.items():
            with bank.speakers([speaker] * len(part)):
                outputs.append(bench.net(part))
        return torch.cat(outputs)[back]

    return Variant(name, run, lambda: bank.attached(bench.net), against, _LOOP_ROUNDS)


def _bank(bench: BenchNet, num_known: int) -> SpeakerBank:
    """Speakers with random scales."""
    names = [f"speaker {number}" for number in range(num_known)]
    bank = SpeakerBank.identity(bench.net, bench.sites, names)
    torch.manual_seed(_SEED)
    for name in names:
        adapter = LhucAdapter.identity(bench.net, bench.sites)
        for r in adapter.parameters():
            torch.nn.init.normal_(r, std=_SPREAD)
        bank.put(name, adapter)
    return bank


def _part(bench: BenchNet, bank: SpeakerBank, num_known: int) -> SpeakerBank:
    """The first speakers of a bank, in a bank of their own."""
    part = SpeakerBank.identity(bench.net, bench.sites, bank.known[:num_known])
    for name in part.known:
        part.put(name, bank.adapter(name))
    return part


_ALIKE: Sequence[tuple[str, Callable[[str], bool]]] = (
    ("adapter attached", lambda name: name in ("folded", "bank of 1") or name.endswith("identical")),
    ("all distinct", lambda name: name.endswith("all distinct")),
    ("uniform", lambda name: name.endswith("uniform")),
    ("skewed", lambda name: name.endswith("skewed")),
)


def _differences(outputs: Mapping[str, object]) -> dict[str, float]:
    """How much variants differ that compute the same thing."""
    differences = {}
    for title, belongs in _ALIKE:
        group = [out for name, out in outputs.items() if (name == title or belongs(name)) and isinstance(out, Tensor)]
        differences[title] = max(float((other - group[0]).abs().max()) for other in group[1:])
    return differences
