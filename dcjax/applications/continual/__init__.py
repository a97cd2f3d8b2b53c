"""Continual learning with condensed memories."""
