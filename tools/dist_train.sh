#!/usr/bin/env bash
# Trains with several processes, one a GPU (on a machine without GPUs: through gloo):
#   tools/dist_train.sh CONFIG PROCESSES [flags of tools/train.py]
# On several nodes, run it on each with NNODES, NODE_RANK (0, 1, ...) and MASTER_ADDR (the first node); PORT is 29500.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 CONFIG PROCESSES [flags of tools/train.py]" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
if [ "${NNODES:-1}" != 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
    echo "MASTER_ADDR must name the first node where NNODES is not 1. Got NNODES=$NNODES and no MASTER_ADDR." >&2
    exit 2
fi

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
exec torchrun \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    --nproc-per-node="$processes" \
    "$tools/train.py" "$config" --launcher pytorch "$@"
