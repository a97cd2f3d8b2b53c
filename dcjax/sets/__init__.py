"""Condensed sets: the file, and the formations that decode what it stores."""
