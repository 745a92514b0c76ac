#!/bin/bash
# A search, or a run, on several machines under Slurm, on a Ray that lives as long as the job. From the folder of the
# repository, on a login node:
#
#   sbatch --nodes 4 --cpus-per-task 16 examples/slurm_search.sh /shared/runs/search --data /shared/photos --backbone resnet50
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
# An unfinished run. A search continues by the same command.
if [[ -e "$folder/checkpoints/places.json" && -e "$folder/config.json" ]]; then
    flags=(--resume "$folder")
fi

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

if [[ -n "${SLURM_CPUS_PER_TASK:-}" ]]; then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # from Slurm 22.05 on, srun does not take it over
fi

hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
others=$((${#hosts[@]} - 1))
port=$((20000 + SLURM_JOB_ID % 10000))  # another job on the same machine has another
address=${hosts[0]}:$port
gpus=${SLURM_GPUS_ON_NODE:-0}
node=(--num-cpus "$SLURM_CPUS_ON_NODE" --num-gpus "$gpus" --block)
first=(srun --nodes 1 --ntasks 1 --overlap -w "${hosts[0]}")

"${first[@]}" ray start --head --port "$port" --include-dashboard=false "${node[@]}" &
"${first[@]}" python -m cluster.wait "$address" 1
if ((others)); then
    srun --nodes "$others" --ntasks "$others" --overlap --exclude "${hosts[0]}" \
        ray start --address "$address" "${node[@]}" &
    "${first[@]}" python -m cluster.wait "$address" "${#hosts[@]}"
fi

trap 'kill -TERM "${command:-$!}"' TERM  # before the command starts, so that none is missed
"${first[@]}" python "${HEADSTART_PROGRAM:-tune.py}" \
    --cluster "$address" --cache-dir "${HEADSTART_CACHE:-cache}" "${flags[@]}" &
command=$!
while kill -0 "$command" 2> /dev/null; do
    wait "$command" || true  # TERM ends the wait, but not the command, which first saves
done
wait "$command"  # for its exit status
