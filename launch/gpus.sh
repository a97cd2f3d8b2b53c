#!/usr/bin/env bash
# One run over some GPUs of this machine, in one process; without this script it takes them all:
#
#   launch/gpus.sh 0,1,2,3 configs/dm.py:cifar100,ipc=50 runs/dm-cifar100-50 [--config.field=value ...]
set -euo pipefail
gpus=${1:?give the GPUs by number, as 0,1,2,3}
config=${2:?give a preset, as configs/dm.py:cifar10,ipc=10}
workdir=${3:?give the folder of the run}
shift 3

CUDA_VISIBLE_DEVICES=$gpus exec dcjax condense --config="$config" --workdir="$workdir" "$@"
