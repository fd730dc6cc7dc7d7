#!/usr/bin/env bash
# One recipe as a job of a Ray cluster, by plain `ray job submit`.
#
#   deploy/ray/submit.sh [--no-wait] RECIPE RUNS [options of lessrl train]
#
# RECIPE lies in the current directory, which is sent. RUNS is an absolute folder that every node sees: the run gets its
# directory there, as Ray throws a job's own away. Environment:
#   RAY_API_SERVER_ADDRESS  of the cluster's dashboard; default http://127.0.0.1:8265
#   RAY_AUTH_MODE           default token, with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH
#   LESSRL_JOB              the job's id, which one cluster takes once; default made of the recipe's name and the time
#   LESSRL_BIN              folder of `lessrl` on the nodes; default what the PATH of the cluster names
#   LESSRL_JOB_CPUS         CPUs that the driver claims of the head; default 1
#
# Exit codes: 0 completed, 1 failed, 2 what was asked for cannot work, 3 the cluster took no job, 5 left by Ctrl-C while
# the job goes on, 130 stopped. With --no-wait 0 once the job is taken.
set -euo pipefail

say() { printf 'submit.sh: %s\n' "$*" >&2; }

refuse() {
    say "$1"
    exit 2
}

follows=yes
if [ "${1:-}" = --no-wait ]; then
    follows=no
    shift
fi
[ "$#" -ge 2 ] || refuse "a recipe and a folder of runs must be given, found $# words"
recipe=$1 runs=$2
shift 2
[ -f "$recipe" ] || refuse "a recipe must be a file, found none: $recipe"
case $recipe in
    /* | ../* | */../*) refuse "a recipe must lie in the current directory, which is sent, got $recipe" ;;
esac
case $runs in
    /*) ;;
    *) refuse "the folder of runs must be an absolute path that every node sees, got $runs" ;;
esac
command -v ray >/dev/null || refuse "ray must be on PATH; activate the environment that has lessrl"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(dirname "$(command -v ray)")/python
name=$(basename "$recipe" .yaml)
job=${LESSRL_JOB:-$name-$(date -u +%Y%m%dT%H%M%SZ)-$$}
export RAY_API_SERVER_ADDRESS=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265} RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
as_json='import json, sys; print(json.dumps({"recipe": sys.argv[1], "runs": sys.argv[2]}))'
metadata=$("$python" -c "$as_json" "$recipe" "$runs")

# The state and exit code of the job, once it has ended: `ray job submit` knows 0 and 1 only, and its connection may
# break while the job goes on.
code_of_job() {
    "$python" - "$job" <<'PYTHON'
import sys
import time

from ray.job_submission import JobStatus, JobSubmissionClient

job = sys.argv[1]
while True:
    try:
        info = JobSubmissionClient().get_job_info(job)
    except (ConnectionError, RuntimeError) as error:
        sys.exit(f"submit.sh: no answer about job {job}: {str(error).strip().splitlines()[0]}")
    if info.status.is_terminal():
        break
    time.sleep(1)
codes = {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: 130}
print(codes.get(info.status, info.driver_exit_code or 1))
PYTHON
}

# shellcheck disable=SC2317,SC2329  # the trap calls it
left() {
    say "job $job goes on: ray job logs --follow $job; ray job stop $job cancels it with a checkpoint"
    exit 5
}

# Followed by another command: this one ends with 1 both where no job began and where the run failed.
ray job submit --no-wait --submission-id "$job" --working-dir . --runtime-env "$here/runtime_env.yaml" \
    --metadata-json "$metadata" --entrypoint-num-cpus "${LESSRL_JOB_CPUS:-1}" \
    -- "${LESSRL_BIN:+$LESSRL_BIN/}lessrl" train "$recipe" --runs "$runs" "$@" || {
    say "no job was begun at $RAY_API_SERVER_ADDRESS; the lines above say why"
    exit 3
}
[ "$follows" = yes ] || exit 0
trap left INT
ray job logs --follow "$job" || true
code=$(code_of_job) || exit 3
say "job $job ended with $code"
exit "$code"
