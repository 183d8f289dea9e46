"""A terminal, for the commands that draw on one.

Tour: `drawing` — at a bounded rate · `keyboard` — single keys, as they are pressed · `keys` — their names.
"""
