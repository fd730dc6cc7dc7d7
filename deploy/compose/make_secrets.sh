#!/usr/bin/env bash
# Makes the secrets of compose.yaml, each once, and prints none of them.
#
# The files are readable to all and their folder to you alone: in a container they belong to you, whom it does not know.
set -euo pipefail

secrets="${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}"

random() {
    od -An -tx1 -N24 /dev/urandom | tr -d ' \n'
}

# A file that is there already stays.
keep() {
    local file="$secrets/$1"
    if [ ! -s "$file" ]; then printf '%s' "$2" >"$file"; fi
    chmod 0444 "$file"
}

mkdir -p "$secrets"
chmod 0700 "$secrets"
echo '*' >"$secrets/.gitignore"
for each in ray_token operator_token prometheus_token grafana_password; do
    keep "$each" "$(random)"
done
keep lessrl_tokens "operator admin $(cat "$secrets/operator_token")
prometheus read $(cat "$secrets/prometheus_token")
"
echo "the secrets are in $secrets"
