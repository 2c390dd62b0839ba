"""Any Kaldi data directory, or a folder of them: checked, mended on request, written with absolute paths."""

from __future__ import annotations

from pathlib import Path

from lhuc_asr.data.corpora.preparation import (
    Prepared,
    PrepareOptions,
    check_config,
    copy_speaker_table,
    need_root,
    read_lexicon_lines,
    write_sets,
)
from lhuc_asr.data.validation import check
from lhuc_asr.errors import DataError


def prepare(root: Path | None, out: Path, options: PrepareOptions | None = None) -> Prepared:
    """Copy Kaldi directories.

    Args:
        root: a Kaldi directory, which becomes ``out/<its name>``, or a folder of them, each of which becomes one set.
        out: where to write.
        options: how; its lexicon, or ``root/lexicon.txt``, is copied and the words are checked against it.

    Raises:
        DataError: there is no such directory, or something is wrong in it.
    """
    options = options or PrepareOptions()
    root = need_root(root, out, "kaldi")
    directories = find_sets(root)
    path = options.lexicon or (root / "lexicon.txt" if (root / "lexicon.txt").is_file() else None)
    lexicon = None if path is None else read_lexicon_lines(path)
    config = check_config(out, options, lexicon)
    checked = {directory.name: check(directory, config) for directory in directories}
    prepared = write_sets(checked, out, options, lexicon=lexicon)
    for directory, written in zip(directories, prepared.sets, strict=True):
        copy_speaker_table(directory / "spk2age", written.directory / "spk2age", written.manifest.speakers)
    return prepared


def find_sets(root: Path) -> list[Path]:
    """The Kaldi directories at a place: it itself, or those right inside it.

    Raises:
        DataError: there is none.
    """
    if (root / "wav.scp").is_file():
        return [root]
    found = sorted(path.parent for path in root.glob("*/wav.scp"))
    if not found:
        raise DataError(f"no Kaldi directory at {str(root)!r}: neither it nor a folder in it holds a wav.scp")
    return found
