"""Everything that can be set for `penstock serve`: default < file < environment < flag.

Each setting is one field: its type, its default and its meaning stand together, and the reference table is made from
them. Unknown keys are errors that name the nearest known one. A secret never prints.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final, get_args, get_origin

import msgspec
from msgspec import Meta

from policies.errors import UsageProblem

PREFIX: Final = "PENSTOCK_"
NOT_SETTINGS: Final = frozenset(
    {"PENSTOCK_DATA", "PENSTOCK_REQUIRE", "PENSTOCK_TEST_KAFKA", "PENSTOCK_TEST_TRANSACTION_VERSION"}
)
"""Variables of the same prefix that say something else: where tests find data and a broker, and what they require."""


class SettingsRefused(UsageProblem):
    """A setting is unknown, has a value it cannot have, or does not go with another."""


@final
class Secret:
    """Hold a text that must not show in logs, errors or tables.

    >>> Secret("hunter2")
    Secret(***)
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; call it only where it is used."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"


Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold the settings of one `penstock serve` process."""

    artifact: Annotated[
        Path | None, Meta(description="Folder of the artifact to serve, where there is no catalogue")
    ] = None
    catalogue: Annotated[Path | None, Meta(description="`catalogue.json`: what each domain runs; watched")] = None
    salt_file: Annotated[Path | None, Meta(description="File with the salt of all draws; none is the empty salt")] = (
        None
    )
    transport: Annotated[Literal["file", "kafka"], Meta(description="Where messages come from and results go")] = "file"
    loops: Annotated[
        tuple[Literal["decide", "join"], ...], Meta(description="Which loops this process runs, each in its own group")
    ] = ("decide",)
    max_batch: Annotated[Count, Meta(description="Messages per batch at most")] = 500
    latency_target_ms: Annotated[
        float,
        Meta(
            gt=0,
            description="Age of a request at its commit that 99 % are to stay below; batches are made larger within it",
        ),
    ] = 20.0
    metrics_port: Annotated[
        Port | None, Meta(description="Port of /healthz, /readyz and /metrics; 0 takes a free one; none serves none")
    ] = None
    metrics_host: Annotated[str, Meta(description="Address that the port listens at")] = "127.0.0.1"
    stall_s: Annotated[Seconds, Meta(description="Without progress for so long, the process counts as not alive")] = (
        60.0
    )
    lag_interval_s: Annotated[Seconds, Meta(description="How often the lag is measured")] = 5.0
    duplicate_window: Annotated[
        Count, Meta(description="How many decided requests a partition remembers to tell duplicates")
    ] = 100_000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="From which level on lines are logged")
    ] = "info"

    dir: Annotated[Path | None, Meta(description="Folder of the file transport")] = None
    follow: Annotated[
        bool, Meta(description="Whether inputs are awaited as they grow; else their end now is the end")
    ] = True
    poll_interval_s: Annotated[Seconds, Meta(description="How often a followed folder is looked at")] = 0.1

    join_hold_s: Annotated[
        Seconds, Meta(description="How long a decision is held for its outcomes when its horizon is longer")
    ] = 900.0
    join_max_open: Annotated[
        Count, Meta(description="How many decisions are held at most; the oldest go first, with what is known")
    ] = 200_000
    unit_window_s: Annotated[
        Seconds, Meta(description="How long after its last decision a unit stays open before it enters the estimate")
    ] = 1800.0

    brokers: Annotated[tuple[str, ...], Meta(description="Kafka brokers, HOST:PORT each")] = ()
    kafka_client: Annotated[
        Literal["python", "librdkafka"],
        Meta(description="Library that workers speak to Kafka by; librdkafka needs the extra of that name"),
    ] = "python"
    prefix: Annotated[str, Meta(description="First part of all topic names")] = "penstock"
    group: Annotated[str, Meta(description="Consumer group, and first part of the transactional id")] = "penstock"
    instance: Annotated[
        str | None, Meta(description="Stable name of this worker within the group; none takes the host's name")
    ] = None
    transaction_per_partition: Annotated[
        bool,
        Meta(
            description="Whether each partition has its own transactional id, which fences zombies by epoch; not with "
            "the join"
        ),
    ] = False
    create_topics: Annotated[bool, Meta(description="Whether missing topics are created at start")] = False
    topic_partitions: Annotated[
        Count, Meta(description="Partitions of topics created at start, where the requests have no topic yet")
    ] = 4
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Meta(description="How brokers are spoken to")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, Meta(description="How this worker says who it is")
    ] = None
    sasl_username: Annotated[str | None, Meta(description="User name at the brokers")] = None
    sasl_password: Annotated[Secret | None, Meta(description="Password at the brokers; never printed")] = None
    sasl_password_file: Annotated[
        Path | None, Meta(description="File with the password at the brokers, in the place of `sasl_password`")
    ] = None
    ssl_cafile: Annotated[
        Path | None,
        Meta(description="Certificates (PEM) of the authorities that brokers are trusted by; none takes the system's"),
    ] = None
    ssl_check_hostname: Annotated[
        bool, Meta(description="Whether a broker's certificate must be for the name it is reached by")
    ] = True
    ssl_certfile: Annotated[
        Path | None, Meta(description="This worker's certificate (PEM), where brokers ask for one")
    ] = None
    ssl_keyfile: Annotated[
        Path | None, Meta(description="The key of this worker's certificate (PEM), where it is a file of its own")
    ] = None
    ssl_key_password: Annotated[
        Secret | None, Meta(description="Password that opens the key of the certificate; never printed")
    ] = None
    ssl_key_password_file: Annotated[
        Path | None, Meta(description="File with that password, in the place of `ssl_key_password`")
    ] = None


NAMES: Final = ServeSettings.__struct_fields__


def read_settings(
    *, file: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> ServeSettings:
    """Put the settings together: default < file < environment < flag.

    Args:
        file: JSON or TOML, by its suffix; its keys are the settings' names.
        environment: `PENSTOCK_` and the name in capitals; lists are separated by commas.
        flags: values by setting's name; None is a flag that was not given.

    Raises:
        SettingsRefused: a key is unknown, a value is not of its type, or settings do not go together.

    >>> flags = {"artifact": "demo/artifact", "dir": "queue", "max_batch": None}
    >>> read_settings(environment={"PENSTOCK_MAX_BATCH": "64"}, flags=flags).max_batch
    64
    """
    settings = _put_together(file, environment, flags)
    _check_together(settings)
    return settings


def read_broker_settings(
    *, file: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> ServeSettings:
    """Put the settings together for what reads and writes topics but decides nothing; see `read_settings`.

    Raises:
        SettingsRefused: as `read_settings`, or no brokers are named.
    """
    settings = _put_together(file, environment, flags)
    if not settings.brokers:
        raise SettingsRefused("name the brokers with --brokers HOST:PORT")
    _check_brokers(settings)
    return settings


def _put_together(
    file: Path | None, environment: Mapping[str, str] | None, flags: Mapping[str, Any] | None
) -> ServeSettings:
    found: dict[str, tuple[Any, str]] = {}
    if file is not None:
        found.update({name: (value, str(file)) for name, value in _from_file(file).items()})
    found.update(_from_environment(environment or {}))
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _check_names(given, where="the flags")
    found.update({name: (value, f"--{name.replace('_', '-')}") for name, value in given.items()})
    return ServeSettings(**{name: _convert(name, value, where) for name, (value, where) in found.items()})


def settings_reference() -> str:
    """Return the table of all settings as Markdown; the documentation holds it, and a test compares the two."""
    lines = ["| setting | type | default | environment | meaning |", "|---|---|---|---|---|"]
    for field in msgspec.structs.fields(ServeSettings):
        kind, meaning = _describe(field.type)
        default = "none" if field.default in (None, ()) else f"`{_plain(field.default)}`"
        lines.append(f"| `{field.name}` | {kind} | {default} | `{PREFIX}{field.name.upper()}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _from_file(path: Path) -> dict[str, Any]:
    if path.suffix not in {".json", ".toml"}:
        raise SettingsRefused(f"expected a .json or .toml file of settings, found {path}")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsRefused(f"expected settings at {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsRefused(f"{path} is not {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsRefused(f"expected one object of settings in {path}, found {type(values).__name__}")
    _check_names(values, where=str(path))
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    ours = {key: value for key, value in environment.items() if key.startswith(PREFIX) and key not in NOT_SETTINGS}
    named = {key.removeprefix(PREFIX).lower(): (value, key) for key, value in ours.items()}
    _check_names(named, where="the environment")
    return {name: (_split(name, value), key) for name, (value, key) in named.items()}


def _split(name: str, value: str) -> Any:
    kind = _types()[name]
    return [part.strip() for part in value.split(",") if part.strip()] if get_origin(kind) is tuple else value


def _check_names(values: Mapping[str, Any], *, where: str) -> None:
    for name in values:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
            raise SettingsRefused(f"there is no setting {name!r} (found in {where}); the nearest is {near!r}")


def _convert(name: str, value: Any, where: str) -> Any:
    field_type = msgspec.structs.fields(ServeSettings)[NAMES.index(name)].type
    try:
        return msgspec.convert(value, field_type, strict=not isinstance(value, str | list), dec_hook=_decode)
    except msgspec.ValidationError as error:
        shown = "a value" if _types()[name] is Secret else repr(value)
        raise SettingsRefused(f"setting {name!r} cannot be {shown} (found in {where}): {error}") from error


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError(f"expected a text, found {type(value).__name__}")


def _check_together(settings: ServeSettings) -> None:
    if not settings.loops:
        raise SettingsRefused("loops must name decide, join or both")
    if settings.artifact is not None and settings.catalogue is not None:
        raise SettingsRefused("give an artifact or a catalogue, not both")
    if settings.artifact is None and settings.catalogue is None:
        raise SettingsRefused("give an artifact (--artifact DIR) or a catalogue (--catalogue FILE)")
    if settings.transport == "file" and settings.dir is None:
        raise SettingsRefused("the file transport needs a folder; name one with --dir")
    if settings.transport == "kafka" and not settings.brokers:
        raise SettingsRefused("the kafka transport needs brokers; name them with --brokers HOST:PORT")
    if settings.transaction_per_partition and "join" in settings.loops:
        raise SettingsRefused(
            "transaction_per_partition does not go with the join, which commits positions of several partitions at "
            "once; run the join in a process of its own without it"
        )
    if settings.transaction_per_partition and settings.kafka_client == "librdkafka":
        raise SettingsRefused(
            "transaction_per_partition goes by kafka_client python alone; leave one of the two settings out"
        )
    _check_brokers(settings)


def _check_brokers(settings: ServeSettings) -> None:
    for broker in settings.brokers:
        host, _, port = broker.rpartition(":")
        if not host or not port.isdigit():
            raise SettingsRefused(f"a broker is named HOST:PORT, found {broker!r}")
    if settings.brokers:
        _check_security(settings)


def _check_security(settings: ServeSettings) -> None:
    """Refuse settings of security that would go unused, for they were meant to protect something."""
    protocol = settings.security_protocol
    for is_used, words, names in (
        (protocol.startswith("SASL_"), "SASL_SSL or SASL_PLAINTEXT", _SASL),
        (protocol.endswith("SSL"), "SSL or SASL_SSL", _SSL),
    ):
        unused = [name for name in names if getattr(settings, name) not in (None, True)]
        if unused and not is_used:
            raise SettingsRefused(
                f"{unused[0]} has no effect with security_protocol {protocol}: set security_protocol to {words}, or "
                f"leave {', '.join(unused)} out"
            )
    for name in ("sasl_password", "ssl_key_password"):
        if getattr(settings, name) is not None and getattr(settings, f"{name}_file") is not None:
            raise SettingsRefused(f"give {name} or {name}_file, not both")
    if protocol.startswith("SASL_"):
        _check_user(settings)
    own = [name for name in _SSL[2:] if getattr(settings, name) is not None]
    if own and settings.ssl_certfile is None:
        raise SettingsRefused(f"{own[0]} needs the certificate that it belongs to: name it by ssl_certfile")


def _check_user(settings: ServeSettings) -> None:
    missing = [name for name in _SASL[:2] if getattr(settings, name) is None]
    if settings.sasl_password is None and settings.sasl_password_file is None:
        missing.append(f"sasl_password (by {PREFIX}SASL_PASSWORD or a file, never a flag) or sasl_password_file")
    if missing:
        raise SettingsRefused(f"security_protocol {settings.security_protocol} needs {', '.join(missing)}")


_SASL: Final = ("sasl_mechanism", "sasl_username", "sasl_password", "sasl_password_file")
_SSL: Final = (
    "ssl_cafile",
    "ssl_check_hostname",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_key_password",
    "ssl_key_password_file",
)


def _types() -> dict[str, Any]:
    """Return each setting's type without its description and without None."""
    return {field.name: _bare(field.type) for field in msgspec.structs.fields(ServeSettings)}


def _bare(kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    options = [option for option in get_args(kind) if option is not type(None)]
    return _bare(options[0]) if type(None) in get_args(kind) and len(options) == 1 else kind


def _describe(kind: Any) -> tuple[str, str]:
    meaning = next((meta.description for meta in kind.__metadata__ if meta.description), "") or ""
    bare = _bare(kind)
    if get_origin(bare) is tuple:
        inner = get_args(bare)[0]
        return f"list of {_words(inner)}", meaning
    return _words(bare), meaning


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{option}`" for option in get_args(kind))
    return {str: "text", int: "integer", float: "number", bool: "boolean", Path: "path", Secret: "secret"}[kind]


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
