"""lhuc-bench in process, with tiny nets: what it prints, writes and refuses. No test looks at seconds."""

from __future__ import annotations

import json

import pytest

from lhuc_asr.cli.bench import adapter_parser, build_parser, main, store_parser, tables_parser, training_parser
from lhuc_asr.parallel import num_cores

EVERYWHERE = {"-h", "--help", "--debug", "--version"}


@pytest.mark.parametrize(
    ("parser", "own"),
    [
        (build_parser(), set()),
        (
            adapter_parser(),
            {"--out", "--models", "--threads", "--device", "--seconds", "--bank", "--frames", "--quick"},
        ),
        (store_parser(), {"--out", "--kinds", "--profiles", "--gets"}),
        (training_parser(), {"--out", "--models", "--threads", "--seconds", "--minibatches", "--quick"}),
        (tables_parser(), {"--out", "--ids", "--dim", "--processes"}),
    ],
)
def test_the_flags(parser, own):
    assert {option for action in parser._actions for option in action.option_strings} == EVERYWHERE | own


def test_adapter(run, tmp_path):
    out = tmp_path / "bench"
    code, printed, _ = run(
        main,
        [
            *("adapter", "--quick", "--out", str(out), "--models", "dnn_4x512"),
            *("--threads", "1", "--bank", "12", "--frames", "5", "--seconds", "1"),
        ],
    )
    assert code == 0
    assert "== dnn_4x512, cpu, 1 thread (QUICK: tiny nets, the figures mean nothing)" in printed
    assert "bank of 12, all distinct" in printed and "all in one run, float32" in printed
    assert (out / "adapter.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((out / "adapter.json").read_text(encoding="utf-8"))
    assert (written["format"], written["benchmark"]) == (1, "adapter")
    assert written["command"][:2] == ["lhuc-bench", "adapter"] and written["commit"]
    (one,) = written["measured"]
    assert (one["net"], one["num_threads"], one["device"], one["quick"]) == ("dnn_4x512", 1, "cpu", True)
    assert one["machine"]["num_cores"] == num_cores() and one["machine"]["processor"] and one["machine"]["torch"]
    assert one["forward"]["num_frames"] == 5
    assert one["forward"]["largest_difference"] < 1e-5
    assert set(one["forward"]["figures"][2]["ratio"]) == {"median", "low", "high"}
    assert {figure["number_format"] for figure in one["updates"]["figures"]} <= {"float32", "bfloat16"}


def test_training(run, tmp_path):
    out = tmp_path / "bench"
    code, printed, _ = run(main, ["training", "--quick", "--out", str(out), "--minibatches", "5"])
    assert code == 0
    assert "share" in printed and "QUICK" in printed
    written = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert (written["format"], written["benchmark"], written["num_threads"]) == (1, "training", 1)
    assert [one["name"] for one in written["measured"]] == ["dnn", "tdnn", "tdnnf"]
    for one in written["measured"]:
        assert one["num_batches"] >= 5 and one["num_rounds"] == 2
        assert one["largest_difference"] < 1e-5
        assert set(one["frames_per_second"]) == {"our loop", "bare loop"}


def test_store(run, tmp_path):
    out = tmp_path / "bench"
    code, printed, _ = run(main, ["store", "--out", str(out), "--profiles", "12", "--gets", "3"])
    assert code == 0
    assert printed.split()[:3] == ["store", "folder", "sqlite"]
    written = json.loads((out / "store.json").read_text(encoding="utf-8"))
    assert list(written["measured"]) == ["folder", "sqlite"]
    assert written["measured"]["sqlite"]["num_profiles"] == 12
    assert [path.name for path in out.iterdir()] == ["store.json"], "the stores are removed"


def test_tables(run, tmp_path):
    code, printed, _ = run(
        main, ["tables", "--out", str(tmp_path), "--ids", "1000000", "--dim", "16", "--processes", "1", "2"]
    )
    assert code == 0
    assert "A table of 10^12 parameters holds 62.5 thousand million ids" in printed
    written = json.loads((tmp_path / "tables.json").read_text(encoding="utf-8"))
    alone, divided = (one["bytes"] for one in written["measured"])
    size = 1_000_000 * 16 * 4
    assert (
        0.9 * size < alone["weights"] < 1.6 * size and 1.9 * size < alone["learning"] < 2.6 * size < alone["peak"] * 1.3
    )
    assert divided["learning"] < 0.8 * alone["learning"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: what"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["adapter"], "the following arguments are required: --out"),
        (["store", "--gets", "0", "--out", "x"], "expected a number from 1, got '0'"),
        (["tables", "--out", "x", "--ids", "9" * 15], "takes more than 1 TiB; measure less"),
        (["adapter", "--out", "x", "--models", "rnn"], "invalid choice: 'rnn'"),
        (["adapter", "--out", "x", "--threads", "9999"], "--threads 9999: this process may use"),
        (["adapter", "--out", "x", "--device", "tpu"], "invalid choice: 'tpu'"),
    ],
)
def test_mistakes_in_one_line(run, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    code, _, said = run(main, arguments)
    assert code == 2
    assert complaint in said and said.startswith("lhuc-bench: ") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debug_may_stand_in_front(tmp_path, capsys):
    assert main(["store", "--gets", "0", "--out", str(tmp_path)]) == 2
    assert "lhuc-bench: argument --gets: expected a number from 1" in capsys.readouterr().err


def test_an_accelerator_that_is_not_there(run, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, said = run(main, ["adapter", "--out", str(tmp_path / "x"), "--device", "cuda"])
    assert code == 2
    assert "torch finds no accelerator here; cpu is possible" in said
