"""lhuc-rank in process, on a click log of a thousand lines: what it prints, writes, finishes once and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from helpers.tones import Run, changed_since, flags_of, times_of
from lhuc_asr.cli.rank import build_parser, evaluate_parser, main, prepare_parser, train_parser
from lhuc_asr.tensors import load_tensors

TINY = ["click_log.num_users=12", "click_log.num_items=15", "click_log.num_impressions=900", "click_log.num_authors=3"]
QUICK = ["ranker.hidden_dims=[6,4]", "ranker.embedding_dim=3", "ranker_training.max_epochs=2", "runtime=one_core"]


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems with two seeds each, trained once; the tests must not write into it."""
    base = tmp_path_factory.mktemp("ranked")
    assert main(["prepare", "synthetic", "--out", str(base / "data"), *TINY]) == 0
    for name in ("dnn", "pepnet"):
        assert main(train(base, name)) == 0
    return base


def train(base: Path, name: str, *more: str) -> list[str]:
    where = ["--data", str(base / "data"), "--out", str(base / name), "--seeds", "2"]
    return ["train", *where, f"ranker={name}", *QUICK, *more]


def evaluate(base: Path, out: Path, *more: str) -> list[str]:
    systems = ["--system", f"plain={base / 'dnn'}", "--system", f"gated={base / 'pepnet'}"]
    return ["evaluate", "--data", str(base / "data"), *systems, "--out", str(out), *more]


def test_the_flags_are_these() -> None:
    assert flags_of(build_parser()) == set()
    assert flags_of(prepare_parser()) == {"--root", "--out", "--task"}
    assert flags_of(train_parser()) == {"--data", "--out", "--seeds"}
    assert flags_of(evaluate_parser()) == {"--data", "--part", "--system", "--out"}


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate"])
def test_every_verb_has_help(verb: str, run: Run) -> None:
    code, out, _ = run(main, [verb, "--help"])
    assert code == 0 and "--out" in out


def test_prepare_tells_what_the_parts_hold(tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, ["prepare", "synthetic", "--out", str(tmp_path), "--task", "like", *TINY])
    assert code == 0
    assert "train          720     12" in out and "like %" in out and "click %" not in out
    assert "impressions by domain" in out and "a user has" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.yaml", "provenance.json", "log.json", "train.safetensors", "dev.safetensors", "test.safetensors"),
    }


def test_a_prepared_log_is_not_made_again(ranked: Path, run: Run) -> None:
    before = times_of(ranked)
    code, out, _ = run(main, ["prepare", "synthetic", "--out", str(ranked / "data"), *TINY])
    assert code == 0 and out == f"{ranked / 'data'} was prepared before\n"
    assert changed_since(before, ranked) == set()


def test_prepare_reads_a_public_layout(tmp_path: Path, run: Run) -> None:
    root = tmp_path / "ml"
    root.mkdir()
    lines = "".join(f"{n % 3},{n % 5},{1 + n % 5},{n}\n" for n in range(60))
    (root / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{lines}")
    (root / "movies.csv").write_text("movieId,title,genres\n" + "".join(f"{n},F ({1990 + n}),X\n" for n in range(5)))
    where = ["--root", str(root), "--out", str(tmp_path / "data"), "click_split=by_user"]
    code, out, _ = run(main, ["prepare", "movielens", *where])
    assert code == 0 and "train           48      3" in out
    code, out, _ = run(main, ["train", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "m"), *QUICK])
    assert code == 0 and out.startswith("seed 0: GAUC on dev like ")
    where = ["--data", str(tmp_path / "data"), "--system", f"PPNet={tmp_path / 'm'}", "--out", str(tmp_path / "test")]
    code, out, _ = run(main, ["evaluate", *where])
    assert code == 0 and "true chances" not in out, "nobody knows the optimum of a real log"


def test_training_is_told_once_and_not_done_again(ranked: Path, run: Run) -> None:
    before = times_of(ranked)
    code, out, err = run(main, train(ranked, "dnn"))
    assert code == 0 and out.count("finished before") == 2 and "epoch 1:" not in err
    assert changed_since(before, ranked) == set()


def test_an_interrupted_run_is_made_again_and_equal(ranked: Path, tmp_path: Path, run: Run) -> None:
    import shutil

    base = Path(shutil.copytree(ranked, tmp_path / "copy"))
    weights = base / "dnn" / "seed-1" / "weights.safetensors"
    expected = weights.read_bytes()
    (base / "dnn" / "seed-1" / "run.json").unlink()
    weights.write_bytes(b"half")
    code, out, _ = run(main, train(base, "dnn"))
    assert code == 0 and out.count("finished before") == 1
    assert weights.read_bytes() == expected


