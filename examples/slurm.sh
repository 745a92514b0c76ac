#!/bin/bash
# A run on several machines under Slurm. From the folder of the repository, on a login node:
#
#   sbatch --nodes 2 --cpus-per-task 16 examples/slurm.sh /shared/runs/photos --data /shared/photos --backbone resnet50
#
# The first argument is the run folder, the others are flags of train.py. Submitted again, or requeued by Slurm, the run
# goes on where it was. All machines need the same path to the repository, its environment, the pictures, the run folder
# and the cache.
#SBATCH --job-name=headstart
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail

run=$1
shift
flags=(--output "$run" "$@")
# An unfinished run.
if [[ -e "$run/checkpoints/places.json" && -e "$run/config.json" ]]; then
    flags=(--resume "$run")
fi

if [[ -n "${SLURM_CPUS_PER_TASK:-}" ]]; then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # from Slurm 22.05 on, srun does not take it over
fi

port=$((20000 + SLURM_JOB_ID % 500 * 20))  # another job on the same machine has others
workers=()
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
    workers+=("\"$host:$((port + ${#workers[@]}))\"")
done
cluster="{\"worker\": [$(IFS=,; echo "${workers[*]}")]}"
export cluster

# shellcheck disable=SC2016 # each task has its own SLURM_PROCID
exec srun bash -c '
    export TF_CONFIG="{\"cluster\": $cluster, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    exec python train.py --strategy multiworker --cache-dir "${HEADSTART_CACHE:-cache}" "$@"
' train "${flags[@]}"
