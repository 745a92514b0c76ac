#!/bin/bash
# A run on several machines under Slurm. From the folder of the repository, on a login node:
#
#   sbatch --nodes 2 examples/slurm.sh /shared/runs/photos --data /shared/photos --backbone resnet50
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
if [[ -e "$run/checkpoints/begun.json" ]]; then
    flags=(--resume "$run")
fi

port=12340
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
