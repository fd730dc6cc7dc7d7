#!/bin/sh
# preStop of every Ray pod: pause its cluster's runs, each with a checkpoint, before the pod ends, and free their GPUs.
# Usage: pause.sh SECONDS, which must be less than the pod's grace period.
# All pods of a cluster may call it at once: what they ask for is the same, and therefore one pause of each run.
set -u

seconds=$1
# A drain that takes longer becomes an abort, which has as long again for its checkpoint.
drain=$((seconds / 2 - 30))
# KubeRay tells workers the head's name; the control plane answers to addresses, not to names that it does not know.
# Where the whole cluster is deleted the name goes at once, while the head still pauses: postStart has kept its address.
host=$(getent hosts "${FQ_RAY_IP:-127.0.0.1}" || cat "${LESSRL_HEAD_FILE:-/tmp/lessrl-head}" 2>/dev/null)
host=${host%%[[:space:]]*}
case $host in *:*) host="[$host]" ;; esac
LESSRL_URL="http://${host:-127.0.0.1}:${LESSRL_CONTROL_PORT:-8470}"
LESSRL_TOKEN=$(cat "${LESSRL_OPERATE_TOKEN_FILE:-/etc/lessrl/tokens/operate}")
export LESSRL_URL LESSRL_TOKEN

pause() {
    timeout "$seconds" lessrl pause "$1" --wait --mode drain --timeout "$drain" --on-timeout abort --release all \
        --ttl 1800 --reason "a pod of the cluster ends"
    code=$?
    case $code in
    # No control plane any more: there is nothing to pause.
    3) return 0 ;;
    # The run has ended, or pauses already as somebody else wants it: then that is waited for.
    4) timeout "$seconds" lessrl wait "$1" --until paused || return 0 ;;
    *) return $code ;;
    esac
}

listed=$(lessrl list --limit 500 --json)
code=$?
[ $code != 3 ] || exit 0
[ $code = 0 ] || exit $code
# A cluster that stays may have several runs.
active='import json, sys
for run in json.load(sys.stdin)["items"]:
    if run["status"]["state"] not in ("completed", "failed", "cancelled"):
        print(run["id"])'
pauses=""
for run in $(printf '%s' "$listed" | python -c "$active"); do
    pause "$run" &
    pauses="$pauses $!"
done
worst=0
for each in $pauses; do wait "$each" || worst=$?; done
exit $worst
