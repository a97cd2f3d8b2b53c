#!/usr/bin/env bash
# One run over all hosts of a TPU VM slice on which dcjax and jax[tpu] are installed:
#
#   launch/tpu_vm.sh NAME ZONE configs/dm.py:cifar100,ipc=50 gs-mount/runs/dm [--config.field=value ...]
#
# The workdir must be on a file system that all hosts see. The same command goes on with a run
# that was stopped.
set -euo pipefail
name=${1:?give the name of the TPU VM}
zone=${2:?give its zone}
config=${3:?give a preset, as configs/dm.py:cifar10,ipc=10}
workdir=${4:?give the folder of the run}
shift 4

printf -v command '%q ' dcjax condense --coordinator=auto --config="$config" --workdir="$workdir" "$@"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"
