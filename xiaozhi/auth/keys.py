"""Keys that sign and verify tokens, and their files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.logger import Logger

from xiaozhi.auth.settings import AuthSettings
from xiaozhi.base.errors import ConfigError

_SHORTEST_SECRET = 32  # bytes: what RFC 7518 demands of HS256
_LARGEST_KEY_FILE = 65536

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that sign and verify tokens.

    :ivar signing: None: tokens can only be verified.
    """

    algorithm: str
    signing: str | PrivateKey | None = field(repr=False)
    checking: str | PublicKey = field(repr=False)


class KeyFile:
    """A secret in a file, on which two services that start at once agree.

    :param path: the file.
    :param key: the configuration key to name in errors.
    """

    _log = Logger()

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key

    def secret(self) -> str:
        """Return the HS256 secret; generated at first use.

        :raises ConfigError: unreadable, unwritable, or too short.
        """
        text = (
            self.read_or_make(lambda: secrets.token_urlsafe(48).encode())
            .decode("utf-8", "replace")
            .strip()
        )
        if len(text.encode()) < _SHORTEST_SECRET:
            raise ConfigError(
                f"{self._key}: {self.path} holds fewer than {_SHORTEST_SECRET} bytes;"
                " remove it to generate a new key"
            )
        return text

    def private_key(self, algorithm: str) -> PrivateKey:
        """Return the private key; a pair is generated at first use, with the public key in
        ``<name>.pub`` for processes that only verify.
        """
        key = _parse_private(self.read_or_make(lambda: _new_pem(algorithm)), self._key, self.path)
        with suppress(ConfigError):  # for convenience: read only if configured
            KeyFile(self.path.with_name(self.path.name + ".pub"), self._key).read_or_make(
                lambda: key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                ),
            )
        return key

    def read(self) -> bytes:
        """:raises ConfigError: it cannot be read."""
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_LARGEST_KEY_FILE + 1)
        except OSError as error:
            raise ConfigError(
                f"{self._key}: {self.path} cannot be read: {error.strerror};"
                " it must be there and readable by this user"
            ) from None
        if len(data) > _LARGEST_KEY_FILE:
            raise ConfigError(f"{self._key}: {self.path} is too large for a key")
        if stat.S_ISREG(mode) and mode & 0o077 and b"PUBLIC KEY" not in data:
            self._log.warn(
                "{key}: {path} can be read by other users (mode {mode}); chmod 600 it",
                key=self._key,
                path=str(self.path),
                mode=f"{stat.S_IMODE(mode):o}",
            )
        return data

    def read_or_make(self, make: Callable[[], bytes]) -> bytes:
        """Read the file; if it is missing, write the result of ``make()``, mode 0600. The
        file appears with its whole content, and a second process reads what the first one
        wrote.
        """
        if not os.path.lexists(self.path):
            try:
                self._write_once(make())
            except OSError as error:
                hint = ""
                if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                    hint = "; make the directory writable or set another place"
                raise ConfigError(
                    f"{self._key}: {self.path} cannot be made: {error.strerror}{hint}"
                ) from None
        return self.read()

    def _write_once(self, data: bytes) -> None:
        _make_private_directories(self.path.parent)
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, self.path)  # unlike a rename, never overwrites
            except FileExistsError:
                return
            self._log.info("generated a new key: {path}", path=str(self.path))
        finally:
            os.unlink(temporary)


def _make_private_directories(directory: Path) -> None:
    """Make the missing directories of a path, each with mode 0700."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)


def _new_pem(algorithm: str) -> bytes:
    key: PrivateKey
    if algorithm == "RS256":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _parse_private(pem: bytes, key: str, path: Path) -> PrivateKey:
    try:
        parsed = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise ConfigError(f"{key}: {path} is not an unencrypted PEM private key") from None
    if not isinstance(parsed, PrivateKey):
        raise ConfigError(f"{key}: {path} is neither an RSA nor an elliptic-curve key")
    return parsed


def _parse_public(pem: bytes, key: str, path: Path) -> PublicKey:
    try:
        parsed = serialization.load_pem_public_key(pem)
    except ValueError:
        raise ConfigError(f"{key}: {path} is not a PEM public key") from None
    if not isinstance(parsed, PublicKey):
        raise ConfigError(f"{key}: {path} is neither an RSA nor an elliptic-curve key")
    return parsed


def _check_kind(key: PrivateKey | PublicKey, algorithm: str, where: str) -> None:
    if algorithm == "RS256":
        fits = isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey) and key.key_size >= 2048
    else:
        fits = isinstance(
            key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey
        ) and isinstance(key.curve, ec.SECP256R1)
    if not fits:
        needed = "an RSA key of 2048 bits or more" if algorithm == "RS256" else "a P-256 key"
        raise ConfigError(f"{where}: auth.algorithm {algorithm} needs {needed}")


def read_secret(path: Path, key: str) -> bytes:
    """Read a secret from a file; warn if other users can read it.

    :param key: the configuration key to name in errors.
    :raises ConfigError: it cannot be read.
    """
    return KeyFile(path, key).read()


def load_keys(settings: AuthSettings) -> Keys:
    """Return the configured keys; generate those that are missing.

    :raises ConfigError: names the setting and the file.
    """
    settings = settings.kept_in(Path("var"))
    if settings.algorithm == "HS256":
        if settings.key:
            if len(settings.key.encode()) < _SHORTEST_SECRET:
                raise ConfigError(f"auth.key: needs at least {_SHORTEST_SECRET} bytes")
            return Keys("HS256", settings.key, settings.key)
        secret = KeyFile(Path(settings.key_file), "auth.key_file").secret()
        return Keys("HS256", secret, secret)
    return _load_pair(settings)


def _load_pair(settings: AuthSettings) -> Keys:
    algorithm = settings.algorithm
    if settings.key:
        raise ConfigError(f"auth.key: is for HS256; {algorithm} takes auth.private_key_file")
    private: PrivateKey | None = None
    where = "auth.private_key_file"
    if settings.private_key_file:
        path = Path(settings.private_key_file)
        private = _parse_private(KeyFile(path, where).read(), where, path)
    elif not settings.public_key_file:
        path = Path(f"{settings.key_file}.{algorithm.lower()}.pem")
        where = "auth.key_file"
        private = KeyFile(path, where).private_key(algorithm)
    if private is not None:
        _check_kind(private, algorithm, where)
    if not settings.public_key_file:
        assert private is not None
        return Keys(algorithm, private, private.public_key())
    where = "auth.public_key_file"
    path = Path(settings.public_key_file)
    public = _parse_public(KeyFile(path, where).read(), where, path)
    _check_kind(public, algorithm, where)
    if private is not None and private.public_key() != public:
        raise ConfigError(f"{where}: does not belong to auth.private_key_file")
    return Keys(algorithm, private, public)
