#!/bin/bash
# A search, or a run, on several machines under Slurm, on a Ray that lives as long as the job. From the folder of the repository, on a
# login node:
#
#   sbatch --nodes 4 examples/slurm_search.sh /shared/runs/search --data /shared/photos --backbone resnet50
#
# The first argument is the search folder, the others are flags of tune.py. With HEADSTART_PROGRAM=train.py it is a run, for
# which the machines read the pictures and compute the frozen layers. Submitted again, or requeued by Slurm, both go on
# where they were. All machines need the same path to the repository, its environment, the pictures, the search
# folder and the cache.
#SBATCH --job-name=headstart-search
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

folder=$1
shift
flags=(--output "$folder" "$@")
if [[ -e "$folder/checkpoints/begun.json" ]]; then
    flags=(--resume "$folder")
fi

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

port=6379
hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
gpus=${SLURM_GPUS_ON_NODE:-0}
node=(--num-cpus "$SLURM_CPUS_ON_NODE" --num-gpus "$gpus" --block)

srun --nodes 1 --ntasks 1 --overlap -w "${hosts[0]}" \
    ray start --head --port "$port" --include-dashboard=false "${node[@]}" &
sleep "${RAY_START_SECONDS:-15}"
if ((${#hosts[@]} > 1)); then
    srun --nodes $((${#hosts[@]} - 1)) --ntasks $((${#hosts[@]} - 1)) --overlap --exclude "${hosts[0]}" \
        ray start --address "${hosts[0]}:$port" "${node[@]}" &
fi

trap 'kill -TERM "$command"' TERM
srun --nodes 1 --ntasks 1 --overlap -w "${hosts[0]}" \
    python "${HEADSTART_PROGRAM:-tune.py}" --cluster auto --cache-dir "${HEADSTART_CACHE:-cache}" "${flags[@]}" &
command=$!
wait "$command"
