"""What lhuc-score shows: tables on the screen, results.json, alignments, files for sclite, and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lhuc_asr.cli._score_results import Results
from lhuc_asr.cli._scored_texts import References, System

Scales = dict[str, dict[str, Any]]
"""Speaker -> site -> amplitudes."""


def print_results(results: Results) -> None:
    """Tables of speakers and groups, and what lies between the systems."""
    from lhuc_asr.scoring.groups import group_table
    from lhuc_asr.scoring.report import comparison_text, speaker_change_table, speaker_table

    if results.groups:
        print(f"{group_table(results.groups, next(iter(results.scores.values())).unit)}\n")
    if not results.comparisons:
        (result,) = results.scores.values()
        print(f"{speaker_table(result)}\n\n{result}")
    for (first, second), comparison in results.comparisons.items():
        print(f"{speaker_change_table(comparison, first, second)}")
        print(f"speakers, each counting alike: {comparison.speaker_changes}\n")
        print(f"{comparison_text(comparison, first, second)}\n")
    for name, worth in results.confidences.items():
        print(f"confidences of {name}: {worth}")
    if results.verdicts is not None:
        print(f"{results.verdicts}\n")


def write_texts(out: Path, references: References, systems: Mapping[str, System]) -> None:
    """trn files of all, ctm files of the systems whose words have times, and one stm."""
    from lhuc_asr.files import escape_id
    from lhuc_asr.scoring.sclite import write_ctm, write_stm, write_trn

    write_trn(out / "ref.trn", references.texts, references.speaker_of)
    durations: dict[str, float] = {}
    for name, system in systems.items():
        write_trn(out / f"{escape_id(name)}.trn", system.texts, references.speaker_of)
        if system.hypotheses:
            words = {utterance: hypothesis.words for utterance, hypothesis in system.hypotheses.items()}
            write_ctm(out / f"{escape_id(name)}.ctm", words)
            for utterance, hypothesis in system.hypotheses.items():
                durations[utterance] = hypothesis.duration
    if durations:
        write_stm(out / "ref.stm", references.texts, references.speaker_of, durations)


def write_results(args: argparse.Namespace, results: Results) -> None:
    """results.json, and every utterance word by word where that is asked for."""
    from lhuc_asr.files import escape_id, write_json, write_text
    from lhuc_asr.scoring.report import as_json, counts_json
    from lhuc_asr.scoring.wer import alignments_text

    page = as_json(results.scores, results.comparisons, results.confidences)
    for name, found in results.groups.items():
        page["systems"][name]["groups"] = {group: counts_json(counts) for group, counts in found.items()}
    if results.verdicts is not None:
        page["verdicts"] = results.verdicts.as_json()
    write_json(args.out / "results.json", page)
    if args.alignments:
        for name, result in results.scores.items():
            write_text(args.out / f"{escape_id(name)}.alignments.txt", alignments_text(result))


def draw(args: argparse.Namespace, results: Results, scales: Scales | None = None) -> None:
    """The curve, where one is asked for, or a picture of every pair, and of what scaled the units of its speakers."""
    from lhuc_asr.scoring.curve import draw_curve

    if results.curve is None:
        _draw_pairs(args, results, scales)
        return
    path = args.out / "curve.png"
    draw_curve(path, results.curve, args.curve)
    print(f"picture {path}")


def _draw_pairs(args: argparse.Namespace, results: Results, scales: Scales | None) -> None:
    from lhuc_asr.files import escape_id
    from lhuc_asr.scoring.picture import draw_results

    for (first, second), comparison in results.comparisons.items():
        path = args.out / f"{escape_id(first)}-{escape_id(second)}.png"
        draw_results(path, comparison, names=(first, second), scales=scales)
        print(f"picture {path}")


def read_scales(directory: Path, results: Results) -> Scales:
    """Speaker -> site -> amplitudes, of the scored speakers who have a profile in a directory.

    Others may have one there, too, such as speakers who failed and kept what an earlier run had learnt.
    """
    from lhuc_asr.errors import ProfileError
    from lhuc_asr.profiles.format import load_profile, profile_path

    scored = next(iter(results.scores.values())).speakers
    pages = {speaker: profile_path(directory, speaker) for speaker in scored}
    profiles = {speaker: load_profile(page, fingerprint=None) for speaker, page in pages.items() if page.exists()}
    if not profiles:
        raise ProfileError(
            f"no profiles of the scored speakers in {str(directory)!r}; lhuc-adapt writes them to OUT/profiles"
        )
    return {
        speaker: {site: scale.flatten().numpy() for site, scale in profile.adapter().scales().items()}
        for speaker, profile in profiles.items()
    }
