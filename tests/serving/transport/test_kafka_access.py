"""Coming in at brokers that ask who comes: each way in decides exactly once, each refusal says what to change."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from serving.settings import Secret, ServeSettings
from serving.transport.kafka_access import (
    AccessRefused,
    ClosedEarly,
    HiddenText,
    SecurityFileRefused,
    check_access,
    enter,
    security_of,
)
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_secured import WAYS, Secured, Way, environment_of, make_certificates, worker_rights
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import ROOT
from tests.helpers.kafka_workloads import run
from tests.helpers.lineups import artifact_of
from tests.helpers.listening import listening

DOMAIN = "ad_load"
SCRAM = Way(listener="SASL_SSL", mechanism="SCRAM-SHA-512")
MUTUAL = Way(listener="MUTUAL", has_certificate=True)
PLAIN = {"security_protocol": "PLAINTEXT"}
_MAIN = "import sys; from penstock.main import main; sys.exit(main(sys.argv[1:]))"

on_secured = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


class Clock:
    """Seconds that pass only while one waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def seconds(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_broker_that_closes_connections_is_tried_for_a_while_and_then_the_protocol_is_doubted() -> None:
    clock = Clock()
    with listening(lambda channel: None) as broker, pytest.raises(ConnectionError, match="security_protocol"):
        check_access([broker], PLAIN, client_id="c", patience_s=60.0, seconds=clock.seconds, wait=clock.wait)
    assert 3.0 <= clock.now_s < 4.0


def test_a_broker_that_is_away_is_tried_as_long_as_patience_lasts() -> None:
    clock = Clock()
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 takes a connection"):
        check_access(["127.0.0.1:1"], PLAIN, client_id="c", patience_s=7.0, seconds=clock.seconds, wait=clock.wait)
    assert 7.0 <= clock.now_s < 8.0


def test_an_answer_in_tls_to_what_is_not_tls_is_told() -> None:
    def alert(channel: socket.socket) -> None:
        channel.recv(1024)
        channel.sendall(b"\x15\x03\x03\x00\x02\x02\x50")

    with listening(alert) as broker, pytest.raises(AccessRefused, match="speaks TLS: set security_protocol to SSL"):
        enter(broker, PLAIN, client_id="c")


def test_what_answers_tls_in_plain_words_is_told() -> None:
    def answer(channel: socket.socket) -> None:
        channel.recv(1024)
        channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(answer) as broker, pytest.raises(AccessRefused, match="does not speak TLS as expected"):
        enter(broker, {"security_protocol": "SSL"}, client_id="c")


def test_a_connection_that_ends_when_tls_begins_may_be_tried_again() -> None:
    with listening(lambda channel: None) as broker, pytest.raises(ClosedEarly, match="when TLS begins"):
        enter(broker, {"security_protocol": "SSL"}, client_id="c")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes certificates, is not on the path")
def test_in_tls_1_2_a_missing_certificate_is_told_when_tls_is_agreed(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "made")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(made.folder / "broker.pem")
    context.load_verify_locations(made.authority)
    context.verify_mode = ssl.CERT_REQUIRED

    def agree(channel: socket.socket) -> None:
        with suppress(ssl.SSLError):
            context.wrap_socket(channel, server_side=True)

    options = {"security_protocol": "SSL", "ssl_cafile": str(made.authority)}
    with listening(agree) as broker, pytest.raises(AccessRefused, match="asks for a certificate of this process"):
        enter(f"localhost:{broker.rpartition(':')[2]}", options, client_id="c")


def test_a_password_is_read_from_its_file_and_shows_nowhere(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    settings = ServeSettings(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_username="u",
        sasl_password_file=tmp_path / "password",
    )  # fmt: skip
    options = security_of(settings)
    assert options["sasl_plain_password"] == "hunter2"
    assert "hunter2" not in repr(options)
    assert repr(HiddenText("hunter2")) == "'***'"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"security_protocol": "SSL", "ssl_cafile": Path("/none/ca.pem")}, r"ssl_cafile.*/none/ca\.pem"),
        ({"security_protocol": "SSL", "ssl_cafile": Path(__file__)}, "expected certificates in PEM"),
        ({"security_protocol": "SSL", "ssl_certfile": Path(__file__)}, "expected a certificate at"),
        ({"security_protocol": "SASL_SSL", "sasl_password_file": Path("/none/pw")}, "expected a password at /none/pw"),
    ],
)
def test_a_file_that_is_not_what_it_must_be_is_named(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SecurityFileRefused, match=message):
        security_of(ServeSettings(**settings))


def test_settings_that_a_protocol_does_not_use_do_not_reach_the_client() -> None:
    settings = ServeSettings(sasl_password=Secret("hunter2"), ssl_cafile=Path("/none"))
    assert security_of(settings) == PLAIN


