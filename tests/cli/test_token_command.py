"""`deltawire token`, and the options of the commands that show a token."""

from __future__ import annotations

import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.keys import RSA
from tests.support.minting import SECRET, everything, token, write_secret
from tests.support.processes import Run, Serve


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def test_a_new_key_is_its_owner_s_alone_and_replaces_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "key"
    done = await run("token", "--new-key", str(path))
    assert (done.status, done.output) == (0, "")
    assert f"--auth-key {path}" in done.errors
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert len(content.strip()) >= 32
    assert content.decode().strip() not in done.errors
    again = await run("token", "--new-key", str(path))
    assert again.status == 1
    assert "File exists" in again.errors
    assert path.read_bytes() == content


async def test_a_token_says_what_was_asked_for_and_no_more(run: Run, tmp_path: Path) -> None:
    key = write_secret(tmp_path)
    said = (
        "--subscribe",
        "a*",
        "--subscribe",
        "b",
        "--signal",
        "b",
        "--policy",
        "drop",
        "--subject",
        "me",
        "--class=low",
    )
    done = await run("token", "--key", key, *said, "--issuer", "us", "--audience", "gw", "--lifetime", "60")
    claims = jwt.decode(done.output.strip(), SECRET, ["HS256"], audience="gw", issuer="us")
    assert claims["exp"] - claims["iat"] == 60
    assert claims["sub"] == "me"
    assert claims["deltawire"] == {
        "subscribe": ["a*", "b"],
        "signal": ["b"],
        "policies": ["drop_newest"],
        "class": "low",
    }
    assert done.errors == ""
    bare = await run("token", env={"DELTAWIRE_AUTH_KEY": key})
    assert jwt.decode(bare.output.strip(), SECRET, ["HS256"])["deltawire"] == {}


@pytest.mark.parametrize(
    ("arguments", "warnings"),
    [
        (["--all", "--lifetime", "86400"], []),
        (["--policy", "drop"], ["this token allows nothing: say what, with --publish, --subscribe"]),
        (["--all", "--lifetime", "86401"], ["auth_max_lifetime, by default 86400 seconds"]),
        (["--lifetime", "86401"], ["this token allows nothing", "auth_max_lifetime"]),
    ],
)
async def test_a_token_that_gateways_may_refuse_is_made_with_a_warning(
    run: Run, tmp_path: Path, arguments: list[str], warnings: list[str]
) -> None:
    done = await run("token", "--key", write_secret(tmp_path), *arguments)
    assert (done.status, len(done.output.splitlines())) == (0, 1)
    for said, wanted in zip(done.errors.splitlines(), warnings, strict=True):
        assert said.startswith("deltawire: warning: ")
        assert wanted in said


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA, "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
async def test_a_private_key_signs_by_its_algorithm(
    run: Run,
    tmp_path: Path,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
    algorithm: str,
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(key))
    done = await run("token", "--key", str(path), "--all")
    assert set(jwt.decode(done.output.strip(), key.public_key(), [algorithm])["deltawire"]) == {
        "publish",
        "subscribe",
        "signal",
        "admin",
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"short", "5 bytes is too short"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "makes none"),
        (b'{"keys":[]}', "makes none"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "can't be read"),
        (b"Certificate:\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "makes none"),
        (bytes.fromhex("302e020100300506032b657004220420") + b"k" * 32, "seems to be a private key in DER"),
        (private_pem(ec.generate_private_key(ec.SECP521R1())), "expected a secret, or a public key"),
    ],
)
async def test_a_key_that_signs_nothing_is_told(run: Run, tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    done = await run("token", "--key", str(path), "--all")
    assert (done.status, done.output) == (1, "")
    assert why in done.errors


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--all"], "--key is needed"),
        (["--key", "k", "--subscribe", "a*b"], "expected stream ids"),
        (["--key", "k", "--lifetime", "0"], "--lifetime"),
        (["--key", "k", "--policy", "no"], "--policy"),
    ],
)
async def test_wrong_use_is_told(run: Run, arguments: list[str], why: str) -> None:
    done = await run("token", *arguments)
    assert done.status == 2
    assert why in done.errors


async def test_commands_show_their_token_from_option_variable_or_file(run: Run, serve: Serve, tmp_path: Path) -> None:
    served = await serve("--port", "0", "--auth-key", write_secret(tmp_path))
    held = everything()
    path = tmp_path / "token"
    path.write_text(f"{held}\n")
    said = await run(
        "publish", "demo", "--format", "text", "--close", "--token", held, "--url", served.url, stdin=b"hi"
    )
    assert said.status == 0, said
    from_variable = await run("tail", "demo", "--url", served.url, env={"DELTAWIRE_TOKEN": held})
    assert (from_variable.status, from_variable.output) == (0, "hi")
    for command in (("list",), ("info", "demo"), ("create", "other"), ("close", "other")):
        done = await run("streams", *command, "--token-file", str(path), "--url", served.url)
        assert done.status == 0, done
    beaten = await run(
        "streams", "list", "--token-file", str(path), "--url", served.url, env={"DELTAWIRE_TOKEN": "another"}
    )
    assert beaten.status == 0, "a flag wins over the environment"


async def test_commands_tell_what_the_gateway_refuses(run: Run, serve: Serve, tmp_path: Path) -> None:
    served = await serve("--port", "0", "--auth-key", write_secret(tmp_path))
    for command in (("tail", "demo"), ("streams", "list"), ("publish", "demo")):
        bare = await run(*command, "--url", served.url)
        assert (bare.status, "a token is needed" in bare.errors) == (1, True), bare
        expired = await run(*command, "--url", served.url, "--token", everything(-5))
        assert (expired.status, "the token has expired" in expired.errors) == (1, True), expired


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("tail", "demo"), "`subscribe`"),
        (("publish", "demo"), "`publish`"),
        (("streams", "create", "demo"), "`admin`"),
        (("streams", "close", "demo"), "`admin`"),
        (("streams", "info", "demo"), "`subscribe` or `admin`"),
    ],
)
async def test_commands_tell_what_the_token_lacks(
    run: Run, serve: Serve, tmp_path: Path, arguments: tuple[str, ...], needed: str
) -> None:
    served = await serve("--port", "0", "--auth-key", write_secret(tmp_path))
    small = await run(*arguments, "--url", served.url, "--token", token(signal=["*"]))
    assert (small.status, len(small.errors.splitlines())) == (1, 1)
    assert "the token does not allow" in small.errors
    assert f"it needs {needed} of " in small.errors
    assert small.errors.endswith("(HTTP 403)\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--token-file", "/nowhere"], "/nowhere: No such file"),
        (["--token-file", __file__, "--token", "a"], "give one"),
        (["--token", "two words"], "token"),
    ],
)
async def test_a_token_given_wrongly_is_told_before_any_attempt(run: Run, arguments: list[str], why: str) -> None:
    done = await run("tail", "demo", "--url", "ws://127.0.0.1:1", *arguments)
    assert done.status == 2
    assert why in done.errors


async def test_a_token_that_no_header_can_carry_is_told(run: Run) -> None:
    for text in ("é", "a\nb"):
        done = await run("streams", "list", "--url", "ws://127.0.0.1:1", "--token", text)
        assert done.status == 1
        assert "Traceback" not in done.errors
