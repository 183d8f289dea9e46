"""Ask the gateway of this machine whether it is ready: for a container's HEALTHCHECK, which has no curl.

Reads the port and whether there is TLS from the gateway's own variables. The certificate is not judged: it names the
address that clients use, and this is not one of them. None is shown either: who asks for health needs none, even with
`tls_client_ca`.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT = 2.0
"""Seconds for an answer, fewer than the check has."""


def main() -> int:
    """0 if it is ready, 1 otherwise, with the reason on standard output."""
    port = int(os.environ.get("DELTAWIRE_PORT", "8765"))
    if os.environ.get("DELTAWIRE_TLS_CERT"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
    else:
        connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        print(response.status, response.read().decode(errors="replace").strip())
    except (OSError, HTTPException) as error:
        print(error)
        return 1
    finally:
        connection.close()
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
