#!/usr/bin/env bash
# What the image starts, below tini:
#
#   entrypoint.sh head [OPTIONS]     a Ray head with the control plane of its cluster; OPTIONS go to `ray start`
#   entrypoint.sh worker [OPTIONS]   a Ray node that joins the head at RAY_ADDRESS
#   entrypoint.sh COMMAND...         anything else, in place of this script: lessrl train RECIPE
#
# SIGTERM of a head pauses every run of its folder with a checkpoint, and then ends Ray; a worker and a command get it
# themselves. Docker kills what is left when its own time is over (stop_grace_period, 10 seconds where none is set).
set -euo pipefail

SECRETS="${LESSRL_SECRETS:-/run/secrets}"
OWN_SECRETS="${LESSRL_OWN_SECRETS:-/run/lessrl}"
RUNS="${LESSRL_RUNS:-/runs}"
PORT="${LESSRL_PORT:-8470}"
RAY_PORT="${LESSRL_RAY_PORT:-6379}"
START_SECONDS=120
STOP_SECONDS="${LESSRL_STOP_SECONDS:-540}"

export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"

refuse() {
    echo "entrypoint: $*" >&2
    exit 2
}

# Mounted secrets belong to whoever owns them outside. lessrl and Ray want theirs closed to all but this user.
own_secrets() {
    [ -d "$SECRETS" ] || return 0
    local each
    for each in "$SECRETS"/*; do
        [ -f "$each" ] || continue
        install -m 0600 "$each" "$OWN_SECRETS/${each##*/}"
    done
}

# Sets RAY_AUTH_TOKEN_PATH where a secret is there.
require_ray_token() {
    if [ -z "${RAY_AUTH_TOKEN_PATH:-}" ] && [ -f "$OWN_SECRETS/ray_token" ]; then
        export RAY_AUTH_TOKEN_PATH="$OWN_SECRETS/ray_token"
    fi
    [ "$RAY_AUTH_MODE" = token ] || return 0
    [ -n "${RAY_AUTH_TOKEN:-}" ] || [ -s "${RAY_AUTH_TOKEN_PATH:-/nonexistent}" ] ||
        refuse "a Ray cluster must have a token, found none; mount one as $SECRETS/ray_token or set RAY_AUTH_TOKEN_PATH"
}

# Whether a process works in the directory of this lock.
is_held() {
    [ -f "$1" ] && ! flock --nonblock --shared "$1" true
}

runs_under_way() {
    local lock
    for lock in "$RUNS"/*/.lock; do
        if is_held "$lock"; then echo "$lock"; fi
    done
}

pause_runs() {
    local lock process ends_at=$((SECONDS + STOP_SECONDS))
    runs_under_way | while read -r lock; do
        process="$(cut -d ' ' -f 1 "$lock")"
        echo "entrypoint: pausing the run in ${lock%/.lock} (process $process)"
        kill -TERM "$process"
    done
    while [ -n "$(runs_under_way)" ] && [ "$SECONDS" -lt "$ends_at" ]; do sleep 0.2; done
}

stop_head() {
    trap '' TERM INT
    # Whatever is wrong with a run, Ray gets its own end.
    pause_runs || true
    # Ray waits half a minute for actors that nobody ends.
    lessrl shutdown --address "127.0.0.1:$RAY_PORT" || true
    kill -TERM "$RAY" 2>/dev/null || true
    wait "$RAY" || true
    exit 143
}

start_head() {
    require_ray_token
    # For the commands that are run here later; `ray start` takes it amiss.
    unset RAY_ADDRESS
    ray start --head --block --port="$RAY_PORT" --dashboard-host=127.0.0.1 --metrics-export-port=8080 "$@" &
    RAY=$!
    trap stop_head TERM INT
    until (exec 3<>"/dev/tcp/127.0.0.1/$RAY_PORT") 2>/dev/null; do
        kill -0 "$RAY" 2>/dev/null || { wait "$RAY"; exit; }
        [ "$SECONDS" -lt "$START_SECONDS" ] || refuse "Ray must answer within $START_SECONDS s, it does not; see its output above"
        sleep 0.2
    done
    lessrl serve --address "127.0.0.1:$RAY_PORT" --host "${LESSRL_HOST:-127.0.0.1}" --port "$PORT" --runs "$RUNS" &
    wait $! || { local code=$?; kill -TERM "$RAY"; wait "$RAY" || true; exit "$code"; }
    wait "$RAY"
}

start_worker() {
    require_ray_token
    local address="${RAY_ADDRESS:-}"
    [ -n "$address" ] || refuse "a worker must know its head, found no RAY_ADDRESS; set it to the head's HOST:6379"
    unset RAY_ADDRESS
    exec ray start --block --address="$address" --metrics-export-port=8080 "$@"
}

[ $# -gt 0 ] || refuse "a command must be given, found none; say head, worker, or lessrl and what it shall do"
own_secrets
case "$1" in
head) start_head "${@:2}" ;;
worker) start_worker "${@:2}" ;;
*) exec "$@" ;;
esac
