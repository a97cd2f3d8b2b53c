"""Spoken words as spectrograms: the speech experiment of IDC (Kim et al., ICML 2022), Table 4.

Accuracy in the paper, ConvNet-4, Mini Speech Commands, 10 / 20 spectrograms per word:

  random 42.6 / 57.0   herding 56.2 / 72.9   DSA 65.0 / 74.0   DM 69.1 / 77.2
  IDC-I  73.3 / 83.0   IDC     82.9 / 86.6   and 93.4 with all of them

IDC cuts a stored spectrogram into two along time; `--config.formation.factor=1` is IDC-I.

  dcjax condense --config configs/speech.py:idc,ipc=10 --workdir runs/idc-speech

Mini Speech Commands is downloaded; `--config.dataset.data_dir=FOLDER` takes the words of a folder.

`dcjax select` takes `configs/speech.py:herding,ipc=10`, and `dcjax table --table idc/4` runs all.
Herding is greedy, and 'random' are the first spectrograms of each word (authors' code);
`--config.selection.random=drawn` draws them. Whenever a network of IDC begins, values below the
least of the real spectrograms are brought up to it (authors' code); the text does not say so:
`--config.clamp=False`.
"""

from ml_collections import ConfigDict

from dcjax.config import complete, presets


def get_config(argument: str | None = None) -> ConfigDict:
  """The preset; the argument names the method, `ipc=N`, and `smoke`, all optional.

  The methods are those of `presets.SPEECH_METHODS`, by default IDC.
  """
  given = presets.arguments(argument, "idc", presets.SPEECH_METHODS, kind="method")
  method = given["method"]
  own = presets.speech(method) | presets.IDC_CORESETS.get(method, {})
  config = complete({**own, "ipc": given["ipc"]})
  return presets.smoke(config) if given["smoke"] else config
