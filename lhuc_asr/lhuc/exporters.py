"""The formats in which a net can be written, each as the bytes of a file and a function that runs what they hold."""

from __future__ import annotations

import copy
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from enum import Enum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import DependencyError, FoldError
from lhuc_asr.lhuc.flat_net import FlatNet, run
from lhuc_asr.tensors import tensors_from_bytes, tensors_to_bytes

Runner = Callable[[Sequence[Tensor]], list[Tensor]]
"""Input tensors to output tensors, reckoned by what was read back."""

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class ExportFormat(Enum):
    """What is written.

    ``state_dict`` is weights as safetensors, for a net that the same code builds; ``torchscript``, ``torch_export`` (a
    program of torch.export) and ``onnx`` need no code.
    """

    state_dict = "state_dict"
    torchscript = "torchscript"
    torch_export = "torch_export"
    onnx = "onnx"


def written(flat: FlatNet, kind: ExportFormat) -> tuple[bytes, Runner]:
    """The content of a file, and what runs it.

    Raises:
        FoldError: the net cannot be written in this format.
        DependencyError: a package for it is missing.
    """
    if kind is ExportFormat.onnx:
        _require_onnx()
    with _quiet():
        try:
            return _WRITERS[kind](flat)
        except (DependencyError, FoldError):
            raise
        except Exception as error:  # exporters raise of everything
            raise FoldError(
                f"this net cannot be written as {kind.name} ({_reason(error)}); "
                f"other formats: {', '.join(other.name for other in ExportFormat if other is not kind)}"
            ) from error


def _reason(error: BaseException) -> str:
    """The first line of what was wrong at the bottom of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = next(filter(None, map(str.strip, str(error).splitlines())), "no reason given")
    return f"{type(error).__name__}: {first[:200]}"


def _state_dict(flat: FlatNet) -> tuple[bytes, Runner]:
    content = tensors_to_bytes({name: tensor.clone() for name, tensor in flat.net.state_dict().items()})
    fresh = copy.deepcopy(flat)
    with torch.no_grad():
        for tensor in (*fresh.net.parameters(), *fresh.net.buffers()):
            tensor.zero_()
    fresh.net.load_state_dict(tensors_from_bytes(content, source="memory", error=FoldError))
    return content, lambda tensors: run(fresh, tensors)


def _torchscript(flat: FlatNet) -> tuple[bytes, Runner]:
    stream = io.BytesIO()
    torch.jit.save(_scripted(flat), stream)
    content = stream.getvalue()
    loaded = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]
    return content, lambda tensors: run(loaded, tensors)


def _scripted(flat: FlatNet) -> Any:
    """Compiled from its source where that is possible; otherwise what a run of it did."""
    if flat.is_plain:
        try:
            return torch.jit.script(flat.net)
        except Exception:  # what the compiler does not understand is traced
            logging.getLogger(__name__).debug("the net is traced, not scripted", exc_info=True)
    return torch.jit.trace(flat, flat.tensors, check_trace=False)  # type: ignore[no-untyped-call]


def _torch_export(flat: FlatNet) -> tuple[bytes, Runner]:
    auto = torch.export.Dim.AUTO
    shapes = (tuple(dict.fromkeys(axes, auto) for axes in flat.axes),)
    program = torch.export.export(flat, flat.tensors, dynamic_shapes=shapes)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    content = stream.getvalue()
    loaded = torch.export.load(io.BytesIO(content)).module()
    return content, lambda tensors: run(loaded, tensors)


def _onnx(flat: FlatNet) -> tuple[bytes, Runner]:
    # torch.export unrolls recurrent layers over the frames of the example; the older exporter knows them as they are.
    recurrent = any(isinstance(module, nn.RNNBase) for module in flat.modules())
    content = _onnx_by_trace(flat) if recurrent else _onnx_by_export(flat)
    session = importlib.import_module("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    known = {given.name for given in session.get_inputs()}

    def runner(tensors: Sequence[Tensor]) -> list[Tensor]:
        named = zip(flat.input_names, tensors, strict=True)
        feed = {name: tensor.detach().cpu().numpy() for name, tensor in named if name in known}
        return [torch.from_numpy(output) for output in session.run(None, feed)]

    return content, runner


def _onnx_by_export(flat: FlatNet) -> bytes:
    shapes = (tuple(dict(axes) for axes in flat.axes),)
    inputs, outputs = list(flat.input_names), list(flat.output_names)
    program = torch.onnx.export(
        *(flat, flat.tensors),
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=inputs,
        output_names=outputs,
        verbose=False,
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _onnx_by_trace(flat: FlatNet) -> bytes:
    stream = io.BytesIO()
    torch.onnx.export(
        *(flat, flat.tensors, stream),  # type: ignore[arg-type]
        dynamo=False,
        dynamic_axes=dict(zip(flat.input_names, flat.axes, strict=True)),
        input_names=list(flat.input_names),
        output_names=list(flat.output_names),
    )
    return stream.getvalue()


def _require_onnx() -> None:
    missing = [name for name in _ONNX_PACKAGES if _import(name) is None]
    if missing:
        raise DependencyError(
            f"ONNX needs {', '.join(_ONNX_PACKAGES)}; {', '.join(missing)} cannot be imported: "
            "pip install 'lhuc_asr[export]'"
        )


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own warnings; what they fear is tested afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._export", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # torch.export prints graphs there
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_WRITERS: dict[ExportFormat, Callable[[FlatNet], tuple[bytes, Runner]]] = {
    ExportFormat.state_dict: _state_dict,
    ExportFormat.torchscript: _torchscript,
    ExportFormat.torch_export: _torch_export,
    ExportFormat.onnx: _onnx,
}
