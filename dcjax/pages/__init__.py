"""The page of a run, or of several: what their files say, in one HTML file."""
