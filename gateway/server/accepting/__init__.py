"""From listening sockets to complete requests.

- `listening` — the sockets to accept on; `exposure` — who can reach them
- `tls` — certificates, replaced while running; `unwrapping` — handshakes of TLS
- `handshakes` — sockets whose request is incomplete, and those refused
- `limits` — how many connections there may be, and from whom; `rate` — token buckets
- `flood` — how much one peer may send
- `forwarding` — the client's address behind trusted proxies
- `descriptors` — as many file descriptors as the system allows
"""
