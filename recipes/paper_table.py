"""A table of what was measured beside what the paper says: one row for each row of the paper's."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

COLUMNS = ("system", "results", "which", "set", "table", "published")
"""``results``: the folder of an adaptation or of scores; ``which``: si, adapted, or the name of a system in the scores;
``set``: as the paper calls it, then ours (``total=one+another``: both together), and where there are groups of speakers
theirs, as in ``B=test:noise``."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a ``paper.tsv``."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows or set(rows[0]) != set(COLUMNS):
        sys.exit(f"{path}: the columns must be {', '.join(COLUMNS)}")
    return rows


def measured(exp: Path, row: dict[str, str]) -> float | None:
    """The word error rate of a row in percent, or None where nothing was measured yet."""
    ours, _, group = row["set"].split("=")[-1].partition(":")
    counts = [counted(exp / row["results"] / name / "results.json", row["which"], group) for name in ours.split("+")]
    found = [count for count in counts if count is not None]
    if len(found) < len(counts):
        return None
    return 100 * sum(errors for errors, _ in found) / sum(num_words for _, num_words in found)


def counted(path: Path, which: str, group: str) -> tuple[int, int] | None:
    """Errors and words of one set, of one group of its speakers where that is named."""
    if not path.is_file():
        return None
    systems = json.loads(path.read_text(encoding="utf-8"))["systems"]
    place = {"si": 0, "adapted": 1}.get(which)
    system = systems[which] if place is None else list(systems.values())[place]
    counts = system["groups"][group] if group else system["total"]
    return counts["errors"], counts["num_words"]


def table(rows: list[dict[str, str]], exp: Path) -> str:
    """Markdown."""
    lines = ["| system | set | paper | | here |", "|---|---|---|---|---|"]
    for row in rows:
        found = measured(exp, row)
        here = "not run" if found is None else f"{found:.2f}"
        named = row["set"].translate(str.maketrans({"=": " = ", "+": " + ", ":": ", "}))
        cells = (row["system"], named, row["published"], row["table"], here)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paper", type=Path, required=True, help="the paper's figures")
    parser.add_argument("--exp", type=Path, required=True, help="what the recipe measured")
    arguments = parser.parse_args()
    print(table(read_rows(arguments.paper), arguments.exp))  # noqa: T201


if __name__ == "__main__":
    main()
