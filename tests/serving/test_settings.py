import json
import re
from pathlib import Path
from typing import Any

import pytest

from docs.generate import verbs
from serving.settings import (
    NAMES,
    Secret,
    ServeSettings,
    SettingsRefused,
    read_broker_settings,
    read_settings,
    settings_reference,
)

NEEDED = {"artifact": "artifact", "dir": "queue"}


def read(**layers: Any) -> ServeSettings:
    return read_settings(**{**layers, "flags": NEEDED | layers.get("flags", {})})


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"max_batch": 2, "stall_s": 5, "prefix": "file"}')
    environment = {"PENSTOCK_MAX_BATCH": "3", "PENSTOCK_STALL_S": "7"}
    settings = read(file=file, environment=environment, flags={"max_batch": 4, "stall_s": None})
    found = (settings.max_batch, settings.stall_s, settings.prefix, settings.group)
    assert found == (4, 7.0, "file", "penstock")


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"loops": ["decide", "join"], "follow": true, "metrics_port": 0}')
    (tmp_path / "s.toml").write_text('loops = ["decide", "join"]\nfollow = true\nmetrics_port = 0\n')
    assert read(file=tmp_path / "s.json") == read(file=tmp_path / "s.toml")


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    settings = read(environment={"PENSTOCK_LOOPS": "decide, join", "PENSTOCK_BROKERS": "a:1,b:2"})
    assert settings.loops == ("decide", "join")
    assert settings.brokers == ("a:1", "b:2")


@pytest.mark.parametrize(
    "layers",
    [
        {"flags": {"max_bach": 3}},
        {"environment": {"PENSTOCK_MAX_BACH": "3"}},
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(layers: dict[str, Any]) -> None:
    with pytest.raises(SettingsRefused, match="the nearest is 'max_batch'"):
        read(**layers)


def test_an_unknown_key_of_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("prefixx = 'a'")
    with pytest.raises(SettingsRefused, match=r"settings\.toml.*'prefix'"):
        read(file=file)


def test_the_folder_of_shared_data_is_no_setting() -> None:
    assert read(environment={"PENSTOCK_DATA": "/somewhere", "HOME": "/"}) == read()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_batch": 0}, "'max_batch'"),
        ({"max_batch": "many"}, "'max_batch'"),
        ({"metrics_port": 70_000}, "'metrics_port'"),
        ({"transport": "pigeon"}, "'transport'"),
        ({"loops": []}, "loops"),
        ({"transport": "kafka"}, "--brokers"),
        ({"catalogue": "c.json"}, "not both"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsRefused, match=message):
        read(flags=flags)


def test_something_to_serve_and_somewhere_to_read_are_needed() -> None:
    with pytest.raises(SettingsRefused, match="--artifact"):
        read_settings(flags={"dir": "queue"})
    with pytest.raises(SettingsRefused, match="--dir"):
        read_settings(flags={"artifact": "artifact"})


def test_a_transaction_per_partition_does_not_go_with_the_join() -> None:
    flags = {"transaction_per_partition": True}
    assert read(flags=flags).transaction_per_partition
    with pytest.raises(SettingsRefused, match="does not go with the join"):
        read(flags=flags | {"loops": ("decide", "join")})


@pytest.mark.parametrize("content", ["[1]", "{", '"text"'])
def test_a_file_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    with pytest.raises(SettingsRefused):
        read(file=file)


def test_a_missing_file_and_a_strange_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=r"none\.json"):
        read(file=tmp_path / "none.json")
    with pytest.raises(SettingsRefused, match="toml"):
        read(file=tmp_path / "settings.ini")


def test_a_secret_is_kept_but_never_printed(tmp_path: Path) -> None:
    settings = read(environment={"PENSTOCK_SASL_PASSWORD": "hunter2"})
    assert settings.sasl_password == Secret("hunter2")
    assert settings.sasl_password is not None
    assert settings.sasl_password.reveal() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings) + settings_reference()


def test_a_refused_secret_is_not_in_the_message(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"sasl_password": ["hunter2"]}))
    with pytest.raises(SettingsRefused) as caught:
        read(file=file)
    assert "hunter2" not in str(caught.value)


SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "hunter2"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sasl_username": "u"}, "sasl_username has no effect with security_protocol PLAINTEXT.*SASL_SSL"),
        ({"security_protocol": "SSL", "sasl_password": "hunter2"}, "sasl_password has no effect"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": "ca.pem"}, "ssl_cafile has no effect.*SSL or SASL_SSL"),
        ({"ssl_check_hostname": False}, "ssl_check_hostname has no effect"),
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism, sasl_username, sasl_password .*never a flag"),
        (SASL | {"sasl_password_file": "pw"}, "sasl_password or sasl_password_file, not both"),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "ssl_keyfile needs the certificate"),
        ({"security_protocol": "SSL", "ssl_key_password": "hunter2"}, "ssl_key_password needs the certificate"),
        ({"security_protocol": "TLS"}, "'security_protocol'"),
        ({"brokers": ["b"]}, "HOST:PORT"),
    ],
)
def test_settings_of_security_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    named = {"brokers": ["b:1"]} | settings
    for read_them in (read_broker_settings, lambda flags: read(flags=flags | {"transport": "kafka"})):
        with pytest.raises(SettingsRefused, match=message) as caught:
            read_them(flags=named)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        SASL,
        SASL | {"ssl_cafile": "ca.pem", "ssl_certfile": "own.pem"},
        {"security_protocol": "SSL", "ssl_check_hostname": "false"},
        {"security_protocol": "SSL", "ssl_certfile": "c.pem", "ssl_keyfile": "k.pem", "ssl_key_password_file": "pw"},
    ],
)
def test_settings_of_security_that_go_together_are_taken(settings: dict[str, Any]) -> None:
    assert read_broker_settings(flags={"brokers": ["b:1"]} | settings).brokers == ("b:1",)


def test_no_password_is_a_flag() -> None:
    parsers = verbs().values()
    flags = {option for parser in parsers for option in parser._option_string_actions if "password" in option}
    assert flags == {"--sasl-password-file", "--ssl-key-password-file"}


def test_the_reference_has_every_setting_with_a_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \| `(\w+)` \| (.+) \|$", settings_reference(), re.MULTILINE)
    assert [name for name, *_ in rows] == list(NAMES)
    assert all(variable == f"PENSTOCK_{name.upper()}" and meaning for name, _, variable, meaning in rows)