class TestSecured:
    pytestmark = on_secured

    @pytest.fixture
    def topics(self, secured: Secured) -> Topics:
        topics = Topics(secured.bootstrap, domain=DOMAIN)
        secured.grant("worker", worker_rights(topics.prefix))
        topics.feed([*WORKLOADS[DOMAIN]().messages(30), b"{"])
        return topics

    @pytest.mark.parametrize("way", WAYS, ids=str)
    def test_each_request_is_decided_once_whichever_way_a_worker_comes_in(
        self,
        secured: Secured,
        topics: Topics,
        way: Way,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name, value in environment_of(secured.settings(way)).items():
            monkeypatch.setenv(name, value)
        code, served = run(capsys, *serve(topics))
        assert (code, served["decisions"], served["dead_letters"]) == (0, 30, 1)
        code, audited = run(capsys, "audit", *named(topics))
        assert (code, audited["requests"], audited["missing"], audited["double"]) == (0, 31, 0, 0)
        assert len(topics.read("decisions")) == 30

    @pytest.mark.parametrize("way", [SCRAM, MUTUAL], ids=str)
    def test_the_other_client_comes_in_by_the_same_settings(
        self,
        secured: Secured,
        topics: Topics,
        way: Way,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name, value in environment_of(secured.settings(way)).items():
            monkeypatch.setenv(name, value)
        code, served = run(capsys, *serve(topics), "--kafka-client", "librdkafka")
        assert (code, served["decisions"], served["dead_letters"]) == (0, 30, 1)

    @pytest.mark.parametrize("way", [SCRAM, MUTUAL], ids=str)
    def test_each_verb_around_the_workers_comes_in_the_same_way(
        self,
        secured: Secured,
        topics: Topics,
        way: Way,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        file = tmp_path / "settings.json"
        settings = secured.settings(way)
        file.write_text(json.dumps(settings | {"brokers": [settings["brokers"]]}))
        more = ["--settings", str(file)]
        assert run(capsys, *serve(topics), *more)[0] == 0
        code, collected = run(capsys, "collect", *named(topics), *more, "--out", str(tmp_path / "collected"))
        assert (code, sum(collected["records"].values())) == (0, 30)
        code, redriven = run(capsys, "redrive", *named(topics), *more)
        assert (code, redriven["redriven"]) == (0, 1)
        code, found = run(capsys, "doctor", *named(topics), *more)
        assert {one["check"]: one["detail"] for one in found["findings"] if one["state"] == "wrong"} == {}
        assert code == 0

    def test_the_key_of_a_certificate_may_have_a_password(
        self, secured: Secured, topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        certificates, file = secured.certificates, tmp_path / "password"
        file.write_text(certificates.key_password)
        own = ["--ssl-certfile", str(certificates.client), "--ssl-keyfile", str(certificates.locked_key)]
        words = [*serve(topics), "--brokers", secured.at("MUTUAL"), "--security-protocol", "SSL", *own]
        words += ["--ssl-cafile", str(certificates.authority), "--ssl-key-password-file", str(file)]
        assert run(capsys, *words)[1]["decisions"] == 30

    @pytest.mark.parametrize("verb", ["serve", "audit", "doctor"])
    @pytest.mark.parametrize(
        ("way", "changed", "message"),
        [
            (SCRAM, {"sasl_password": "not-the-password"}, "correct sasl_username and sasl_password"),
            (Way(listener="SASL_PLAINTEXT", mechanism="PLAIN"), {"sasl_username": "nobody"}, "not accept the user"),
            (SCRAM, {"ssl_cafile": "stranger"}, "let ssl_cafile name the certificates of the brokers' authority"),
            (SCRAM, {"host": "127.0.0.1"}, "is not for the name 127.0.0.1"),
            (MUTUAL, {"ssl_certfile": "", "ssl_keyfile": ""}, "let ssl_certfile and ssl_keyfile name one"),
            (Way(listener="SSL"), {"security_protocol": "PLAINTEXT", "ssl_cafile": ""}, "speaks TLS"),
            (MUTUAL, {"ssl_certfile": "stranger", "ssl_keyfile": "stranger"}, "does not accept the certificate"),
        ],
    )
    def test_a_refusal_ends_the_process_with_what_to_change_and_no_password(
        self, secured: Secured, topics: Topics, way: Way, changed: dict[str, str], message: str, verb: str
    ) -> None:
        settings = secured.settings(way) | {name: value for name, value in changed.items() if name != "host"}
        if "host" in changed:
            settings["brokers"] = secured.at(way.listener, host=changed["host"])
        folder = secured.certificates.folder
        suffixes = {"ssl_cafile": "pem", "ssl_certfile": "pem", "ssl_keyfile": "key"}
        settings |= {n: str(folder / f"stranger.{s}") for n, s in suffixes.items() if settings.get(n) == "stranger"}
        words = serve(topics) if verb == "serve" else [verb, *named(topics)]
        environment = os.environ | environment_of(settings) | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *words], env=environment, cwd=ROOT,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        printed = done.stdout + done.stderr
        assert done.returncode == 4, printed
        assert message in printed
        for secret in (settings.get("sasl_password"), secured.password):
            assert secret is None or secret not in printed


def named(topics: Topics) -> list[str]:
    return ["--prefix", topics.prefix, "--group", f"{topics.prefix}-group", "--json"]


def serve(topics: Topics) -> list[str]:
    words = ["serve", "--artifact", str(artifact_of(DOMAIN).folder), "--transport", "kafka", "--until-end"]
    return [*words, "--instance", "a", *named(topics)]