def test_other_settings_or_data_are_refused(ranked: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run(main, train(ranked, "dnn", "ranker.embedding_dim=5"))
    assert code == 2 and "was trained with ranker.embedding_dim=3, now asked 5: take another --out" in err
    run(main, ["prepare", "synthetic", "--out", str(tmp_path), *TINY, "runtime.seed=1"])
    command = train(ranked, "dnn")
    command[command.index("--data") + 1] = str(tmp_path)
    code, _, err = run(main, command)
    assert code == 2 and "was trained with data=" in err


def test_evaluate_compares_systems(ranked: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(main, evaluate(ranked, tmp_path))
    assert code == 0
    for words in ("task click", "task like", "plain", "gated", "true chances", "GAUC of click by domain"):
        assert words in out
    results = json.loads((tmp_path / "results.json").read_text())
    click = results["tasks"]["click"]
    assert results["seeds"] == {"plain": [0, 1], "gated": [0, 1]} and results["part"] == "test"
    assert click["systems"]["plain"]["recovered"] == 0
    assert len(click["systems"]["gated"]["gauc"]) == 2
    assert click["optimum"]["gauc"] > click["systems"]["gated"]["mean_gauc"]
    assert (tmp_path / "gauc-click.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_ids_at_serving_time_are_counted(ranked: Path, tmp_path: Path, run: Run) -> None:
    """Another world has other users: most ids of its log are unknown, and still every impression gets a score."""
    other = [one.replace("num_users=12", "num_users=40") for one in TINY]
    run(main, ["prepare", "synthetic", "--out", str(tmp_path / "data"), *other])
    command = evaluate(ranked, tmp_path / "out")
    command[2] = str(tmp_path / "data")
    code, out, _ = run(main, command)
    assert code == 0 and out.count("they take the default row") == out.count("unknown ") > 0
    assert out.count("unknown user_id: ") == 1


def test_a_domain_without_impressions_is_told(ranked: Path, tmp_path: Path, run: Run) -> None:
    import shutil

    from lhuc_asr.ranking.data.folder import read_log, write_log

    data = Path(shutil.copytree(ranked / "data", tmp_path / "data"))
    log = read_log(data / "test.safetensors")
    write_log(data / "test.safetensors", log.rows(log.domain != 1))
    command = evaluate(ranked, tmp_path / "out")
    command[2] = str(data)
    code, out, err = run(main, command)
    assert code == 0 and "trained on but have no impressions here: 1" in err
    line = next(line for line in out.splitlines() if line.startswith("plain") and line.count(".") == 2)
    assert "  -  " in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: verb"),
        (["rate"], "invalid choice: 'rate'"),
        (["prepare", "synthetic", "--root", "x", "--out", "y"], "--root is nothing to the layout 'synthetic'"),
        (["prepare", "kuairand", "--out", "y"], "--root is needed for the layout 'kuairand'"),
        (["prepare", "movielens", "--root", "nowhere", "--out", "y"], "there is no 'nowhere/ratings.csv'"),
        (["train", "--data", "nowhere", "--out", "y"], "'nowhere' is no prepared log"),
        (["train", "--data", "nowhere", "--out", "y", "ranker=gru"], "ranker has no preset 'gru'"),
        (["train", "--data", "nowhere", "--out", "y", "--seeds", "0"], "expected a number from 1, got '0'"),
        (["evaluate", "--data", "{data}", "--out", "y", "--system", "dnn"], "--system takes NAME=DIR, not 'dnn'"),
        (["evaluate", "--data", "{data}", "--out", "y", "--system", "a=nowhere"], "there are no settings"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: Sequence[str], said: str, ranked: Path, run: Run) -> None:
    code, _, err = run(main, [one.format(data=ranked / "data") for one in arguments])
    assert code == 2
    assert said in err and err.startswith("lhuc-rank: ") and err.count("\n") == 1


def test_a_task_that_a_system_does_not_know_is_refused(ranked: Path, tmp_path: Path, run: Run) -> None:
    run(main, ["prepare", "synthetic", "--out", str(tmp_path / "data"), "--task", "click", *TINY])
    command = evaluate(ranked, tmp_path / "out")
    command[2] = str(tmp_path / "data")
    code, _, err = run(main, command)
    assert code == 2 and "labels 'click', 'like', but the log has 'click'" in err
    code, _, err = run(main, ["prepare", "synthetic", "--out", str(tmp_path / "d"), "--task", "buy", *TINY])
    assert code == 2 and "there is no label 'buy'; the log has: click, like" in err


def test_torchrun_divides_the_tables_and_trains_what_one_process_trains(ranked: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ranked / "data")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = str(Path(sys.executable).parent / "lhuc-rank")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*launcher, program, *train(tmp_path, "pepnet")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("seed 0: GAUC on dev") == done.stdout.count("seed 1: GAUC on dev") == 1
    for seed in ("seed-0", "seed-1"):
        ours, theirs = (load_tensors(base / "pepnet" / seed / "weights.safetensors") for base in (tmp_path, ranked))
        assert ours.keys() == theirs.keys()
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-4, msg=name)
