"""Keys of kinds that take long to make, once for all tests of a process."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

RSA = rsa.generate_private_key(65537, 2048)
