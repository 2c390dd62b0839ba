"""lhuc-bench: what adapters cost on this machine, how fast adaptation is; stores of profiles; training; tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from lhuc_asr.cli._common import OK, UsageError, command_parser, main_guard, parse_arguments
from lhuc_asr.cli._flags import add_out, positive
from lhuc_asr.cli._verbs import run_verb

_KINDS = ("folder", "sqlite")
_NETS = ("dnn_4x512", "dnn_6x2048", "conformer")
_TRAINED = ("dnn", "tdnn", "tdnnf")


def build_parser() -> argparse.ArgumentParser:
    """The command line up to the word that says what is measured."""
    parser = command_parser(
        "bench",
        "Measure. `lhuc-bench adapter`: the cost of adapters and banks of speakers in recognition, and the speed of "
        "adaptation, beside PEFT and beside the bare matrix products. `lhuc-bench store`: stores of very many "
        "profiles. `lhuc-bench training`: the training loop beside the barest one. `lhuc-bench tables`: the memory of "
        "embedding tables. `lhuc-bench adapter --help` and so on tell more.",
    )
    parser.add_argument("what", choices=sorted(_BENCHMARKS), help="what is measured")
    return parser


def adapter_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-bench adapter``."""
    parser = command_parser(
        "bench adapter",
        "Time a bare net against the same net with an adapter, folded, and with banks of 1 to 1000 speakers; and time "
        "the adaptation to several speakers by our updates and by PEFT (IA)^3. Variants take turns in every round, so "
        "that a busy machine hits all of them; it should be idle all the same.",
    )
    add_out(parser, "where adapter.json and adapter.png go")
    parser.add_argument("--models", metavar="NET", nargs="+", default=list(_NETS), choices=_NETS, help=", ".join(_NETS))
    parser.add_argument(
        "--threads", metavar="N", nargs="+", type=positive, help="numbers of threads; default: 1, and all cores"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the nets run; default: cpu")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=positive,
        default=15,
        help="time for each of the two tables of a net and number of threads, at least 5 rounds; default: 15",
    )
    parser.add_argument(
        "--bank", metavar="N", type=positive, default=1000, help="speakers of the great bank; default: 1000"
    )
    parser.add_argument(
        "--frames",
        metavar="N",
        type=positive,
        default=0,
        help="frames of each of the 64 utterances of a batch in recognition; default: 10 (DNN), 32 (Conformer)",
    )
    _add_quick(parser)
    return parser


def store_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-bench store``."""
    parser = command_parser(
        "bench store",
        "Fill a new store with as many profiles, then open it, list all speakers, get profiles at random, delete a "
        "few, and remove the store.",
    )
    add_out(parser, "where store.json goes, and on which disk stores lie")
    parser.add_argument(
        "--kinds", metavar="KIND", nargs="+", default=list(_KINDS), choices=_KINDS, help=", ".join(_KINDS)
    )
    parser.add_argument("--profiles", metavar="N", type=positive, default=100_000, help="default: 100000")
    parser.add_argument("--gets", metavar="N", type=positive, default=5000, help="default: 5000")
    return parser


def training_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-bench training``."""
    parser = command_parser(
        "bench training",
        "Train networks on random numbers for one epoch, with our loop and with the barest loop on the same "
        "minibatches; the two take turns.",
    )
    add_out(parser, "where training.json goes")
    parser.add_argument(
        "--models", metavar="NET", nargs="+", default=list(_TRAINED), choices=_TRAINED, help=", ".join(_TRAINED)
    )
    parser.add_argument("--threads", metavar="N", type=positive, default=1, help="threads; default: 1")
    parser.add_argument(
        "--seconds", metavar="S", type=positive, default=60, help="time for each net, at least 5 rounds; default: 60"
    )
    parser.add_argument(
        "--minibatches", metavar="N", type=positive, default=100, help="of the epoch, about; default: 100"
    )
    _add_quick(parser)
    return parser


def tables_parser() -> argparse.ArgumentParser:
    """The command line of ``lhuc-bench tables``."""
    parser = command_parser(
        "bench tables",
        "Train an embedding table for three steps in fresh processes, alone and divided among them, and tell what "
        "memory a million ids take, and a trillion parameters would.",
    )
    add_out(parser, "where tables.json goes")
    parser.add_argument("--ids", metavar="N", type=positive, default=4_000_000, help="default: 4000000")
    parser.add_argument("--dim", metavar="N", type=positive, default=16, help="numbers of each id; default: 16")
    parser.add_argument(
        "--processes", metavar="N", nargs="+", type=positive, default=[1, 2], help="numbers of processes; default: 1 2"
    )
    return parser


