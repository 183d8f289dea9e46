"""`deltawire bench`.

Tour: `command` — its options · `run` — connects, publishes, follows · `figures` — what came of it.
"""
