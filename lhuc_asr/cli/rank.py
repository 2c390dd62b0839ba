"""``lhuc-rank``: click logs, ranking models with gates of who and what is shown, and how well they rank."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhuc_asr.cli._common import (
    OK,
    UsageError,
    add_overrides,
    command_parser,
    main_guard,
    parse_arguments,
    start_run,
)
from lhuc_asr.cli._flags import add_data, add_out, positive
from lhuc_asr.cli._verbs import run_verb

if TYPE_CHECKING:
    from lhuc_asr.config.schema import Config
    from lhuc_asr.ranking.data.timed import TimedLog
    from lhuc_asr.ranking.judging import System
    from lhuc_asr.ranking.runs import FinishedRun

LAYOUTS = ("synthetic", "movielens", "kuairand")
PARTS = ("train", "dev", "test")
VERBS = ("prepare", "train", "evaluate")

_LAYOUTS_HELP = """\
layouts:
  synthetic  made up, with known tastes and chances; needs no --root (settings: click_log.*)
  movielens  ratings.dat, movies.dat and users.dat, or ratings.csv and movies.csv: https://grouplens.org/datasets/movielens
  kuairand   log_standard_*.csv, user_features_*.csv and video_features_basic_*.csv: https://kuairand.com
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line up to the verb."""
    parser = command_parser(
        "rank",
        "Rank items for users. `lhuc-rank prepare`: a click log in parts by time. `lhuc-rank train`: a ranking model, "
        "once for each of several seeds. `lhuc-rank evaluate`: trained systems side by side. `lhuc-rank train --help` "
        "and so on tell more.",
    )
    parser.add_argument("verb", choices=VERBS, help="what is done")
    return parser


def prepare_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-rank prepare``."""
    parser = command_parser("rank prepare", "Read a click log, or make one up, and split it by time.")
    parser.epilog, parser.formatter_class = _LAYOUTS_HELP, argparse.RawDescriptionHelpFormatter
    parser.add_argument("layout", metavar="LAYOUT", choices=LAYOUTS, help=", ".join(LAYOUTS))
    parser.add_argument("--root", metavar="DIR", type=Path, help="where the log lies")
    add_out(parser, "where to write the parts")
    parser.add_argument("--task", metavar="NAME", action="append", help="keep this label only; may be repeated")
    add_overrides(parser, such_as="click_split=by_user or click_log.num_users=500")
    return parser


def train_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-rank train``."""
    parser = command_parser("rank train", "Train a ranking model; what is finished is not trained again.")
    add_data(parser, "from lhuc-rank prepare")
    add_out(parser, "folder of the system")
    parser.add_argument("--seeds", metavar="N", type=positive, default=1, help="runs, from runtime.seed on (1)")
    add_overrides(parser, such_as="ranker=ppnet or ranker_training.lr=0.001")
    return parser


def evaluate_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-rank evaluate``."""
    parser = command_parser(
        "rank evaluate",
        "Judge trained systems on a part of a log: order within users (GAUC) and over all (AUC), probabilities. With "
        "several seeds of a system: mean and 95 % interval.",
    )
    add_data(parser, "from lhuc-rank prepare")
    parser.add_argument("--part", choices=PARTS, default="test", help="which impressions (test)")
    parser.add_argument(
        "--system",
        metavar="NAME=DIR",
        action="append",
        required=True,
        help="from lhuc-rank train; repeatable, the first one is what the others are measured against",
    )
    add_out(parser, "where results.json and pictures go")
    return parser


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    verbs = {"prepare": _prepare, "train": _train, "evaluate": _evaluate}
    return run_verb(argv, verbs, build_parser(), says="done")


def _prepare(argv: Sequence[str]) -> int:
    """Lhuc-rank prepare."""
    args = parse_arguments(prepare_parser(), argv)
    if (args.root is None) != (args.layout == "synthetic"):
        raise UsageError(f"--root is {'needed for' if args.root is None else 'nothing to'} the layout {args.layout!r}")
    from lhuc_asr.config.compose import compose
    from lhuc_asr.config.provenance import write_provenance
    from lhuc_asr.ranking.data.folder import is_written, write_split
    from lhuc_asr.ranking.data.summary import split_text
    from lhuc_asr.ranking.data.timed import split_by_time

    config = compose(args.overrides)
    source = _source(args, config)
    if is_written(args.out, source):
        print(f"{args.out} was prepared before")
        return OK
    timed = _read(args.layout, args.root, config)
    if args.task:
        timed = timed.with_tasks(args.task)
    split = split_by_time(timed, config.click_split)
    write_provenance(args.out, config, args.overrides)
    write_split(args.out, split, source=source)
    print(split_text(split))
    return OK


