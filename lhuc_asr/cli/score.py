"""lhuc-score: error rates of a system, or what lies between several; significance, files for sclite, a picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._combining import add_combining, combined
from lhuc_asr.cli._common import OK, UsageError, command_parser, main_guard, parse_arguments

if TYPE_CHECKING:
    from lhuc_asr.decoding.hypothesis import Hypothesis, Word
    from lhuc_asr.scoring.comparison import Comparison
    from lhuc_asr.scoring.confidence import ConfidenceScore
    from lhuc_asr.scoring.curve import Curve
    from lhuc_asr.scoring.edit import ErrorCounts
    from lhuc_asr.scoring.verdicts import VerdictScore
    from lhuc_asr.scoring.wer import Score


@dataclass(frozen=True)
class References:
    """What was said, and by whom."""

    texts: dict[str, str]
    speaker_of: dict[str, str]


@dataclass(frozen=True)
class System:
    """What one system recognised; the hypotheses are empty when only a text was given."""

    texts: dict[str, str]
    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "score",
        "Count errors, per speaker and in all; with two systems or more, compare each with the first: matched-pairs "
        "test (MAPSSWE), bootstrap over speakers, speakers better and worse, and a picture. Where words have "
        "confidences, tell what these are worth: normalised cross-entropy, area under the error-detection curve.",
    )
    parser.add_argument(
        "--ref", metavar="DIR_OR_TEXT", type=Path, required=True, help="data directory, or a file: UTTERANCE WORDS"
    )
    parser.add_argument(
        "--hyp",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="a system, and its directory of hypotheses or file of lines: UTTERANCE WORDS; repeatable",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="where results.json, pictures and the files for sclite (trn, ctm, stm) go",
    )
    parser.add_argument(
        "--utt2spk",
        metavar="FILE",
        type=Path,
        help="lines: UTTERANCE SPEAKER; where --ref is a text and no file utt2spk lies beside it",
    )
    parser.add_argument(
        "--groups",
        metavar="FILE",
        type=Path,
        help="lines: SPEAKER GROUP; tells the errors of every group as well, such as children and adults",
    )
    parser.add_argument(
        "--profiles", metavar="DIR", type=Path, help="profiles whose scales the picture of two systems shall show"
    )
    parser.add_argument(
        "--verdicts",
        metavar="DIR",
        type=Path,
        help="--out of lhuc-adapt with a guard; tells how often it was right. The systems are then the first pass, "
        "adaptation without the guard and, where there is a third, with it",
    )
    parser.add_argument(
        "--compare",
        metavar="DIR",
        type=Path,
        nargs="+",
        help="instead of --hyp: runs of lhuc-adapt from the same first pass, named ARM or ARM@AMOUNT; a table with "
        "p-values adjusted by Holm's method, and pictures by seconds of speech and by speaker",
    )
    parser.add_argument(
        "--curve",
        metavar="LABEL",
        help="draw the error rates of systems named LINE@NUMBER against the number, which this label explains, and "
        "those of all others as levels, in place of the pictures of pairs",
    )
    add_combining(parser)
    parser.add_argument("--alignments", action="store_true", help="write every utterance word by word")
    parser.add_argument("--cer", action="store_true", help="count characters instead of words")
    parser.add_argument("--normalise", action="store_true", help="upper-case both sides and drop punctuation")
    parser.add_argument("--common", action="store_true", help="score only utterances that the reference and all have")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse_arguments(build_parser(), argv)
    if args.compare:
        return _compare(args)
    paths = _named_paths(args.hyp)
    if args.verdicts and len(paths) not in (2, 3):
        raise UsageError("--verdicts needs --hyp of the first pass, of adaptation without a guard, and perhaps with it")
    references = _read_references(args.ref, args.utt2spk)
    systems = {name: _read_system(name, path) for name, path in paths.items()}
    if args.normalise:
        references, systems = _normalised(references, systems)
    if args.nothing is not None and not args.combine:
        raise UsageError("--nothing is for --combine: give that as well")
    if args.combine:
        systems = _with_combined(args, systems)
    if args.common:
        references, systems = _common(references, systems)
    scores = _scores(references, systems, characters=args.cer)
    comparisons = _comparisons(scores)
    confidences = _confidences(references, systems)
    groups = _groups(args.groups, scores) if args.groups else {}
    curve = _curve(scores) if args.curve else None
    _print(scores, comparisons, confidences)
    verdicts = _verdicts(args.verdicts, scores) if args.verdicts else None
    _write_texts(args.out, references, systems)
    _write_reports(args, scores, comparisons, confidences, groups, verdicts)
    if curve is not None:
        _draw_curve(args.out / "curve.png", curve, args.curve)
    elif comparisons:
        _draw_pairs(args, comparisons)
    return OK


def _compare(args: argparse.Namespace) -> int:
    """Runs of lhuc-adapt side by side."""
    from lhuc_asr.cli._comparing import compare_runs

    given = (
        "hyp",
        "groups",
        "profiles",
        "verdicts",
        "curve",
        "combine",
        "nothing",
        "alignments",
        "cer",
        "normalise",
        "common",
    )
    if foreign := [name for name in given if getattr(args, name)]:
        raise UsageError(f"--compare takes --ref, --utt2spk and --out, but not --{foreign[0]}")
    references = _read_references(args.ref, args.utt2spk)
    compare_runs(args.compare, references.texts, references.speaker_of, args.out)
    return OK


def _named_paths(arguments: Sequence[str]) -> dict[str, Path]:
    """NAME=PATH arguments as a mapping."""
    if not arguments:
        raise UsageError("nothing to score: give --hyp NAME=PATH, or --compare DIR ...")
    paths: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not name or not equals or not path:
            raise UsageError(f"--hyp {argument!r}: write NAME=PATH, for example --hyp SI=exp/si/decode")
        if name in paths or name == "ref":
            raise UsageError(f"--hyp {argument!r}: the name {name!r} is taken")
        paths[name] = Path(path)
    return paths


def _read_references(path: Path, utt2spk: Path | None) -> References:
    from lhuc_asr.data.kaldi_tables import read_rows
    from lhuc_asr.data.load import load_manifest
    from lhuc_asr.errors import DataError

    text = path / "text" if path.is_dir() else path
    beside = utt2spk or text.parent / "utt2spk"
    if text.is_file() and not text.name.endswith((".jsonl", ".gz")):  # a scored directory needs no audio
        if not beside.is_file():
            raise DataError(
                f"the speakers of {str(text)!r} are not known: {str(beside)!r} does not exist; give --utt2spk"
            )
        return References(_read_texts(text), {row.id: row.value for row in read_rows(beside)})
    manifest = load_manifest(path, allow_commands=True)
    return References(manifest.transcripts, manifest.speaker_of)


def _read_system(name: str, path: Path) -> System:
    from lhuc_asr.decoding.hypothesis import read_hypotheses
    from lhuc_asr.errors import DataError

    if path.is_file():
        return System(_read_texts(path))
    if (path / "hypotheses.jsonl").is_file():
        hypotheses = read_hypotheses(path)
        return System({utterance: hypothesis.text for utterance, hypothesis in hypotheses.items()}, hypotheses)
    if (path / "text").is_file():
        return System(_read_texts(path / "text"))
    raise DataError(
        f"no hypotheses of {name!r} at {str(path)!r}: neither a text nor a directory that lhuc-decode wrote"
    )


def _read_texts(path: Path) -> dict[str, str]:
    from lhuc_asr.data.kaldi_tables import read_rows
    from lhuc_asr.errors import DataError

    texts: dict[str, str] = {}
    for row in read_rows(path):
        if row.id in texts:
            raise DataError(f"{str(path)!r}, line {row.line}: utterance {row.id!r} stands there twice")
        texts[row.id] = row.value
    return texts


def _normalised(references: References, systems: Mapping[str, System]) -> tuple[References, dict[str, System]]:
    from lhuc_asr.lang.text import normalise

    def all_of(texts: Mapping[str, str]) -> dict[str, str]:
        return {utterance: normalise(text) for utterance, text in texts.items()}

    normalised = {
        name: System(
            all_of(system.texts), {utterance: _normalised_words(each) for utterance, each in system.hypotheses.items()}
        )
        for name, system in systems.items()
    }
    return References(all_of(references.texts), references.speaker_of), normalised


def _normalised_words(hypothesis: Hypothesis) -> Hypothesis:
    """The same hypothesis with words as they are compared; one that falls into several keeps its times in all."""
    from lhuc_asr.lang.text import normalise

    words: list[Word] = []
    for word in hypothesis.words:
        words += (replace(word, text=part) for part in normalise(word.text).split())
    return replace(hypothesis, words=tuple(words))


def _common(references: References, systems: Mapping[str, System]) -> tuple[References, dict[str, System]]:
    """Only what everybody has; says how much that leaves out."""
    shared = set(references.texts).intersection(*(system.texts for system in systems.values()))
    everything = set(references.texts).union(*(system.texts for system in systems.values()))
    print(f"scoring {len(shared)} utterances; {len(everything - shared)} are not in the reference and all systems")

    def part(values: Mapping[str, Any]) -> dict[str, Any]:
        return {utterance: value for utterance, value in values.items() if utterance in shared}

    parts = {name: System(part(system.texts), part(system.hypotheses)) for name, system in systems.items()}
    return References(part(references.texts), references.speaker_of), parts


def _scores(references: References, systems: Mapping[str, System], *, characters: bool) -> dict[str, Score]:
    from lhuc_asr.errors import DataError
    from lhuc_asr.scoring.wer import Unit, score

    unit = Unit.character if characters else Unit.word
    scores = {}
    for name, system in systems.items():
        try:
            scores[name] = score(references.texts, system.texts, references.speaker_of, unit=unit)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    return scores


def _comparisons(scores: Mapping[str, Score]) -> dict[tuple[str, str], Comparison]:
    """Every system against the first."""
    from lhuc_asr.scoring.comparison import compare

    first, *others = scores
    return {(first, other): compare(scores[first], scores[other]) for other in others}


def _confidences(references: References, systems: Mapping[str, System]) -> dict[str, ConfidenceScore]:
    """What confidences are worth, for the systems that have them."""
    from lhuc_asr.scoring.confidence import score_confidences

    found = {}
    for name, system in systems.items():
        words = {utterance: hypothesis.words for utterance, hypothesis in system.hypotheses.items()}
        if (worth := score_confidences(references.texts, words)) is not None:
            found[name] = worth
    return found


def _groups(path: Path, scores: Mapping[str, Score]) -> dict[str, dict[str, ErrorCounts]]:
    """System -> group -> errors; also shown as a table."""
    from lhuc_asr.scoring.groups import group_errors, group_table

    group_of = _read_texts(path)
    errors = {name: group_errors(score, group_of) for name, score in scores.items()}
    print(f"{group_table(scores, group_of)}\n")
    return errors


def _with_combined(args: argparse.Namespace, systems: Mapping[str, System]) -> dict[str, System]:
    """One more system: what all of them say together."""
    texts = {name: system.texts for name, system in systems.items()}
    together = combined(args, texts, {name: system.hypotheses for name, system in systems.items()})
    return {**systems, args.combine: System(together)}


def _verdicts(directory: Path, scores: Mapping[str, Score]) -> VerdictScore:
    """How often a guard was right; also shown."""
    from lhuc_asr.scoring.verdicts import read_verdicts, score_verdicts

    found = score_verdicts(read_verdicts(directory), *scores.values())
    print(f"{found}\n")
    return found


def _curve(scores: Mapping[str, Score]) -> Curve:
    from lhuc_asr.scoring.curve import curve_of

    return curve_of(scores)


def _draw_curve(path: Path, curve: Curve, label: str) -> None:
    from lhuc_asr.scoring.curve import draw_curve

    draw_curve(path, curve, label)
    print(f"picture {path}")


def _print(
    scores: Mapping[str, Score],
    comparisons: Mapping[tuple[str, str], Comparison],
    confidences: Mapping[str, ConfidenceScore],
) -> None:
    from lhuc_asr.scoring.report import comparison_text, speaker_change_table, speaker_table

    if not comparisons:
        (result,) = scores.values()
        print(f"{speaker_table(result)}\n\n{result}")
    for (first, second), comparison in comparisons.items():
        print(f"{speaker_change_table(comparison, first, second)}\n")
        print(f"{comparison_text(comparison, first, second)}\n")
    for name, worth in confidences.items():
        print(f"confidences of {name}: {worth}")


def _write_texts(out: Path, references: References, systems: Mapping[str, System]) -> None:
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


def _write_reports(
    args: argparse.Namespace,
    scores: Mapping[str, Score],
    comparisons: Mapping[tuple[str, str], Comparison],
    confidences: Mapping[str, ConfidenceScore],
    groups: Mapping[str, Mapping[str, ErrorCounts]],
    verdicts: VerdictScore | None,
) -> None:
    from lhuc_asr.files import escape_id, write_json, write_text
    from lhuc_asr.scoring.report import as_json, counts_json
    from lhuc_asr.scoring.wer import alignments_text

    page = as_json(scores, comparisons, confidences)
    for name, found in groups.items():
        page["systems"][name]["groups"] = {group: counts_json(counts) for group, counts in found.items()}
    if verdicts is not None:
        page["verdicts"] = verdicts.as_json()
    write_json(args.out / "results.json", page)
    if args.alignments:
        for name, result in scores.items():
            write_text(args.out / f"{escape_id(name)}.alignments.txt", alignments_text(result))


def _draw_pairs(args: argparse.Namespace, comparisons: Mapping[tuple[str, str], Comparison]) -> None:
    from lhuc_asr.files import escape_id
    from lhuc_asr.scoring.picture import draw_results

    scales = _scales(args.profiles) if args.profiles else None
    for (first, second), comparison in comparisons.items():
        path = args.out / f"{escape_id(first)}-{escape_id(second)}.png"
        draw_results(path, comparison, names=(first, second), scales=scales)
        print(f"picture {path}")


def _scales(directory: Path) -> dict[str, dict[str, Any]]:
    """Speaker -> site -> amplitudes, of all profiles in a directory."""
    from lhuc_asr.errors import ProfileError
    from lhuc_asr.profiles.format import load_profile

    scales = {}
    for page in sorted(directory.glob("*.json")):
        profile = load_profile(page, fingerprint=None)
        scales[profile.speaker] = {site: scale.flatten().numpy() for site, scale in profile.adapter().scales().items()}
    if not scales:
        raise ProfileError(f"no profiles in {str(directory)!r}")
    return scales
