"""The gateway: streams as logs, consumers as cursors, and the sockets round them.

Imports point down only: `cli → server, client → hub → engines → streams → protocol`; a test reads them.

- `streams` — the pure core: log, cursor, policies, folding, producers, manager
- `engines` — where committed events live
- `hub` — streams on an event loop, for Python programs and for the server
- `server` — WebSocket and HTTP endpoints
- `client` — Publisher and Subscriber for Python programs
- `cli` — the `deltawire` command
- `config` — settings; `files` — reading what they name; `logs` — structured logs
"""

if __name__ != "deltawire.gateway":
    raise ImportError("import deltawire.gateway: under another name its modules would be loaded twice")
