"""Who may do what: tokens, what they allow, and which pages may connect at all (SPEC §11).

A token becomes a `Grant` once, when a connection is made or a token replaced. What is asked afterwards is asked of the
grant: set look-ups, none of them per event. No message, log line or error of this package holds a token or a key.

Pure, with the clock as an argument:

- `grant` — what a connection may do on which streams
- `keys` — public keys and secrets; which algorithms they verify
- `key_material` — keys that look like secrets
- `tokens` — from a token's text to a grant
- `refusals` — why a token lets nobody in
- `credentials` — where a request carries its token
- `origins` — which pages may connect
- `signing` — making tokens, to try things out

With files and sockets:

- `jwks` — keys fetched from a URL, and kept
- `authenticator` — all of it, for the server
- `opening` — the authenticator that the settings ask for, if they do
"""

from deltawire.gateway.access.grant import EVERYTHING, Action, Grant
from deltawire.gateway.access.opening import open_authenticator
from deltawire.gateway.access.refusals import BadToken, NoKeys, UnknownKey

__all__ = ["EVERYTHING", "Action", "BadToken", "Grant", "NoKeys", "UnknownKey", "open_authenticator"]
