"""The drivers, one for each command of `dcjax`; their flags are in `launch/`."""
