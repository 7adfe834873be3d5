"""A broker that lets in only who says who they are, and lets them do only what they may.

It listens four times beside the plain listener: with passwords, with passwords under TLS, with TLS alone, and with
certificates on both sides. `openssl` makes the certificates anew for each run; the broker reads them as PEM. Who comes
by the plain listener, which is the broker itself and the tests' own clients, may do everything.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from tests.helpers.kafka_broker import BrokerMissingError, Extras, KafkaBroker, Listener, free_ports, running_broker

USERS: Final = ("worker", "limited")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS: Final = {"SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL", "SSL": "SSL", "MUTUAL": "SSL"}
"""What each listener beside the plain one speaks; `MUTUAL` asks for a certificate of the client."""
_ANY_HOST: Final = "*"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Where the files are: an authority, a server and a client of it, and an authority that nobody knows."""

    folder: Path
    key_password: str

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def stranger(self) -> Path:
        return self.folder / "stranger.pem"

    @property
    def client(self) -> Path:
        return self.folder / "worker.pem"

    @property
    def client_key(self) -> Path:
        return self.folder / "worker.key"

    @property
    def locked_key(self) -> Path:
        """The client's key under its password."""
        return self.folder / "worker.locked.key"


def make_certificates(folder: Path) -> Certificates:
    """Make them by openssl.

    Raises:
        BrokerMissingError: there is no openssl.
    """
    if shutil.which("openssl") is None:
        raise BrokerMissingError("openssl is not on the path: the secured broker's certificates are made by it")
    folder.mkdir(parents=True)
    made = Certificates(folder=folder, key_password=secrets.token_hex(12))
    for name in ("ca", "stranger"):
        _openssl(folder, *_request(name), "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name in ("localhost", *USERS):
        own = ["-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=critical,CA:FALSE"]
        _openssl(folder, *_request(name), "-CA", "ca.pem", "-CAkey", "ca.key", *own)
    chain = [folder / "localhost.key", folder / "localhost.pem", made.authority]
    (folder / "broker.pem").write_text("".join(path.read_text() for path in chain))
    words = ["pkcs8", "-topk8", "-in", "worker.key", "-out", "worker.locked.key", "-passout", "env:KEY_PASSWORD"]
    _openssl(folder, *words, environment={"KEY_PASSWORD": made.key_password})
    return made


def _request(name: str) -> list[str]:
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    return ["req", "-x509", *kind, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]


def _openssl(folder: Path, *words: str, environment: dict[str, str] | None = None) -> None:
    told = os.environ | (environment or {})
    done = subprocess.run(["openssl", *words], cwd=folder, env=told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrokerMissingError(f"openssl {words[0]} failed, version 3 is needed: {done.stderr[-800:]}")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to come in: a listener, how it is spoken to, and by what one says who one is."""

    listener: str
    mechanism: str | None = None
    has_certificate: bool = False

    def __str__(self) -> str:
        return "-".join(filter(None, [self.listener, self.mechanism]))


WAYS: Final = (
    *(Way(listener=one, mechanism=by) for one in ("SASL_PLAINTEXT", "SASL_SSL") for by in MECHANISMS),
    Way(listener="SSL"),
    Way(listener="MUTUAL", has_certificate=True),
)


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that stand for some settings; an empty one is left out."""
    return {f"PENSTOCK_{name.upper()}": value for name, value in settings.items() if value}


class Secured:
    """A broker that is running, how to come to each of its listeners, and who may do what on it."""

    def __init__(
        self, broker: KafkaBroker, *, ports: dict[str, int], certificates: Certificates, password: str
    ) -> None:
        self.broker, self.certificates, self.password = broker, certificates, password
        self._ports = ports

    @property
    def bootstrap(self) -> str:
        """Where the tests' own clients come in, which may do everything."""
        return self.broker.bootstrap

    def settings(self, way: Way, *, user: str = "worker") -> dict[str, str]:
        """Return the settings of one way in, by name, the password among them."""
        found = {"brokers": self.at(way.listener), "security_protocol": PROTOCOLS[way.listener]}
        if way.mechanism is not None:
            found |= {"sasl_mechanism": way.mechanism, "sasl_username": user, "sasl_password": self.password}
        if found["security_protocol"].endswith("SSL"):
            found["ssl_cafile"] = str(self.certificates.authority)
        if way.has_certificate:
            own = self.certificates.folder
            found |= {"ssl_certfile": str(own / f"{user}.pem"), "ssl_keyfile": str(own / f"{user}.key")}
        return found

    def at(self, listener: str, *, host: str = "localhost") -> str:
        """Return the address of one listener; the certificate is for localhost alone."""
        return f"{host}:{self._ports[listener]}"

    def grant(self, user: str, rights: Sequence["Right"]) -> None:
        """Allow a user something."""
        with self._admin() as admin:
            made = admin.create_acls([_acl(user, right) for right in rights])
        assert not made["failed"], made

    def revoke(self, user: str, rights: Sequence["Right"]) -> None:
        """Allow it no more."""
        with self._admin() as admin:
            gone = admin.delete_acls([_filter(user, right) for right in rights])
        assert all(matched for _, matched, _ in gone), gone

    @contextlib.contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            yield admin
        finally:
            admin.close()


@dataclass(frozen=True, kw_only=True)
class Right:
    """What may be done with what: names that begin so."""

    kind: str
    prefix: str
    operation: str


def worker_rights(prefix: str) -> list[Right]:
    """Return what a worker needs whose topics, group and transactional id begin with one prefix."""
    topics = [Right(kind="TOPIC", prefix=prefix, operation=one) for one in ("READ", "WRITE", "DESCRIBE")]
    return [
        *topics,
        Right(kind="GROUP", prefix=prefix, operation="READ"),
        Right(kind="TRANSACTIONAL_ID", prefix=prefix, operation="WRITE"),
    ]


def _acl(user: str, right: Right) -> ACL:
    kind, operation = ResourceType[right.kind], ACLOperation[right.operation]
    pattern = ResourcePattern(kind, right.prefix, ACLResourcePatternType.PREFIXED)
    return ACL(f"User:{user}", _ANY_HOST, operation, ACLPermissionType.ALLOW, pattern)


def _filter(user: str, right: Right) -> ACLFilter:
    kind, operation = ResourceType[right.kind], ACLOperation[right.operation]
    pattern = ResourcePatternFilter(kind, right.prefix, ACLResourcePatternType.PREFIXED)
    return ACLFilter(f"User:{user}", _ANY_HOST, operation, ACLPermissionType.ALLOW, pattern)


@contextlib.contextmanager
def running_secured(make_folder: Callable[[], Path]) -> Iterator[Secured]:
    """Start a secured broker of our own, and stop it at the end."""
    certificates = make_certificates(make_folder() / "certificates")
    password = secrets.token_hex(12)
    ports = dict(zip(PROTOCOLS, free_ports(len(PROTOCOLS)), strict=True))
    extras = Extras(
        listeners=[Listener(name=name, protocol=PROTOCOLS[name], port=port) for name, port in ports.items()],
        properties=_properties(certificates, password),
        format_words=_scram_words(password),
    )
    with running_broker(make_folder, extras=extras) as broker:
        yield Secured(broker, ports=ports, certificates=certificates, password=password)


def _properties(certificates: Certificates, password: str) -> list[str]:
    login = "org.apache.kafka.common.security"
    users = " ".join(f'user_{user}="{password}"' for user in USERS)
    lines = [
        f"sasl.enabled.mechanisms={','.join(MECHANISMS)}",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={certificates.folder / 'broker.pem'}",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={certificates.authority}",
        "listener.name.mutual.ssl.client.auth=required",
        "ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
    ]
    for listener in ("sasl_plaintext", "sasl_ssl"):
        head = f"listener.name.{listener}"
        lines.append(f"{head}.plain.sasl.jaas.config={login}.plain.PlainLoginModule required {users};")
        scram = f"sasl.jaas.config={login}.scram.ScramLoginModule required;"
        lines += [f"{head}.{mechanism.lower()}.{scram}" for mechanism in MECHANISMS[1:]]
    return lines


def _scram_words(password: str) -> list[str]:
    made = [f"{one}=[name={user},password={password}]" for user in USERS for one in MECHANISMS[1:]]
    return [word for one in made for word in ("--add-scram", one)]
