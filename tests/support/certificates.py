"""Certificates made when a test runs, in files as an operator has them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """Files of one authority and of what it issued to a gateway and to a client."""

    ca: str
    cert: str
    key: str
    client_cert: str
    client_key: str

    @property
    def settings(self) -> dict[str, str]:
        """As settings of a gateway."""
        return {"tls_cert": self.cert, "tls_key": self.key}

    @property
    def flags(self) -> tuple[str, ...]:
        """As flags of `deltawire serve`."""
        return (f"--tls-cert={self.cert}", f"--tls-key={self.key}")

    def context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """As a client that trusts the authority, and shows a certificate if asked to."""
        context = ssl.create_default_context(cafile=self.ca)
        if with_certificate:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context


def make_certificates(folder: Path) -> Certificates:
    """A new authority, and files for a gateway on 127.0.0.1; what the folder had is overwritten."""
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    own, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("client@example.org")
    files = Certificates(*(str(folder / f"{name}.pem") for name in Certificates._fields))
    authority.cert_pem.write_to_path(files.ca)
    for issued, cert, key in ((own, files.cert, files.key), (client, files.client_cert, files.client_key)):
        Path(cert).write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
    return files
