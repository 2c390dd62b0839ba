"""Mistakes as errors: their text is one line, and they come whole out of a worker process."""

from __future__ import annotations

from typing import NoReturn

import pytest

from lhuc_asr.data.audio import SoundFileError
from lhuc_asr.data.problems import BadDataError, Problem, ProblemKind
from lhuc_asr.errors import DependencyError, LhucError, SpeakerError
from lhuc_asr.parallel import map_in_processes

PROBLEM = Problem(ProblemKind.empty_audio, "anna", "the audio of 'anna' is empty")


@pytest.mark.parametrize(
    "error",
    [
        SoundFileError("the audio of 'anna' is empty", ProblemKind.empty_audio),
        BadDataError("'data' has 1 problem", [PROBLEM]),
        SpeakerError("there is no speaker 'zoe'"),
        DependencyError("numba cannot be loaded"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_out_of_a_worker(error: LhucError) -> None:
    def fail(_: int) -> NoReturn:
        raise error

    with pytest.raises(type(error)) as caught:
        list(map_in_processes(fail, [1, 2], num_jobs=2))
    assert str(caught.value) == str(error) == error.args[0]
    assert vars(caught.value) == vars(error)


def test_an_error_without_words_has_none() -> None:
    assert str(LhucError()) == ""
