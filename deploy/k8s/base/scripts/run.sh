#!/bin/sh
# Entry point of the Ray job. Usage: run.sh FOLDER, one for each run.
# The first job of a folder begins the run; one that comes after a pre-emption goes on from its last checkpoint.
set -eu

run_dir=$1/run
if [ -e "$run_dir/recipe.yaml" ]; then
    # Pods of the job before it may still write their checkpoint, for as long as their grace period.
    if [ -e "$run_dir/.lock" ] && ! flock --shared --nonblock "$run_dir/.lock" true; then
        echo "waiting until the run's earlier process has ended"
        flock --shared --timeout 900 "$run_dir/.lock" true || true
    fi
    exec lessrl resume "$run_dir"
fi
exec lessrl train "${LESSRL_RECIPE:-/etc/lessrl/recipe/recipe.yaml}" --run-dir "$run_dir"
