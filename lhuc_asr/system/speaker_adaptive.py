"""Speaker-adaptive training inside the building of a model: its scales set up, folded away, and kept as profiles.

Row 0 becomes part of the weights (`lhuc_asr.lhuc.fold`): recognition of unknown speakers costs nothing more, the model
directory is like any other, and a new speaker's identity start is row 0. With exp, where scales multiply and parameters
add up, adaptation from there is the same, step by step, as adaptation that starts at row 0 in the unfolded network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lhuc_asr.errors import FoldError
from lhuc_asr.lhuc.fold import fold, plan_fold
from lhuc_asr.lhuc.row_updates import RowUpdateKind
from lhuc_asr.lhuc.sat import SatConfig, SpeakerAdaptiveTraining, SpeakerRouting, TableDevice
from lhuc_asr.lhuc.scale_table import ScaleTable
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.system.sites import proved_sites, two_utterances
from lhuc_asr.system.trained_scales import TrainedScales
from lhuc_asr.training.examples.seeds import Purpose, derive_seed
from lhuc_asr.training.loop import TrainingConfig
from lhuc_asr.training.processes.distributed import own_device
from lhuc_asr.training.tasks.conditioned_task import ConditionedTask
from lhuc_asr.training.tasks.frame_task import FrameTask
from lhuc_asr.training.tasks.task import Task

_TOLERANCE = 1e-4
"""Of log-probabilities of the folded network; deep networks round."""


def with_scales(
    task: Task[Any],
    network: AcousticNetwork,
    speaker_of: Mapping[str, str],
    sat: SatConfig,
    training: TrainingConfig,
    *,
    seed: int = 0,
) -> tuple[ConditionedTask[Any], SpeakerAdaptiveTraining]:
    """The same task, for a network that has scales for every training speaker.

    Args:
        task: what the network learns.
        network: with the weights that it begins with.
        speaker_of: training utterance -> speaker.
        sat: what is scaled, and how that learns.
        training: how the weights learn.
        seed: of what is drawn.

    Raises:
        SiteError: a layer that was asked for does not exist or does not act.
        FoldError: row 0 could not become part of the weights.
    """
    sites = proved_sites(network, sat.layers, whole=not isinstance(task, FrameTask))
    if wrong := [str(plan) for plan in plan_fold(network, sites, two_utterances(network)) if not plan.foldable]:
        raise FoldError(f"the scales of row 0 must become part of the weights: {'; '.join(wrong)}; choose sat.layers")
    routing = SpeakerRouting(speaker_of, sat, seed=derive_seed(seed, Purpose.conditions, 0))
    device = own_device(training.device) if sat.table is TableDevice.auto else torch.device("cpu")
    table = ScaleTable(sites, len(routing.speakers), sat.amplitude, torch.empty(0, device=device))
    update = sat.update or RowUpdateKind[training.optimiser.kind.name]
    adaptive = SpeakerAdaptiveTraining(
        table, routing, replace(sat, update=update), momentum=training.optimiser.momentum
    )
    return ConditionedTask(task, adaptive, seed=seed), adaptive


def fold_and_save(network: AcousticNetwork, adaptive: SpeakerAdaptiveTraining, directory: Path) -> None:
    """Put row 0 into the weights of the network, and write the rows of all speakers to the directory.

    Raises:
        FoldError: the folded network gives other outputs.
    """
    table = adaptive.table
    scales = TrainedScales(r=table.r.cpu(), amplitude=table.kind, sites=table.sites, row_of=adaptive.routing.own_rows)
    scales.save(directory)
    folded = fold(network, table.adapter(), two_utterances(network), tolerance=_TOLERANCE)
    network.load_state_dict(folded.state_dict())
