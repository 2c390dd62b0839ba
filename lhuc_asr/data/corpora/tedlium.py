"""TED-LIUM: talks of the TED conference, each by a speaker of its own (OpenSLR 7, 19 and 51; CC BY-NC-ND 3.0).

Releases 1 and 2 hold ``train/``, ``dev/`` and ``test/`` with ``sph/`` and ``stm/``; release 3 holds them below
``legacy/``, with the dev and test sets of the others. The lexicon is the one that comes with them. Test sets of IWSLT
may stand beside ``test/`` in the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lhuc_asr.data.corpora.from_lhotse import found_by_lhotse, inspected, need_folders
from lhuc_asr.data.corpora.preparation import (
    Prepared,
    PrepareOptions,
    check_config,
    need_root,
    read_lexicon_lines,
    write_sets,
)
from lhuc_asr.data.validation import check
from lhuc_asr.errors import DataError

SETS, FURTHER = ("train", "dev", "test"), ("tst2011", "tst2013")
"""What every release has, and what users may have put beside it."""

_VARIANT = re.compile(r"\(\d+\)$")


def prepare(root: Path | None, out: Path, options: PrepareOptions | None = None) -> Prepared:
    """Write ``out/{train,dev,test}``, sets of IWSLT that are there, and ``out/lexicon.txt``; speakers are talks.

    Raises:
        DataError: the corpus is not there, has no lexicon, or something is wrong in it.
    """
    from lhotse.recipes.tedlium2 import prepare_tedlium2

    options = options or PrepareOptions()
    root = need_root(root, out, "tedlium")
    speech = root / "legacy" if (root / "legacy").is_dir() else root
    names = [*SETS, *(name for name in FURTHER if (speech / name).exists())]
    need_folders(speech, "TED-LIUM", *(f"{name}/{kind}" for name in names for kind in ("sph", "stm")))
    sets = found_by_lhotse(
        lambda: prepare_tedlium2(speech, dataset_parts=names, normalize_text="kaldi"), root, "TED-LIUM"
    )
    lexicon = list(dict.fromkeys(_plain(_dictionary(root, options.lexicon), options)))
    config = check_config(out, options, lexicon)
    checked = {
        name: check(
            inspected(sets[name], speech, allow_commands=options.allow_commands, clean=options.normalise), config
        )
        for name in names
    }
    return write_sets(checked, out, options, lexicon=lexicon)


def _dictionary(root: Path, given: Path | None) -> list[str]:
    found = [given] if given else sorted(root.glob("*.dic"))
    if not found:
        raise DataError(f"{str(root)!r} has no '*.dic' with pronunciations; --lexicon FILE gives another")
    return read_lexicon_lines(found[0])


def _plain(lines: Iterable[str], options: PrepareOptions) -> Iterable[str]:
    """Lexicon lines without the numbers of variants, ``word(2)``, written as the words of transcripts are."""
    for line in lines:
        word, phones = line.split(maxsplit=1)
        written = options.normalise(_VARIANT.sub("", word))
        if written and " " not in written:
            yield f"{written} {phones}"
