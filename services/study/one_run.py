"""The process of one run of a study: begins it, or goes on with it; interrupted when the study's own process is gone.

python -m services.study.one_run PARENT RECIPE RUN_DIR ADDRESS
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from services.hosting.supervisor import interrupt_with_parent, supervised
from services.recipe import load_recipe
from services.run_dir import RECIPE_FILE
from services.run_setup import LATEST, prepare_run, reopen_run
from shaping.errors import CheckpointError, RunFailed, UserError


def main(words: Sequence[str]) -> int:
    """Run it to its end.

    Args:
        words: id of the study's process; the recipe's file; the run's directory, where one that holds a run is gone on
            with; the address.
    Returns:
        The exit code of `lessrl train`.
    """
    parent, recipe, directory, address = words
    interrupt_with_parent(int(parent))
    run_dir = Path(directory)
    try:
        if (run_dir / RECIPE_FILE).is_file():
            prepared = reopen_run(run_dir, {}, checkpoint=LATEST, address=address)
        else:
            prepared = prepare_run(load_recipe(Path(recipe)), run_dir=run_dir, runs=run_dir.parent, address=address)
        return supervised(prepared)
    except (UserError, CheckpointError, RunFailed) as error:
        sys.stderr.write(f"lessrl: {' '.join(str(error).split())}\n")
        return 1 if isinstance(error, RunFailed) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
