"""The decoding graph in memory: read once, checked against the model, with the insertion penalty on its word arcs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lhuc_asr.errors import DecodingError
from lhuc_asr.hmm.graphs.fst_binary import FstHeader

if TYPE_CHECKING:
    import kaldifst

_SYMBOL_TABLES = 3  # header flags of OpenFst: 1 input symbols, 2 output symbols
_STATE_BYTES = 20
_ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])


@dataclass(frozen=True, eq=False)
class DecodingGraph:
    """HCLG as OpenFst's constant layout, whose arcs are one table and can be changed at the speed of numpy.

    Attributes:
        content: the file of OpenFst's ``StdConstFst``, byte for byte.
        arc_offset: where the table of arcs begins in it.
        num_arcs: rows of that table.
    """

    content: bytes
    arc_offset: int
    num_arcs: int

    @classmethod
    def read(cls, path: Path) -> DecodingGraph:
        """Read a graph that was written as a ``StdVectorFst``.

        Raises:
            DecodingError: the file is missing or is no such graph.
        """
        import kaldifst

        if not path.is_file():
            raise DecodingError(f"no decoding graph at {str(path)!r}")
        fst = kaldifst.StdVectorFst.read(str(path))
        if fst is None or fst.num_states == 0:
            raise DecodingError(f"{str(path)!r} is not a decoding graph: a non-empty OpenFst vector FST is needed")
        return cls.of(fst)

    @classmethod
    def of(cls, fst: kaldifst.StdVectorFst) -> DecodingGraph:
        """The same graph in the constant layout; ``fst`` is not kept."""
        import kaldifst

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph"
            if not kaldifst.StdConstFst(fst).write(str(path)):
                raise OSError(f"cannot write the decoding graph to {folder!r}: is the disk full?")
            content = path.read_bytes()
        return cls(content, *_arc_table(content))

    @property
    def arcs(self) -> NDArray[np.void]:
        """(num_arcs,) ilabel (transition id), olabel (word id), weight (cost), nextstate; read-only."""
        return np.frombuffer(self.content, _ARC, self.num_arcs, self.arc_offset)

    def check_labels(self, *, num_transition_ids: int, num_words: int) -> None:
        """Make sure that every label means something: the search would read garbage past the end of the scores.

        Raises:
            DecodingError: the graph was built for another model or lexicon.
        """
        for label, largest_known, what in (
            ("ilabel", num_transition_ids, "transition ids in the acoustic model"),
            ("olabel", num_words, "words in the lexicon"),
        ):
            largest = int(self.arcs[label].max(initial=0))
            if largest > largest_known or self.arcs[label].min(initial=0) < 0:
                raise DecodingError(
                    f"the decoding graph does not fit the model: it uses {label} {largest}, "
                    f"but there are only {largest_known} {what}; build the graph again"
                )

    def fst(self, *, insertion_penalty: float = 0.0) -> kaldifst.StdConstFst:
        """An FST for the search; keep a reference to it as long as a decoder uses it.

        Args:
            insertion_penalty: cost added to every arc that carries a word.
        """
        import kaldifst

        content = bytearray(self.content)
        if insertion_penalty:
            arcs = np.frombuffer(content, _ARC, self.num_arcs, self.arc_offset)
            arcs["weight"][arcs["olabel"] > 0] += np.float32(insertion_penalty)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph"
            path.write_bytes(content)
            return kaldifst.StdConstFst.read(str(path))


def _arc_table(content: bytes) -> tuple[int, int]:
    """Where the arcs begin, and how many there are, in the file of a ``StdConstFst``."""
    header = FstHeader.read(content)
    if header.flags & _SYMBOL_TABLES:
        raise DecodingError("the decoding graph carries symbol tables; write it without them")
    arc_offset = header.num_bytes + header.num_states * _STATE_BYTES
    assert arc_offset + header.num_arcs * _ARC.itemsize == len(content), "unexpected layout of a constant FST"
    return arc_offset, header.num_arcs
