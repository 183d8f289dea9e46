"""`deltawire tail`.

Tour: `command` — its options, and the run · `views` — which view a stream is shown in · `render` — frames as text ·
where Markdown is rendered, on a terminal: `rendered` — frames as Markdown · `blocks` — which part of it is finished ·
`markdown` — its lines · `phase` — what is said while nothing comes · `region` — the lines that change.
"""
