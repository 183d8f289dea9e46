"""What happens to a request before its connection is accepted (SPEC §2.3).

- `pipeline` — the steps, in order; the first that returns a response ends the request
- `request` — a request under judgement
- `auth` — certificate, origin, token and permission
- `steps` — limits that need the request; limits on sockets alone are in `accepting.handshakes`
"""
