#!/usr/bin/env bash
# Runs of several methods and seeds as one SLURM job array, each on a GPU of its own:
#
#   sbatch --array=0-14%4 --gpus=1 launch/slurm_array.sh \
#     dc,dsa,dm 0,1,2,3,4 cifar10,ipc=10 runs/cifar10-10 [--config.field=value ...]
#
# Task 0 is configs/dc.py:cifar10,ipc=10 with seed 0 in runs/cifar10-10/dc-0, task 1 the same with
# seed 1, task 5 dsa with seed 0, and so on; %4 runs four at a time. A method is the name of a file
# in configs/, or the path of a preset of your own. A run that its time stops goes on when its task
# is requeued, as with slurm.sh; `dcjax status runs/cifar10-10` shows all of them.
#SBATCH --job-name=dcjax
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
fail() {
  echo "slurm_array.sh: $1" >&2
  exit 2
}

IFS=, read -ra methods <<< "${1:?give methods, as dc,dsa,dm}"
IFS=, read -ra seeds <<< "${2:?give seeds, as 0,1,2}"
argument=${3:?give the argument of the presets, as cifar10,ipc=10}
folder=${4:?give the folder of the runs}
shift 4
for method in "${methods[@]}"; do
  [[ -n $method ]] || fail "a method is empty; give names with commas between them, as dc,dsa,dm"
done
for seed in "${seeds[@]}"; do
  [[ $seed =~ ^[0-9]+$ ]] || fail "seed '$seed' is not a whole number; give some, as 0,1,2"
done

last=$((${#methods[@]} * ${#seeds[@]} - 1))
index=${SLURM_ARRAY_TASK_ID-}
if [[ ! $index =~ ^[0-9]+$ ]] || ((index > last)); then
  fail "task '$index' is none of 0 to $last; start it by sbatch --array=0-$last"
fi
method=${methods[index / ${#seeds[@]}]}
seed=${seeds[index % ${#seeds[@]}]}
preset=$method
[[ $method == *.py ]] || preset=configs/$method.py
workdir=$folder/$(basename "$method" .py)-$seed

code=0
srun --ntasks=1 dcjax condense --config="$preset:$argument" --workdir="$workdir" --config.seed="$seed" "$@" || code=$?
if [[ $code == 143 ]]; then # stopped by SIGTERM, all saved
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$index" # by this name it is one task, not the array
fi
exit "$code"
