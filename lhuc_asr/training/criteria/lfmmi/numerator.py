"""What was said: the graph of one transcript, or of one alignment with some freedom in time.

Both are weighted with the phone model of the denominator, begin in its state 0 and end as it ends. So every path of
them is also one of the denominator, except through n-grams that the phone model has not seen
(``PhoneLm.unseen_log_prob``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import ConfigError
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.hmm.states.topology import EDGE
from lhuc_asr.training.criteria.lfmmi.chain_topology import SUBSAMPLING, ChainTopology
from lhuc_asr.training.criteria.lfmmi.denominator import Extent, Place
from lhuc_asr.training.criteria.lfmmi.graph import ChainGraph, GraphBuilder
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph
from lhuc_asr.training.criteria.lfmmi.phone_lm import START, History, PhoneLm

_Key = tuple[frozenset[int], History, int]


@dataclass(frozen=True, eq=False)
class NumeratorCompiler:
    """Makes the graphs of utterances for one denominator.

    Attributes:
        lm: the denominator's phone model.
        topology: the denominator's.
        extent: the denominator's.
        log_start: weight of the denominator's state 0, ``denominator.start[0]``.
        log_starts: those of all of its states, which pieces of utterances begin with.
    """

    lm: PhoneLm
    topology: ChainTopology
    extent: Extent = Extent.stationary
    log_start: float = 0.0
    log_starts: Mapping[Place, float] = field(default_factory=dict)

    def of_phones(self, phones: PhoneGraph) -> ChainGraph:
        """All phone sequences of a transcript, each once, at any speed: training from a flat start."""
        builder = GraphBuilder()
        begin: _Key = (frozenset({0}), START, -1)
        states, waiting = {begin: builder.add_state(start=self.log_start)}, [begin]
        while waiting:
            nodes, history, loop = key = waiting.pop()
            state, leave = states[key], self.topology.log_leave if loop >= 0 else 0.0
            if loop >= 0:
                builder.add_arc(state, state, pdf=loop, log_weight=self.topology.log_loop)
            if any(node in phones.final for node in nodes):
                builder.set_final(state, self._log_end(history, leave))
            for phone, targets in _following(phones, nodes).items():
                step, left = self.lm.step(history, phone), history[-1]
                following = (targets, step.history, int(self.topology.loop[left, phone]))
                if following not in states:
                    states[following] = builder.add_state()
                    waiting.append(following)
                pdf = int(self.topology.enter[left, phone])
                builder.add_arc(state, states[following], pdf=pdf, log_weight=leave + step.log_prob)
        return builder.graph()

    def of_segments(self, segments: PhoneSegments, *, tolerance: int = 5) -> ChainGraph:
        """The phones of an alignment, each within its frames and some around them.

        Args:
            segments: phones and where they begin and end, in frames of the features.
            tolerance: frames of the features by which a phone may be early or late.

        Returns:
            A graph with one copy of a phone's state for every output of the network in which it may be.

        Raises:
            ConfigError: the tolerance is negative.

        Source: Povey et al. 2016 (Interspeech), section 2.3 (there 5 frames).
        """
        return self._within(segments, segments.windows(tolerance), range(segments.num_outputs))

    def of_stretch(self, segments: PhoneSegments, outputs: range, *, tolerance: int = 5) -> ChainGraph:
        """A stretch of `of_segments`, for pieces of utterances.

        Its paths are those of the whole utterance between two outputs. Within the utterance they begin and end in the
        middle of phones, with the weights that the denominator has there, so ``extent`` must be stationary.

        Args:
            segments: phones of the whole utterance.
            outputs: of the network, the stretch.
            tolerance: frames of the features by which a phone may be early or late.

        Raises:
            ConfigError: the tolerance is negative.

        Source: Povey et al. 2016 (Interspeech), section 2.3: utterances are split into pieces of a fixed size.
        """
        assert self.extent is Extent.stationary
        if len(outputs) == segments.num_outputs:
            return self.of_segments(segments, tolerance=tolerance)
        return self._within(segments, segments.reachable(tolerance), outputs)

    def _within(
        self, segments: PhoneSegments, windows: tuple[Sequence[int], Sequence[int]], outputs: range
    ) -> ChainGraph:
        """One copy of a phone's state for every output in its window and the stretch."""
        builder, history, leave = GraphBuilder(), START, 0.0
        before = {} if outputs.start else {-1: builder.add_state(start=self.log_start)}
        for phone, begin, end in zip(segments.phones, *windows, strict=True):
            step, left = self.lm.step(history, phone), history[-1]
            here: dict[int, int] = {}
            for frame in range(max(begin, outputs.start - 1), min(end, outputs.stop)):
                if frame < outputs.start:
                    place = (step.history, int(self.topology.loop[left, phone]))
                    start = self.log_starts.get(place, self.lm.unseen_log_prob)
                    here[frame] = builder.add_state(start=start)
                    continue
                here[frame] = builder.add_state()
                if frame - 1 in before:
                    pdf = int(self.topology.enter[left, phone])
                    builder.add_arc(before[frame - 1], here[frame], pdf=pdf, log_weight=leave + step.log_prob)
                if frame - 1 in here:
                    pdf = int(self.topology.loop[left, phone])
                    builder.add_arc(here[frame - 1], here[frame], pdf=pdf, log_weight=self.topology.log_loop)
            before, history, leave = here, step.history, self.topology.log_leave
            if outputs.stop < segments.num_outputs and outputs.stop - 1 in here:
                builder.set_final(here[outputs.stop - 1], 0.0)
        if (final := before.get(segments.num_outputs - 1)) is not None:
            builder.set_final(final, self._log_end(history, leave))
        return builder.graph()

    def _log_end(self, history: History, leave: float) -> float:
        return 0.0 if self.extent is Extent.stationary else leave + self.lm.step(history, EDGE).log_prob


