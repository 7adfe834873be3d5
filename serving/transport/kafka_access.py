"""Whether brokers let this process in, found out before any client is made, and what to change where they do not.

The client tries for ever and says only that it could not begin, whether a broker is away, the password is wrong or a
certificate is not trusted. So one connection is made here first, step by step as the client makes it: the name, TLS,
SASL, a question. A broker that is away is tried again; one that refuses is not, for nothing changes by itself.
"""

import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from kafka.errors import NoError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from policies.errors import Unable, UsageProblem
from serving.settings import Secret, ServeSettings

STEP_S: Final = 5.0
"""How long a broker may take to answer one step."""

_CLOSED_S: Final = 3.0
"""A broker that closes connections for so long is not about to end or to begin: it expects another protocol."""

_NAME_CODES: Final = (62, 64)
_TIME_CODES: Final = (9, 10)
"""X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH; _CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED. Source: OpenSSL's
x509_vfy.h."""

_UNSUPPORTED_MECHANISM, _ILLEGAL_STATE = 33, 34
_TLS_ALERT: Final = b"\x15\x03"
"""How an answer in TLS begins that refuses what was not TLS. Source: RFC 8446, section 5.1."""


class AccessRefused(Unable):
    """A broker does not let this process in, or is not trusted; trying again changes nothing."""

    def __init__(self, detail: str, *, remedy: str) -> None:
        super().__init__(f"{detail}: {remedy}")
        self.detail, self.remedy = detail, remedy


class SecurityFileRefused(UsageProblem):
    """A file that a setting of security names is not there, or does not hold what it must."""


class ClosedEarly(Unable, ConnectionError):
    """A broker closed the connection before it answered."""


@final
class HiddenText(str):
    """A text that shows as stars where its representation is printed, such as in a client's own log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def security_of(settings: ServeSettings) -> dict[str, Any]:
    """Return the client's options for security that some settings come to; files are looked at.

    Raises:
        SecurityFileRefused: a file is missing or holds something else.
    """
    protocol = settings.security_protocol
    found: dict[str, Any] = {}
    if protocol.startswith("SASL_"):
        found["sasl_mechanism"] = settings.sasl_mechanism
        found["sasl_plain_username"] = settings.sasl_username
        found["sasl_plain_password"] = _text(settings.sasl_password, settings.sasl_password_file)
    if protocol.endswith("SSL"):
        files = {name: getattr(settings, name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
        found |= {name: None if path is None else str(path) for name, path in files.items()}
        found["ssl_password"] = _text(settings.ssl_key_password, settings.ssl_key_password_file)
        found["ssl_check_hostname"] = None if settings.ssl_check_hostname else False
        _context_of(found)
    return {"security_protocol": protocol, **{name: value for name, value in found.items() if value is not None}}


def _text(secret: Secret | None, file: Path | None) -> HiddenText | None:
    if file is None:
        return None if secret is None else HiddenText(secret.reveal())
    try:
        return HiddenText(file.read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SecurityFileRefused(f"expected a password at {file}: {reason}") from None


def _context_of(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Make the context as the client makes one for each of its connections, so that renewed files are read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = options.get("ssl_check_hostname") is not False
    authorities, certificate, key = (options.get(name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"))
    password = options.get("ssl_password")
    try:
        if authorities is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(authorities)
    except (OSError, ValueError) as error:
        raise SecurityFileRefused(f"ssl_cafile: expected certificates in PEM at {authorities}: {error}") from error
    if certificate is not None:
        try:
            # Without a password OpenSSL would ask for it at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: password or "")
        except (OSError, ValueError) as error:
            raise SecurityFileRefused(
                f"ssl_certfile, ssl_keyfile, ssl_key_password: expected a certificate at {certificate} and its key at "
                f"{key or certificate}, in PEM, opened by the password: {error}"
            ) from None
    return context


def check_access(
    brokers: Sequence[str],
    options: Mapping[str, Any],
    *,
    client_id: str,
    patience_s: float,
    seconds: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until one broker lets this process in.

    Args:
        brokers: `HOST:PORT` each.
        options: of security, as `security_of` returns them.
        client_id: the name to ask under.
        patience_s: how long brokers that are away are tried.
        seconds: a monotonic clock.
        wait: sleeps.

    Raises:
        AccessRefused: those that answer refuse.
        ConnectionError: none answers.
    """
    began = seconds()
    while True:
        away: list[OSError] = []
        refusals: list[AccessRefused] = []
        for broker in brokers:
            try:
                enter(broker, options, client_id=client_id)
            except AccessRefused as refusal:
                refusals.append(refusal)
            except OSError as error:
                away.append(error)
            else:
                return
        if refusals:
            raise refusals[0]
        waited_s = seconds() - began
        closed = next((error for error in away if isinstance(error, ClosedEarly)), None)
        if waited_s >= patience_s or (closed is not None and waited_s >= _CLOSED_S):
            raise ConnectionError(f"none of {', '.join(brokers)} takes a connection: {closed or away[-1]}")
        wait(0.2)


def enter(broker: str, options: Mapping[str, Any], *, client_id: str) -> list[str]:
    """Connect to one broker as a client would, and return where the brokers say that they are.

    Raises:
        AccessRefused: it refuses, or is not trusted.
        OSError: it is away, or closes the connection.
    """
    host, _, port = broker.rpartition(":")
    host = host.strip("[]")
    protocol = str(options.get("security_protocol", "PLAINTEXT"))
    channel = socket.create_connection((host, int(port)), timeout=STEP_S)
    try:
        if protocol.endswith("SSL"):
            channel = _wrap(channel, broker, host, options)
        asking = _Asking(channel, broker, options, client_id=client_id)
        if protocol.startswith("SASL_"):
            _authenticate(asking, broker, host, options)
        answer = asking.ask(MetadataRequest(topics=[], version=4))
        return [f"{one.host}:{one.port}" for one in answer.brokers]
    finally:
        channel.close()


