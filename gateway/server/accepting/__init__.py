"""From listening sockets to complete requests.

- `listening` — the sockets to accept on, and who can reach them
- `tls` — certificates, replaced while running, and handshakes of TLS
- `handshakes` — sockets whose request is incomplete, and those refused
- `limits` — how many connections there may be, and from whom
- `rate` — token buckets, and how much one peer may send
- `forwarding` — the client's address behind trusted proxies
- `descriptors` — as many file descriptors as the system allows
"""
