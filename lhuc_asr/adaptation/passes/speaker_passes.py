"""One recognition pass over many speakers: all cores are kept busy, and a speaker comes out when complete."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.speed import SpeedMeter
from lhuc_asr.decoding.words.hypothesis import Hypothesis
from lhuc_asr.errors import DecodingError
from lhuc_asr.parallel import one_thread
from lhuc_asr.progress import track

logger = logging.getLogger(__name__)

Feats = Mapping[str, NDArray[np.float32]]
"""Utterance id -> (T, F) normalised."""

LogLikes = NDArray[np.float32]


class Decoder(Protocol):
    """What a pass needs of a decoder; `lhuc_asr.decoding.wfst.WfstDecoder` is one."""

    def decode_all(
        self,
        items: Iterable[tuple[str, LogLikes]],
        *,
        num_jobs: int = 1,
        meter: SpeedMeter | None = None,
        on_failure: Callable[[str, DecodingError], None] | None = None,
        on_lattice: Callable[[Lattice], None] | None = None,
    ) -> Iterator[Hypothesis]:
        """Hypotheses in the order of the items; utterances without a path go to ``on_failure``.

        The lattice of each goes to ``on_lattice``, where it is given, before its hypothesis is yielded.
        """


@dataclass(frozen=True, eq=False)
class SpeakerPass:
    """What one pass made of one speaker's utterances.

    Attributes:
        hypotheses: utterance id -> best path.
        failed: utterance id -> why it has none.
        lattices: utterance id -> all that the search kept; None where that was not asked for, or is left on disk.
        lattices_sha256: of the lattices that are left on disk (`lhuc_asr.adaptation.passes.pass_store`).
    """

    hypotheses: Mapping[str, Hypothesis]
    failed: Mapping[str, str] = field(default_factory=dict)
    lattices: Mapping[str, Lattice] | None = None
    lattices_sha256: str | None = None

    def of(self, utterances: Iterable[str]) -> dict[str, Hypothesis]:
        """The hypotheses of these utterances, in this order; those that failed are absent."""
        return {utterance: self.hypotheses[utterance] for utterance in utterances if utterance in self.hypotheses}


def decode_speakers(
    decoder: Decoder,
    wanted: Mapping[str, Sequence[str]],
    log_likes: Callable[[str, str], LogLikes],
    *,
    description: str,
    num_jobs: int,
    meter: SpeedMeter,
    keep_lattices: bool = False,
) -> Iterator[tuple[str, SpeakerPass]]:
    """Decode every speaker's utterances in one stream, so that no core waits for the end of a speaker.

    Args:
        decoder: the search.
        wanted: speaker -> ids of the utterances.
        log_likes: (speaker, utterance id) -> (T, P) log-likelihoods, called in this process, a few ahead of the search.
        description: of the progress bar.
        num_jobs: processes of the search.
        meter: collects its speed.
        keep_lattices: give each speaker's lattices as well, for which more is searched; words stay the same.

    Yields:
        Each speaker as soon as all of the speaker's utterances are decoded, in the order given.
    """
    hypotheses: dict[str, Hypothesis] = {}
    failed: dict[str, str] = {}
    lattices: dict[str, Lattice] = {}
    queue = deque(wanted.items())

    def items() -> Iterator[tuple[str, LogLikes]]:
        for speaker, utterances in wanted.items():
            for utterance in utterances:
                with one_thread(when=num_jobs > 1):
                    computed = log_likes(speaker, utterance)
                yield utterance, computed

    def finished() -> Iterator[tuple[str, SpeakerPass]]:
        while queue and all(utterance in hypotheses or utterance in failed for utterance in queue[0][1]):
            speaker, utterances = queue.popleft()
            found = {utterance: hypotheses.pop(utterance) for utterance in utterances if utterance in hypotheses}
            kept = {u: lattices.pop(u) for u in utterances if u in lattices} if keep_lattices else None
            yield speaker, SpeakerPass(found, {u: failed.pop(u) for u in utterances if u in failed}, kept)

    def keep(lattice: Lattice) -> None:
        lattices[lattice.utterance] = lattice

    stream = decoder.decode_all(
        items(),
        num_jobs=num_jobs,
        meter=meter,
        on_failure=lambda utterance, error: _note(failed, utterance, error),
        **({"on_lattice": keep} if keep_lattices else {}),
    )
    for hypothesis in track(stream, description, total=sum(map(len, wanted.values()))):
        hypotheses[hypothesis.utterance] = hypothesis
        yield from finished()
    yield from finished()


def _note(failed: dict[str, str], utterance: str, error: DecodingError) -> None:
    logger.warning("%s", error)
    failed[utterance] = str(error)