def _wrap(channel: socket.socket, broker: str, host: str, options: Mapping[str, Any]) -> socket.socket:
    try:
        return _context_of(options).wrap_socket(channel, server_hostname=host.rstrip("."))
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(error, broker, host) from error
    except (ssl.SSLEOFError, ConnectionError) as error:
        raise ClosedEarly(f"{broker} closes the connection when TLS begins: {_OTHER_PROTOCOL}") from error
    except ssl.SSLError as error:
        if "ALERT" in _reason(error) and any(word in _reason(error) for word in _OF_CERTIFICATES):
            raise _not_certified(error, broker, options) from error
        detail = f"{broker} does not speak TLS as expected ({_reason(error)})"
        raise AccessRefused(detail, remedy=_OTHER_PROTOCOL) from error


_OTHER_PROTOCOL: Final = "look whether security_protocol is that of its listener"
_OF_CERTIFICATES: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
"""Alerts by which a broker that speaks TLS 1.2 refuses a client without a certificate that it trusts."""


def _untrusted(error: ssl.SSLCertVerificationError, broker: str, host: str) -> AccessRefused:
    if error.verify_code in _NAME_CODES:
        return AccessRefused(
            f"the certificate of {broker} is not for the name {host} ({error.verify_message})",
            remedy="name the broker in --brokers as its certificate does, have it certified for this name, or, on a "
            "network that is trusted, set ssl_check_hostname to false",
        )
    if error.verify_code in _TIME_CODES:
        detail = f"the certificate of {broker} is not valid now ({error.verify_message})"
        return AccessRefused(detail, remedy="renew it, or mend the clock")
    return AccessRefused(
        f"the certificate of {broker} comes from an authority that is not known here ({error.verify_message})",
        remedy="let ssl_cafile name the certificates of the brokers' authority",
    )


def _not_certified(error: ssl.SSLError, broker: str, options: Mapping[str, Any]) -> AccessRefused:
    """Explain an alert about certificates; in TLS 1.3 that of the client is judged after the handshake."""
    if options.get("ssl_certfile") is None:
        detail = f"{broker} asks for a certificate of this process ({_reason(error)})"
        return AccessRefused(detail, remedy="let ssl_certfile and ssl_keyfile name one")
    return AccessRefused(
        f"{broker} does not accept the certificate at {options['ssl_certfile']} ({_reason(error)})",
        remedy="have it issued by an authority that the broker trusts, and renewed in time",
    )


@final
class _Asking:
    """Ask a broker over one connection, one question at a time."""

    def __init__(self, channel: socket.socket, broker: str, options: Mapping[str, Any], *, client_id: str) -> None:
        self._channel, self._broker, self._options = channel, broker, options
        self._protocol = KafkaProtocol(client_id=client_id, ident=broker)

    def ask(self, request: Any) -> Any:
        self._protocol.send_request(request)
        try:
            self._channel.sendall(self._protocol.send_bytes())
            while data := self._channel.recv(65_536):
                if data.startswith(_TLS_ALERT):
                    raise AccessRefused(f"{self._broker} speaks TLS", remedy="set security_protocol to SSL or SASL_SSL")
                answers = self._protocol.receive_bytes(data)
                if answers:
                    return answers[0][1]
        except TimeoutError:
            raise TimeoutError(f"{self._broker} takes a connection but does not answer within {STEP_S:g} s") from None
        except OSError as error:
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                raise _not_certified(error, self._broker, self._options) from error
            raise self._closed() from error
        raise self._closed()

    def _closed(self) -> ClosedEarly:
        protocol = self._options.get("security_protocol", "PLAINTEXT")
        return ClosedEarly(f"{self._broker} closes connections of security_protocol {protocol}: {_OTHER_PROTOCOL}")


def _authenticate(asking: _Asking, broker: str, host: str, options: Mapping[str, Any]) -> None:
    name = options["sasl_mechanism"]
    answer = asking.ask(SaslHandshakeRequest(mechanism=name, version=1))
    if answer.error_code == _UNSUPPORTED_MECHANISM:
        offered = ", ".join(sorted(answer.mechanisms))
        raise AccessRefused(f"{broker} does not take sasl_mechanism {name}", remedy=f"set it to one of {offered}")
    if answer.error_code == _ILLEGAL_STATE:
        raise AccessRefused(f"{broker} asks for no SASL", remedy="set security_protocol to SSL or PLAINTEXT")
    if (error := for_code(answer.error_code)) is not NoError:
        raise AccessRefused(f"{broker} refuses SASL ({error.__name__})", remedy="look at the broker's own log")
    mechanism = get_sasl_mechanism(name)(host=host, **options)
    while not mechanism.is_done():
        answer = asking.ask(SaslAuthenticateRequest(auth_bytes=mechanism.auth_bytes(), version=0))
        if answer.error_code:
            raise _not_authenticated(broker, options, f"{answer.error_message}")
        try:
            mechanism.receive(answer.auth_bytes)
        except (ValueError, KeyError) as error:  # the broker does not prove that it knows the password
            raise _not_authenticated(broker, options, str(error)) from error


def _not_authenticated(broker: str, options: Mapping[str, Any], reason: str) -> AccessRefused:
    return AccessRefused(
        f"{broker} does not accept the user {options['sasl_plain_username']} by {options['sasl_mechanism']} ({reason})",
        remedy="correct sasl_username and sasl_password, or make the user there",
    )


def _reason(error: ssl.SSLError) -> str:
    return error.reason or str(error)
