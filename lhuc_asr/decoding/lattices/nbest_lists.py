"""N-best lists on disk: of every utterance its likeliest sentences, for other programs and for people.

nbest   a line for each sentence: UTTERANCE RANK POSTERIOR COST WORDS...; ranks count from 1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.nbest import nbest, sentence_posteriors
from lhuc_asr.files import write_text

NBEST_FILE = "nbest"


def nbest_lines(lattice: Lattice, num_sentences: int, words: Sequence[str]) -> list[str]:
    """The list of one utterance as text.

    Args:
        lattice: of the utterance.
        num_sentences: how many at most; a small lattice may have fewer.
        words: of the lexicon; the id of a word is its index + 1.

    Returns:
        Lines by rising cost. The posterior is a sentence's share among those of the list, the cost that of its cheapest
        path at the scale of the search.

    Raises:
        DecodingError: ``num_sentences`` is below 1.
    """
    sentences = nbest(lattice, num_sentences)
    return [
        " ".join([f"{lattice.utterance} {rank} {share:.6f} {one.cost:.4f}", *(words[word - 1] for word in one.words)])
        for rank, (one, share) in enumerate(zip(sentences, sentence_posteriors(sentences), strict=True), start=1)
    ]


def write_nbest(directory: Path, lines: Iterable[str]) -> Path:
    """Write the lists of all utterances; the file is whole or absent."""
    path = directory / NBEST_FILE
    write_text(path, "".join(f"{line}\n" for line in lines))
    return path


def remove_nbest(directory: Path) -> None:
    """Remove what an earlier run left in a directory."""
    (directory / NBEST_FILE).unlink(missing_ok=True)
