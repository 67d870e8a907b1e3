"""A server's settings, what one caller may ask for, and the spans of what was asked."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from index.errors import InvalidInput
from service.config import DEFAULT_LIMITS, Limit, ServerConfig, read_config
from service.errors import TooMuch
from service.gate.limits import Limits
from service.roles import Caller, Role
from service.telemetry.tracing import OpenTelemetry


def test_settings_are_checked_as_a_whole(tmp_path):
    settings = tmp_path / "serve.toml"
    settings.write_text('prot = 1\nworkers = 0\n[tokens]\njwks = "http://x/jwks"\nissuer = "i"\naudience = "a"\n')
    with pytest.raises(InvalidInput) as caught:
        read_config(settings)
    assert all(name in str(caught.value) for name in ("prot", "workers", "tokens.jwks"))
    with pytest.raises(InvalidInput, match="give TOML"):
        read_config(tmp_path / "absent.toml")


def test_a_network_needs_tls_and_somebody_to_ask_for():
    tls = {"certificate": "c.pem", "key": "c.key"}
    for values in ({"host": "0.0.0.0"}, {"host": "0.0.0.0", "tls": tls}, {"certificates": {"n": ["reader"]}}):
        with pytest.raises(InvalidInput):
            read_config(None, **values)
    tokens = {"jwks": "jwks.json", "issuer": "i", "audience": "a"}
    assert read_config(None, host="0.0.0.0", tls=tls, tokens=tokens).signs_in


READER = Caller("r", frozenset({Role.READER}), "token")


def test_calls_a_second_are_bounded_and_come_back(tmp_path):
    now = [0.0]
    limits = Limits(ServerConfig(workers=2), tmp_path / "quota", clock=lambda: now[0])
    rate = DEFAULT_LIMITS[Role.READER].calls_per_s / 2
    for _ in range(int(2 * rate)):
        limits.call(READER)
    with pytest.raises(TooMuch) as caught:
        limits.call(READER)
    limits.call(Caller("other", frozenset({Role.READER}), "token"))
    now[0] += caught.value.retry_s
    limits.call(READER)


def test_a_days_queries_are_one_count_of_all_workers(tmp_path):
    now = [datetime(2026, 1, 1, 12, tzinfo=UTC)]
    clock = [0.0]
    workers = [Limits(ServerConfig(), tmp_path / "quota", clock=lambda: clock[0], now=lambda: now[0]) for _ in range(2)]
    most = DEFAULT_LIMITS[Role.READER].searches_a_day
    workers[0].queries(READER, most - 1)
    workers[0].exchange()
    workers[1].exchange()
    with pytest.raises(TooMuch, match="go on tomorrow"):
        workers[1].queries(READER, 2)
    workers[1].queries(READER, 1)
    workers[1].exchange()
    again = Limits(ServerConfig(), tmp_path / "quota", clock=lambda: clock[0], now=lambda: now[0])
    with pytest.raises(TooMuch) as caught:
        again.queries(READER, 1)
    assert caught.value.retry_s == pytest.approx(12 * 3600)
    now[0] += timedelta(hours=12)
    clock[0] += 12 * 3600
    again.queries(READER, most)


def test_spans_name_methods_and_codes_and_follow_the_callers():
    exporter = InMemorySpanExporter()
    tracer = OpenTelemetry(exporter)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tracer.begin("/semiome.v1.RetrievalService/Search", [("traceparent", parent), ("authorization", "x")]).end("OK")
    tracer.close()

    (span,) = exporter.get_finished_spans()
    assert span.name == "semiome.v1.RetrievalService/Search"
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert dict(span.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "semiome.v1.RetrievalService",
        "rpc.method": "Search",
        "rpc.grpc.status_code": "OK",
    }


def test_a_limit_that_is_not_set_stays_as_it_is(tmp_path):
    settings = tmp_path / "serve.toml"
    settings.write_text("[limits.clinician]\ncalls_per_s = 20\n")
    limit = read_config(settings).limit_of(frozenset({Role.CLINICIAN}))

    assert (limit.calls_per_s, limit.searches_a_day) == (20, DEFAULT_LIMITS[Role.CLINICIAN].searches_a_day)


def test_an_answer_that_names_many_patients_counts_as_several_calls():
    config = ServerConfig(limits={"reader": {"calls_per_s": 10}})
    now = [0.0]
    limits = Limits(config, None, lambda: now[0])
    reader = Caller("a", frozenset({Role.READER}), "token")
    limits.call(reader)
    limits.told(reader, 1000)
    for _ in range(9):  # of the twenty that a quiet caller may make at once
        limits.call(reader)
    with pytest.raises(TooMuch):
        limits.call(reader)
    limits.told(reader, 5000)
    now[0] = 5.0
    with pytest.raises(TooMuch) as caught:
        limits.call(reader)
    assert 0 < caught.value.retry_s < 1
    now[0] = 5.2
    limits.call(reader)


def ledger(tmp_path, harm):
    path = tmp_path / "quota.sqlite"
    if harm == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"no database, but long enough to be taken for one" * 100)
    return path


@pytest.mark.parametrize("harm", ["garbage", "folder"])
def test_quotas_that_are_damaged_stop_nobody_and_count_anew(tmp_path, caplog, harm):
    config = ServerConfig(limits={"reader": {"searches_a_day": 3}})
    reader = Caller("a", frozenset({Role.READER}), "token")
    limits = Limits(config, ledger(tmp_path, harm))
    limits.queries(reader, 3)
    limits.exchange()
    with pytest.raises(TooMuch):
        limits.queries(reader, 1)
    assert "the day's quotas" in caplog.text


@pytest.mark.parametrize("harm", ["removed", "emptied", "garbage"])
def test_quotas_that_are_harmed_while_they_are_used_are_kept_on(tmp_path, harm):
    config = ServerConfig(limits={"reader": {"searches_a_day": 9}})
    reader, path = Caller("a", frozenset({Role.READER}), "token"), tmp_path / "quota.sqlite"
    limits = Limits(config, path)
    limits.queries(reader, 3)
    limits.exchange()
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(b"" if harm == "emptied" else b"no database, but long enough to be taken for one" * 100)
    limits.queries(reader, 3)
    limits.exchange()
    limits.exchange()
    other = Limits(config, path)  # of another worker
    with pytest.raises(TooMuch):
        other.queries(reader, 7)
    other.queries(reader, 6)


@pytest.mark.parametrize("value", ["'abc'", "null", "x'00'", "1.5"])
def test_a_bad_row_of_the_quotas_spoils_no_other(tmp_path, value):
    limits = Limits(ServerConfig(), tmp_path / "quota.sqlite")
    good, bad = (Caller(name, frozenset({Role.READER}), "token") for name in ("good", "bad"))
    limits.queries(good, 5)
    limits.exchange()
    with closing(sqlite3.connect(tmp_path / "quota.sqlite")) as database, database:
        database.execute(f"insert into used select day, 'token:bad', {value} from used")
    limits.exchange()
    for caller in (good, bad):
        limits.queries(caller, 1)


UNKNOWN = "unknown settings in the environment: {}; docs/service.md lists all"


def test_the_environment_is_over_the_file_and_below_the_command_line(tmp_path, monkeypatch):
    settings = tmp_path / "serve.toml"
    settings.write_text(
        'port = 1\nmax_calls = 2\nworkers = 3\n[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
        "[limits.reader]\ncalls_per_s = 1\n"
    )
    for name, value in {
        "MAX_CALLS": "64",
        "WORKERS": "4",
        "TLS__KEY": "/run/secrets/key.pem",
        "TLS__CLIENT_CA": "/run/ca.pem",
        "LIMITS__READER__SEARCHES_A_DAY": "7",
        "CERTIFICATES": '{"monitor": ["reader"]}',
        "TRACE": "true",
    }.items():
        monkeypatch.setenv(f"SEMIOME_SERVE_{name}", value)

    config = read_config(settings, workers=5)

    assert (config.port, config.max_calls, config.workers, config.trace) == (1, 64, 5, True)
    assert (config.tls.certificate, str(config.tls.key)) == (tmp_path / "c.pem", "/run/secrets/key.pem")
    assert config.certificates == {"monitor": frozenset({Role.READER})}
    assert config.limits[Role.READER] == Limit(calls_per_s=1, searches_a_day=7)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAX_CALL", "64", UNKNOWN),
        ("max_calls", "64", UNKNOWN),
        ("MAX_calls", "64", UNKNOWN),
        ("TLS__KEYS", "k", UNKNOWN),
        ("WORKERS__X", "3", UNKNOWN),
        ("WORKERS__", "3", UNKNOWN),
        ("TLS__KEY__X", "3", UNKNOWN),
        ("LIMITS__NOBODY", '{"calls_per_s": 3}', UNKNOWN),
        ("CERTIFICATES__MONITOR", '["reader"]', UNKNOWN),  # a common name has cases, a variable has not
        ("", "3", UNKNOWN),
        ("MAX_CALLS", "many s3cr3t", "{}: Input should be a valid integer, unable to parse string as an integer"),
        ("HOST", "s3cr3t", "{}: expected an IPv4 or IPv6 address, or localhost"),
        ("CERTIFICATES", "{", '{}: expected JSON such as {"name": "value"}'),
        ("CERTIFICATES", "[" * 100_000, '{}: expected JSON such as {"name": "value"}'),
        ("TLS", "null", '{}: expected JSON such as {"name": "value"}'),
        ("TLS", "s3cr3t", '{}: expected JSON such as {"name": "value"}'),
        ("PAGE__NAMES", "a,s3cr3t", '{}: expected JSON such as ["a", "b"]'),
        ("LIMITS__READER__CALLS_PER_S", "0", "{}: Input should be greater than 0"),
        ("TOKENS__JWKS", "http://s3cr3t", "expected a file or an https address"),
    ],
)
def test_a_variable_that_is_wrong_is_named_and_its_value_is_not_said(monkeypatch, name, value, says):
    variable = f"SEMIOME_SERVE_{name}"
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidInput) as refused:
        read_config(None)
    assert says.replace("{}", variable, 1) in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


@given(
    name=st.text(st.sampled_from("AZTLSKEYPORNM_a1"), max_size=12),
    value=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=6),
)
def test_a_variable_sets_what_it_names_or_is_refused(name, value):
    variable = f"SEMIOME_SERVE_{name}"
    with patch.dict(os.environ, {variable: value}):
        try:
            config = read_config(None)
        except InvalidInput as refused:
            assert variable in str(refused)  # noqa: PT017
            return
    assert not value or str(getattr(config, name.lower())) == value.strip().lower()


def test_a_variable_without_a_value_sets_nothing_and_what_is_given_is_not_blamed_on_one(monkeypatch):
    monkeypatch.setenv("SEMIOME_SERVE_TLS__CLIENT_CA", "")
    monkeypatch.setenv("SEMIOME_SERVE_WORKERS", "2")

    assert read_config(None).tls is None
    with pytest.raises(InvalidInput, match=r"^workers: Input should be less than or equal to 64"):
        read_config(None, workers=100)
