"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, num_left: int = 1) -> str:
    """Columns set right, the first ones left; a line under the titles.

    Args:
        rows: the titles, then a row for each line; all of one length.
        num_left: columns that are set left.

    Example:
        >>> print(table([["system", "WER"], ["SI", "9.70"]]))
        system   WER
        ------------
        SI      9.70
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:num_left], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[num_left:], widths[num_left:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
