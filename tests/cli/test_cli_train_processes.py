"""``torchrun lhuc-train``: the network is trained together, everything else is done once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.tones import TinyWorld
from lhuc_asr.files import read_json
from lhuc_asr.system.model_directory import load_system


def torchrun(arguments: list[str], *, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    program = str(Path(sys.executable).parent / "lhuc-train")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*launcher, program, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_torchrun_trains_the_network_of_one_process(world: TinyWorld, tmp_path: Path) -> None:
    model = Path(shutil.copytree(world.model, tmp_path / "si"))
    for stage in ("network-0", "model"):
        shutil.rmtree(model / "work" / stage)
    done = torchrun(world.train_command(model))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes train together") == 1
    assert done.stderr.count("network-0: done") == 1
    assert done.stdout.count("with fingerprint") == 1
    load_system(model)
    ours, theirs = (read_json(path / "work" / "network-0" / "history.json") for path in (model, world.model))
    assert len(ours) == len(theirs)
    assert ours[-1]["valid_loss"] == pytest.approx(theirs[-1]["valid_loss"], rel=0.2)