def _following(phones: PhoneGraph, nodes: frozenset[int]) -> dict[int, frozenset[int]]:
    """The nodes to which each phone leads; taking them together makes every phone sequence one path."""
    targets: dict[int, set[int]] = {}
    for node in sorted(nodes):
        for arc in phones.arcs[node]:
            targets.setdefault(arc.phone, set()).add(arc.target)
    return {phone: frozenset(found) for phone, found in targets.items()}


@dataclass(frozen=True)
class PhoneSegments:
    """The phones of an aligned utterance.

    Attributes:
        phones: ids, in order.
        starts: first frame of each, in frames of the features.
        num_frames: of the features.
        factor: sub-sampling of the network.
    """

    phones: Sequence[int]
    starts: Sequence[int]
    num_frames: int
    factor: int = SUBSAMPLING

    @staticmethod
    def of_alignment(hmm: HmmModel, transition_ids: NDArray[np.int32], *, factor: int = SUBSAMPLING) -> PhoneSegments:
        """Read an alignment; its phones last three frames or more, so each gets an output of its own."""
        starts = np.flatnonzero(hmm.phone_starts(transition_ids))
        phones = hmm.phones_of(transition_ids)[starts]
        return PhoneSegments(phones.tolist(), starts.tolist(), len(transition_ids), factor)

    @property
    def num_outputs(self) -> int:
        """Outputs of the network."""
        return -(-self.num_frames // self.factor)

    def reachable(self, tolerance: int) -> tuple[list[int], list[int]]:
        """The same as `windows` without outputs in which the other phones leave no place for a phone."""
        first, last = self.windows(tolerance)
        for index in range(1, len(first)):
            first[index] = max(first[index], first[index - 1] + 1)
        for index in reversed(range(len(last) - 1)):
            last[index] = min(last[index], last[index + 1] - 1)
        return first, last

    def windows(self, tolerance: int) -> tuple[list[int], list[int]]:
        """The first output of each phone, and the first one too late for it.

        Raises:
            ConfigError: the tolerance is negative.
        """
        if tolerance < 0:
            raise ConfigError(f"tolerance is a number of frames from 0, got {tolerance}")
        ends = [*self.starts[1:], self.num_frames]
        first = [max(0, (start - tolerance) // self.factor) for start in self.starts]
        last = [min(self.num_outputs, -(-(end + tolerance) // self.factor)) for end in ends]
        return first, last
