"""`deltawire publish`.

Tour: `command` — its options · `run` — input, output, and the reasons to end early · `sources` — formats of the input ·
`pace` — the speed of a recorded answer · `child` — the command whose output is published.
"""
