"""A program that trains a PEPNet with tables divided among the processes that a test, or torchrun, has started.

python ranking_processes.py DIRECTORY     writes DIRECTORY/<number>.safetensors: weights of the beginning and the end
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from helpers.tiny_logs import tiny_log
from lhuc_asr.ranking.encoding import Encoder
from lhuc_asr.ranking.evaluation import probabilities
from lhuc_asr.ranking.ranker import Ranker
from lhuc_asr.ranking.ranker_config import RankerConfig, RankerKind
from lhuc_asr.ranking.sharding import shard_tables, whole_state
from lhuc_asr.ranking.training import RankerTrainingConfig, train_ranker
from lhuc_asr.tensors import save_tensors
from lhuc_asr.training.processes.distributed import joined


def main(directory: Path) -> None:
    train, held_out = tiny_log(230), tiny_log(51, seed=1)  # neither divides evenly
    encoder = Encoder.of(train)
    with joined() as share:
        torch.manual_seed(0)
        config = RankerConfig(kind=RankerKind.pepnet, embedding_dim=3, hidden_dims=[5])
        ranker = Ranker(encoder, config, deferred=share.of > 1)
        if share.of > 1:
            shard_tables(ranker)
        kept = {f"begin.{name}": value.clone() for name, value in whole_state(ranker).items()}
        train_ranker(ranker, encoder, train, held_out, RankerTrainingConfig(batch_size=60, max_epochs=2), seed=0)
        kept |= {f"end.{name}": value for name, value in whole_state(ranker).items()}
        kept["probabilities"] = torch.from_numpy(probabilities(ranker, encoder.encode(held_out)))
        kept["own_rows"] = torch.tensor([len(table) for table in ranker.tables()])
        save_tensors(kept, directory / f"{share.number}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
