"""`deltawire top`.

Tour: `command` — its options · `run` — keys, looks and the screen · `looking` — requests, in a thread · `rows` — what
is known of the streams · `table` — which are shown, and what each key does · `follow` — one stream that was opened.
"""
