#!/usr/bin/env bash
# One run over all GPUs of a SLURM job, a process for each:
#
#   sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 launch/slurm.sh \
#     configs/dm.py:cifar100,ipc=50 runs/dm-cifar100-50 [--config.field=value ...]
#
# The workdir must be on a file system that all nodes see. Two minutes before its time is up the
# run is asked to stop; it saves, and the requeued job goes on from there.
#SBATCH --job-name=dcjax
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
config=${1:?give a preset, as configs/dm.py:cifar10,ipc=10}
workdir=${2:?give the folder of the run}
shift 2

code=0
srun --kill-on-bad-exit=1 dcjax condense --coordinator=auto --config="$config" --workdir="$workdir" "$@" || code=$?
if [[ $code == 143 ]]; then # stopped by SIGTERM, all saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
