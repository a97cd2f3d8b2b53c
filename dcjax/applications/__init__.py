"""What the papers do with condensed sets: each a command, over the public parts of the package."""
