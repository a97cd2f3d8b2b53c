"""Command lines: thin mains over `dcjax.commands.condense` and `dcjax.evaluate`."""
