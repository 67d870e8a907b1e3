#!/usr/bin/env bash
# All that only a GPU can show, in one call of at most ten minutes: a line of JSON for each check, kept in $OUT too where
# that is set.
#     bash benchmarks/gpu.sh
# PYTHON names an interpreter with a torch for CUDA (python3 by default).
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if ! "$python" -c "import av, decord, lancedb, pydantic, safetensors, sklearn, torch, transformers"; then
    echo "install what is missing without touching torch: pip install --no-deps -r requirements.lock, less its torch" >&2
    exit 4
fi
"$python" benchmarks/gpu.py "$@" | tee "${OUT:-$(mktemp -d)}/gpu.jsonl"
