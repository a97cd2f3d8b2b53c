"""`python -m dcjax`: the command `dcjax`."""

from dcjax.launch.main import main

if __name__ == "__main__":
  main()
