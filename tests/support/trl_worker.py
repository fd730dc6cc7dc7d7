"""One process of the TRL tests, its place given by torchrun's variables: trl_worker.py OUT_DIR LESS_OPTIONS_AS_JSON."""

import json
import sys
from pathlib import Path

import torch
from trl_cases import Recording, make_trainer, trained_rows

from shaping.less import LessOptions


def main(out: Path, less: dict[str, int]) -> None:
    torch.set_num_threads(1)
    # 3 losses of 2 rows on each of 2 processes: 12 rows, 3 groups of 4.
    config = {
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "steps_per_generation": 3,
        "gradient_accumulation_steps": 3,
    }
    trainer = make_trainer(Recording, out, config=config, correctness="is_correct", less=LessOptions(**less))
    trainer.train()
    found = {"rows": trained_rows(trainer, 0), "weights": trainer.policies[0]}
    torch.save(found, out / f"rank{trainer.accelerator.process_index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
