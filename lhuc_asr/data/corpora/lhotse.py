"""Any corpus for which lhotse has manifests: checked and written as a Kaldi directory."""

from __future__ import annotations

from pathlib import Path

from lhuc_asr.data.corpora.preparation import (
    Prepared,
    PrepareOptions,
    check_config,
    need_root,
    read_lexicon_lines,
    write_sets,
)
from lhuc_asr.data.lhotse_manifests import find_manifests, inspect_lhotse
from lhuc_asr.data.validation import check


def prepare(root: Path | None, out: Path, options: PrepareOptions | None = None) -> Prepared:
    """Import lhotse manifests.

    Args:
        root: a file of cuts, which becomes ``out/<its name>``; or a directory with cuts, or with recordings and
            supervisions, each pair of which becomes one set, as in ``libri_recordings_train.jsonl.gz``.
        out: where to write.
        options: how; its lexicon is copied and the words are checked against it.

    Raises:
        DataError: there are no manifests, or something is wrong in them.
    """
    options = options or PrepareOptions()
    root = need_root(root, out, "lhotse")
    lexicon = None if options.lexicon is None else read_lexicon_lines(options.lexicon)
    sets = {}
    for source in find_manifests(root):
        inspected = inspect_lhotse(source, allow_commands=options.allow_commands)
        sets[source.name] = check(inspected, check_config(out, options, lexicon))
    return write_sets(sets, out, options, lexicon=lexicon)
