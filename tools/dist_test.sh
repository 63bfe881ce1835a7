#!/usr/bin/env bash
# usage: bash tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT in the environment.
set -e
CONFIG=$1
CHECKPOINT=$2
NUM_PROCESSES=$3
ROOT="$(cd "$(dirname "$0")/.." && pwd)"

PYTHONPATH="$ROOT:$PYTHONPATH" python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$NUM_PROCESSES" \
    "$ROOT/tools/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
