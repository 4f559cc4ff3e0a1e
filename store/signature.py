"""Sign the chain's tip with an Ed25519 key (RFC 8032), and check such a signature. The key is the user's.

Whoever can write the log can rebuild its chain; only who holds the key can sign the new tip. So a signed tip
vouches for the log up to its row even when it is kept beside the log.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from .errors import UsageError, VerifyError
from .hashes import canonical
from .records import Digest, Frozen, Time, utc_now
from .verify import Tip

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PURPOSE = "pilothouse log tip 1"  # signed too, so that the signature is good for nothing else


class SignedTip(Frozen):
    """A tip, when it was signed, the signer's public key and the signature, both in hexadecimal."""

    tip: str
    signed_at: Time
    public_key: Digest
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    @property
    def message(self) -> bytes:
        """What the signature covers."""
        return canonical({"purpose": PURPOSE, "tip": self.tip, "signed_at": self.signed_at}).encode()


def sign(tip: Tip, keyfile: Path) -> SignedTip:
    """Sign `tip` with the private key in a PEM file; the key is read, used and let go.

    Raises UsageError where the file holds no Ed25519 private key without a passphrase, or `cryptography` is
    not installed.
    """
    key = _private(keyfile)
    blank = SignedTip(
        tip=str(tip),
        signed_at=utc_now(),
        public_key=key.public_key().public_bytes_raw().hex(),
        signature="0" * 128,
    )
    return blank.model_copy(update={"signature": key.sign(blank.message).hex()})


def checked(text: str, public_key: Path | None) -> str:
    """Return the tip of a signed tip (JSON) whose signature holds; with `public_key`, by that key's holder.

    Raises UsageError for something else than a signed tip, VerifyError when the signature is not good.
    """
    try:
        signed = SignedTip.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(
            "this is no signed tip; give what `pilothouse log tip --sign KEY` printed"
        ) from error
    _installed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if public_key is not None and _public(public_key) != signed.public_key:
        raise VerifyError(f"the tip was signed with the key {signed.public_key}, not with {public_key}")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.public_key)).verify(
            bytes.fromhex(signed.signature), signed.message
        )
    except (InvalidSignature, ValueError) as error:
        raise VerifyError(
            f"the signature of the tip {signed.tip} is not good: one of them was changed"
        ) from error
    return signed.tip


def _private(path: Path) -> Ed25519PrivateKey:
    _installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_bytes(path), password=None)
    except (ValueError, TypeError) as error:  # the library's own words may tell of the key
        raise _no_key(path, "private key without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private key")
    return key


def _public(path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_bytes(path))
    except ValueError as error:
        raise _no_key(path, "public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public key")
    return key.public_bytes_raw().hex()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the key file {path} cannot be read ({error.strerror})") from error


def _no_key(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path} holds no Ed25519 {what} in PEM; make one: openssl genpkey -algorithm ed25519 -out key.pem; "
        "openssl pkey -in key.pem -pubout -out key.pub.pem"
    )


def _installed() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "signatures need cryptography; install it: pip install 'pilothouse[sign]'"
        ) from error
