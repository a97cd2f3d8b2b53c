"""Command lines: thin mains over `dcjax.condense` and `dcjax.evaluate`."""
