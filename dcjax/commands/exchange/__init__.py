"""Sets of other programs: read from their files, and written for them.

`importing` is `dcjax import`: `readers` finds arrays in a file, `meaning` says what their numbers
are, and `adopt` makes a `SyntheticSet` of them. `exports` is `dcjax export`, whose data card is in
`card`.
"""
