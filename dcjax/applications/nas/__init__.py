"""Architecture search on condensed sets."""