def _add_quick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="tiny nets, two rounds: only to see that it runs")


@main_guard
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_verb(argv, _BENCHMARKS, build_parser(), says="measured")


def _adapter(argv: Sequence[str]) -> int:
    """Lhuc-bench adapter."""
    args = parse_arguments(adapter_parser(), argv)
    from lhuc_asr.parallel import num_cores

    threads = args.threads or sorted({1, num_cores()})
    if max(threads) > num_cores():
        raise UsageError(f"--threads {max(threads)}: this process may use {num_cores()} cores")
    from lhuc_asr.bench.machine import usable_device
    from lhuc_asr.bench.picture import draw_benchmark
    from lhuc_asr.bench.report import report_text, write_report
    from lhuc_asr.bench.session import Task, measure_all, tasks
    from lhuc_asr.config.provenance import commit

    usable_device(args.device)
    common = Task(
        net="",
        device=args.device,
        seconds=args.seconds,
        num_known=args.bank,
        num_frames=args.frames,
        quick=args.quick,
    )
    measured = []
    for one in measure_all(tasks(args.models, threads, common)):
        print(report_text(one), flush=True)
        measured.append(one)
        write_report(args.out / "adapter.json", measured, commit=commit(), command=["lhuc-bench", "adapter", *argv])
        draw_benchmark(args.out / "adapter.png", measured)
    print(f"figures {args.out / 'adapter.json'}\npicture {args.out / 'adapter.png'}")
    return OK


def _store(argv: Sequence[str]) -> int:
    """Lhuc-bench store."""
    args = parse_arguments(store_parser(), argv)
    from lhuc_asr.bench.store import measure_stores, store_text, write_store_report

    measured = dict(measure_stores(args.out, args.kinds, num_profiles=args.profiles, num_gets=args.gets))
    print(store_text(measured))
    write_store_report(
        args.out / "store.json",
        measured,
        **_origin("store", argv),
    )
    print(f"figures {args.out / 'store.json'}")
    return OK


def _training(argv: Sequence[str]) -> int:
    """Lhuc-bench training."""
    args = parse_arguments(training_parser(), argv)
    from lhuc_asr.parallel import set_num_threads

    set_num_threads(args.threads)
    from lhuc_asr.bench.timing import Rounds
    from lhuc_asr.bench.training import NETWORKS, loop_text, measure_loop, write_loop_report

    rounds = Rounds(seconds=0.0, fewest=2) if args.quick else Rounds(seconds=args.seconds)
    measured = []
    for name in args.models:
        work = NETWORKS[name](num_batches=args.minibatches, quick=args.quick)
        measured.append(measure_loop(work, rounds))
        write_loop_report(
            args.out / "training.json",
            measured,
            **_origin("training", argv),
            num_threads=args.threads,
        )
    print(loop_text(measured) + "\n(QUICK: tiny nets, the figures mean nothing)" * args.quick)
    print(f"figures {args.out / 'training.json'}")
    return OK


def _tables(argv: Sequence[str]) -> int:
    """Lhuc-bench tables."""
    args = parse_arguments(tables_parser(), argv)
    from lhuc_asr.bench.tables import Tables, machine_memory_gib, measure_tables, tables_text, write_tables_report

    asked = [Tables(args.ids, args.dim, num_processes) for num_processes in args.processes]
    measured = {of: measure_tables(of) for of in asked}
    print(tables_text(measured, machine_gib=machine_memory_gib()))
    write_tables_report(
        args.out / "tables.json",
        measured,
        **_origin("tables", argv),
    )
    print(f"figures {args.out / 'tables.json'}")
    return OK


def _origin(verb: str, argv: Sequence[str]) -> dict[str, Any]:
    """Where the figures come from: machine, commit and command."""
    from dataclasses import asdict

    import torch

    from lhuc_asr.bench.machine import describe_machine
    from lhuc_asr.config.provenance import commit

    machine = asdict(describe_machine(torch.device("cpu")))
    return {"machine": machine, "commit": commit(), "command": ["lhuc-bench", verb, *argv]}


_BENCHMARKS: dict[str, Callable[[Sequence[str]], int]] = {
    "adapter": _adapter,
    "store": _store,
    "training": _training,
    "tables": _tables,
}
