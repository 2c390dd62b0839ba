"""Ctrl-C, a full disk, a killed worker: one line, an exit code, no half file, and the next run goes on."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.tones import Adapted, Run, TinyWorld, times_of
from lhuc_asr.adaptation import speaker_store, updating
from lhuc_asr.adaptation.passes.pass_store import PassStore
from lhuc_asr.cli import adapt, decode, train
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.decoding.words.hypothesis import read_hypotheses
from lhuc_asr.profiles.folder_store import FolderBackend
from lhuc_asr.system.model_directory import load_system

PROGRAM = "import sys; from lhuc_asr.cli.{} import main; sys.exit(main(sys.argv[1:]))"


def same_words(out: Path, adapted: Adapted) -> bool:
    found, expected = (
        {name: item.text for name, item in read_hypotheses(directory / "adapted").items()}
        for directory in (out, adapted.out)
    )
    return found == expected


def assert_nothing_is_half_written(out: Path) -> None:
    assert not list(out.rglob("*.part"))
    for path in out.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def at_call(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but Ctrl-C is pressed before that call of it."""
    calls = []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return interrupted


MOMENTS = {  # what is called, the call before which Ctrl-C is pressed, and how many speakers are finished then
    "first pass": (PassStore, "put", 2, 0),
    "update": (FolderBackend, "take", 2, 0),
    "second pass": (PassStore, "put", 6, 2),
    "between speakers": (speaker_store, "write_status", 2, 2),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stopped_adaptation_goes_on_where_it_was(
    moment: str, world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, number, num_done = MOMENTS[moment]
    command = world.command(tmp_path, "--all-speakers")
    with monkeypatch.context() as patch:
        patch.setattr(where, name, at_call(number, getattr(where, name)))
        code, _, err = run(adapt.main, command)
    assert code == 130
    assert err.splitlines()[-1] == (
        "lhuc-adapt: stopped; what is finished is kept: run the same command again to continue"
    )
    assert_nothing_is_half_written(tmp_path)
    work = ("first_pass", "profiles", "second_pass", "features")
    before = {part: times_of(tmp_path / part) for part in work}
    code, out, _ = run(adapt.main, command)
    assert code == 0
    assert out.count("(done before)") == num_done
    for part, files in before.items():
        after = times_of(tmp_path / part)
        assert {name: after[name] for name in files} == files
    assert same_words(tmp_path, adapted)


LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""A shell lets what it starts in the background ignore Ctrl-C, and children inherit that."""


def test_ctrl_c_from_the_keyboard(world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run) -> None:
    command = world.command(tmp_path, "--all-speakers", "runtime.num_jobs=2")
    program = [sys.executable, "-c", LISTEN + PROGRAM.format("adapt"), *command]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("two_pass")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("lhuc-adapt: stopped; ")
    assert_nothing_is_half_written(tmp_path)
    assert run(adapt.main, command)[0] == 0
    assert same_words(tmp_path, adapted)


VICTIMS = ["feats.scp", "pass.json", "hypotheses.jsonl", "tensors", "page", "eve.json", "results.json"]
"""Files under their temporary names; ``tensors`` and ``page`` are those of a profile."""


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_full_disk_leaves_no_half_file(
    victim: str, world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def run_out_of_space(self: Path, content: Any, *args: Any, **kwargs: Any) -> int:
        data = content.encode() if isinstance(content, str) else content
        if self.name != victim and not self.name.startswith(f".{victim}."):
            return write_bytes(self, data)
        write_bytes(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    command = world.command(tmp_path, "--all-speakers")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", run_out_of_space)
        patch.setattr(Path, "write_bytes", run_out_of_space)
        code, _, err = run(adapt.main, command)
    assert code == 2
    assert err.splitlines()[-1].startswith("lhuc-adapt: ")
    assert "No space left on device" in err.splitlines()[-1]
    assert_nothing_is_half_written(tmp_path)
    code, _, _ = run(adapt.main, command)
    assert code == 0
    assert same_words(tmp_path, adapted)


def run_limited(verb: str, command: list[str], *, largest: int) -> str:
    """Run a command that cannot write more than so many bytes into a file; the last line of what it complains."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    program = [sys.executable, "-c", PROGRAM.format(verb), *command]
    done = subprocess.run(program, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_features_that_cannot_be_stored(world: TinyWorld, tmp_path: Path) -> None:
    said = run_limited("adapt", world.command(tmp_path, "--all-speakers"), largest=30_000)
    assert "cannot write features, is the disk full?" in said
    assert_nothing_is_half_written(tmp_path)


def test_a_network_that_cannot_be_stored(world: TinyWorld, tmp_path: Path, run: Run) -> None:
    model = Path(shutil.copytree(world.model, tmp_path / "si"))
    for directory in ("network-0", "model"):
        shutil.rmtree(model / "work" / directory)
    said = run_limited("train", world.train_command(model), largest=20_000)
    assert "File too large" in said
    assert_nothing_is_half_written(model)
    assert run(train.main, world.train_command(model))[0] == 0
    assert load_system(model).fingerprint == load_system(world.model).fingerprint


def killed_when(is_victim: Callable[..., bool], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but a worker process is killed in it."""
    parent = os.getpid()

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() != parent and is_victim(*args):
            time.sleep(0.2)  # the others finish what they have
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return deadly


@pytest.mark.parametrize("stage", ["search", "update"])
def test_a_killed_worker_is_told_and_the_next_run_goes_on(
    stage: str, world: TinyWorld, adapted: Adapted, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = world.command(tmp_path, "--all-speakers", "runtime.num_jobs=2")
    with monkeypatch.context() as patch:
        if stage == "search":
            deadly = killed_when(lambda _, item: item[0] == "eve-05", WfstDecoder._timed)
            patch.setattr(WfstDecoder, "_timed", deadly)
        else:
            patch.setattr(updating, "_update", killed_when(lambda *_: True, updating._update))
        code, _, err = run(adapt.main, command)
    assert code == 2
    assert err.splitlines()[-1].startswith("lhuc-adapt: a worker process died")
    assert_nothing_is_half_written(tmp_path)
    before = times_of(tmp_path / "first_pass")
    assert any("Jos" in name or "12_3" in name for name in before)
    assert run(adapt.main, command)[0] == 0
    after = times_of(tmp_path / "first_pass")
    assert {name: after[name] for name in before} == before
    assert same_words(tmp_path, adapted)


def test_a_killed_worker_of_decoding_leaves_no_page(
    world: TinyWorld, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = world.command(tmp_path, "runtime.num_jobs=2")
    assert run(decode.main, command)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(WfstDecoder, "_timed", killed_when(lambda *_: True, WfstDecoder._timed))
        code, _, err = run(decode.main, command)
    assert code == 2
    assert "a worker process died" in err
    assert not (tmp_path / "decode.json").exists()
    assert run(decode.main, command)[0] == 0
    assert (tmp_path / "decode.json").exists()