def _source(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """What a prepared log depends on."""
    from dataclasses import asdict

    made = {**asdict(config.click_log), "seed": config.runtime.seed} if args.layout == "synthetic" else None
    split = {**asdict(config.click_split), "cut": config.click_split.cut.name}
    root = args.root and str(args.root.resolve())
    return {"layout": args.layout, "root": root, "tasks": args.task, "made": made, "split": split}


def _read(layout: str, root: Path, config: Config) -> TimedLog:
    if layout == "synthetic":
        from lhuc_asr.ranking.data.synthetic import synthetic_log

        return synthetic_log(config.click_log, seed=config.runtime.seed)
    if layout == "movielens":
        from lhuc_asr.ranking.data.movielens import read_movielens

        return read_movielens(root)
    from lhuc_asr.ranking.data.kuairand import read_kuairand

    return read_kuairand(root)


def _train(argv: Sequence[str]) -> int:
    """Lhuc-rank train."""
    args = parse_arguments(train_parser(), argv)
    from lhuc_asr.config.provenance import write_provenance
    from lhuc_asr.ranking.data.folder import fingerprint, read_part
    from lhuc_asr.ranking.runs import Lesson, train_seeds
    from lhuc_asr.training.processes.distributed import is_first, joined

    config = start_run(args.overrides)
    lesson = Lesson(
        train=read_part(args.data, "train"),
        dev=read_part(args.data, "dev"),
        ranker=config.ranker,
        training=config.ranker_training,
        data=fingerprint(args.data),
    )
    seeds = range(config.runtime.seed, config.runtime.seed + args.seeds)
    with joined():
        for run in train_seeds(args.out, lesson, seeds, num_jobs=config.runtime.jobs):
            if is_first():
                if run.is_new:
                    write_provenance(args.out, config, args.overrides)
                print(_told(run), flush=True)
    return OK


def _told(run: FinishedRun) -> str:
    """One line of a run."""
    gauc = ", ".join(f"{task} {value:.4f}" for task, value in run.gauc.items())
    took = f"{run.seconds:.0f} s" if run.is_new else "finished before"
    return f"seed {run.seed}: GAUC on dev {gauc}; epoch {run.best_epoch} of {run.num_epochs}; {took}"


def _evaluate(argv: Sequence[str]) -> int:
    """Lhuc-rank evaluate."""
    args = parse_arguments(evaluate_parser(), argv)
    from lhuc_asr.config.provenance import commit
    from lhuc_asr.parallel import set_num_threads
    from lhuc_asr.ranking.comparison import comparison_text, domain_text
    from lhuc_asr.ranking.data.folder import read_part
    from lhuc_asr.ranking.judging import compare_task, domain_gauc, judge_systems, unknown_text, write_results
    from lhuc_asr.ranking.picture import draw_comparison

    set_num_threads(1)
    log = read_part(args.data, args.part)
    judged = judge_systems(_systems(args.system), log)
    comparisons = [compare_task(task, judged, log) for task in log.labels]
    if unknown := unknown_text(judged):
        print(unknown)
    for compared in comparisons:
        print(f"{comparison_text(compared)}\n\n{domain_text(compared.task, domain_gauc(compared.task, judged))}\n")
        picture = args.out / f"gauc-{compared.task}.png"
        draw_comparison(picture, compared, note=f"{args.part}, {len(log)} impressions")
        print(f"picture {picture}\n")
    path = args.out / "results.json"
    write_results(path, comparisons, judged, part=args.part, commit=commit(), command=["lhuc-rank", "evaluate", *argv])
    print(f"figures {path}")
    return OK


def _systems(given: Sequence[str]) -> list[System]:
    from lhuc_asr.config.provenance import read_config
    from lhuc_asr.ranking.judging import System

    found: dict[str, System] = {}
    for one in given:
        name, _, folder = one.partition("=")
        if not (name and folder):
            raise UsageError(f"--system takes NAME=DIR, not {one!r}")
        if name in found:
            raise UsageError(f"two systems are called {name!r}")
        found[name] = System(name, Path(folder), read_config(Path(folder)).ranker)
    return list(found.values())


if __name__ == "__main__":
    raise SystemExit(main())
