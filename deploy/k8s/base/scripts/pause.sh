#!/bin/sh
# preStop of every Ray pod: pause the run with a checkpoint before the pod ends, and have it give its GPUs back.
# Usage: pause.sh SECONDS, which must be less than the pod's grace period.
# All pods of a cluster may call it at once: what they ask for is the same, and therefore one pause.
set -u

seconds=$1
# A drain that takes longer becomes an abort, which has as long again for its checkpoint.
drain=$((seconds / 2 - 30))
# KubeRay tells workers the head's name; the control plane answers to addresses, not to names that it does not know.
host=$(getent hosts "${FQ_RAY_IP:-127.0.0.1}" | { read -r address _ && echo "$address"; })
case $host in *:*) host="[$host]" ;; esac
LESSRL_URL="http://${host:-127.0.0.1}:${LESSRL_CONTROL_PORT:-8470}"
LESSRL_TOKEN=$(cat "${LESSRL_OPERATE_TOKEN_FILE:-/etc/lessrl/tokens/operate}")
export LESSRL_URL LESSRL_TOKEN

timeout "$seconds" lessrl pause --wait --mode drain --timeout "$drain" --on-timeout abort --release all --ttl 1800 \
    --reason "a pod of the cluster ends"
code=$?
case $code in
# No control plane: there is nothing to pause.
3) exit 0 ;;
# The run has ended, or pauses already as somebody else wants it: then that is waited for.
4) timeout "$seconds" lessrl wait --until paused || exit 0 ;;
*) exit $code ;;
esac
