"""Used in every room: errors, types, files, and what the user sees while it works."""
