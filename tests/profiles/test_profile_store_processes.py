"""Eight processes write into one store and are killed: nothing is lost, nothing is half written."""

import multiprocessing
import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest

from helpers.stored import KINDS, new_store, profile, value_of
from lhuc_asr.profiles.store import ProfileStore

NUM_PROCESSES = 8
SPEAKERS = ("shared", "../also shared", "rarely")
_ROW = struct.Struct("<iii")


def write(path: str, process: int, log: int) -> None:
    """Put profiles until killed; tell of each put what it was, once it is done."""
    store = ProfileStore.open(Path(path))
    rng = random.Random(process)
    for number in range(1, 100_000):
        speaker = min(rng.randrange(20), 2)
        value = process * 100_000 + number
        if rng.random() < 0.1 and (numbers := store.backend.numbers(SPEAKERS[speaker])):
            store.rollback(SPEAKERS[speaker], to=rng.choice(numbers.all))
        version = store.put(profile(SPEAKERS[speaker], value, dtype="float32"))
        os.write(log, _ROW.pack(speaker, version, value))  # in one piece: shorter than PIPE_BUF


@pytest.mark.parametrize("kind", KINDS)
def test_eight_writers_that_are_killed(tmp_path, kind):
    store = new_store(tmp_path, kind)
    store.close()
    log = tmp_path / "log"
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(str(store.path), number, handle)) for number in range(NUM_PROCESSES)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 60
    for number, writer in enumerate(writers):  # one after the other, each in the middle of its work
        wanted = (20 + 8 * number) * _ROW.size
        while log.stat().st_size < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(writer.pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
    os.close(handle)
    done = list(_ROW.iter_unpack(log.read_bytes()))
    assert len(done) >= 76
    assert len({(speaker, version) for speaker, version, _ in done}) == len(done)
    for speaker, version, value in done:
        assert value_of(store.get(SPEAKERS[speaker], version)) == value
    for speaker in store.speakers():
        numbers = store.numbers(speaker)
        assert numbers.all == tuple(range(1, len(numbers.all) + 1))
        everything = [value_of(store.get(speaker, version)) for version in numbers.all]
        assert len(set(everything)) == len(everything)
        assert value_of(store.get(speaker)) in everything
        assert store.put(profile(speaker)) == len(everything) + 1
        store.delete(speaker)
    assert store.speakers() == []
    left = [path for path in store.path.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    assert left == [] or kind != "profiles"
