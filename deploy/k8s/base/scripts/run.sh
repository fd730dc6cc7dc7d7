#!/bin/sh
# Entry point of the Ray job. Usage: run.sh FOLDER, one for each run.
# The first job of a folder begins the run; one that comes after a pre-emption goes on from its last checkpoint.
set -eu

run_dir=$1/run
if [ -e "$run_dir/recipe.yaml" ]; then
    exec lessrl resume "$run_dir"
fi
exec lessrl train "${LESSRL_RECIPE:-/etc/lessrl/recipe/recipe.yaml}" --run-dir "$run_dir"
