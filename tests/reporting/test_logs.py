"""A process's logs: one line a record, in two formats, and nothing in it that a stranger could forge."""

import io
import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest

from fedcomp.errors import UsageError
from fedcomp.reporting import LogFormat, LogSettings, configure_logging

HOSTILE = "disk full\n2026-01-01T00:00:00.000Z INFO flwr all is well\x1b[2J\r\x9b\u202e"
ESCAPED = r"disk full\n2026-01-01T00:00:00.000Z INFO flwr all is well\x1b[2J\r\x9b\u202e"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture(autouse=True)
def _as_before():
    """Give pytest its loggers back."""
    names = [None, "flwr", "uvicorn", "uvicorn.access", "uvicorn.error"]
    kept = [(logging.getLogger(n), (g := logging.getLogger(n)).handlers[:], g.level, g.propagate) for n in names]
    logging.getLogger().handlers.clear()  # configure_logging closes what it finds
    yield
    for handler in logging.getLogger().handlers[:]:
        handler.close()
    for logger, handlers, level, propagate in kept:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def logged(monkeypatch):
    """Return a function that configures logging and gives what goes to stderr."""

    def configure(settings, **fields):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging(settings, **fields)
        return stream

    return configure


def lines(stream):
    return stream.getvalue().splitlines()


def test_a_text_record_is_one_line_with_time_level_logger_and_fields(logged):
    stream = logged(LogSettings())
    logging.getLogger("fedcomp").warning("refused %s", "it", extra={"round": 3, "client": 17, "reason": "stale"})
    logging.getLogger("fedcomp").debug("not shown")
    (line,) = lines(stream)
    time, _, rest = line.partition(" ")
    assert datetime.fromisoformat(time).utcoffset().total_seconds() == 0
    assert time.endswith("Z")
    assert rest == "WARNING fedcomp [round=3 client=17 reason=stale] refused it"


def test_a_json_record_is_one_object_with_what_is_known(logged):
    stream = logged(LogSettings(LogFormat.JSON, "debug"), run="demo")
    logging.getLogger("fedcomp.x").debug("a")
    logging.getLogger("fedcomp.x").error("b", extra={"client": 2**63 + 1, "round": 4, "reason": None})
    first, second = map(json.loads, lines(stream))
    assert list(first) == ["time", "level", "logger", "message", "run"]
    assert {**first, "time": 0} == {"time": 0, "level": "DEBUG", "logger": "fedcomp.x", "message": "a", "run": "demo"}
    assert (second["client"], second["round"], "reason" in second) == (str(2**63 + 1), 4, False)


@pytest.mark.parametrize("format_", LogFormat)
def test_a_stranger_can_not_forge_a_record_nor_steer_a_terminal(logged, format_):
    stream = logged(LogSettings(format_))
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("flwr").exception(HOSTILE, extra={"reason": HOSTILE, "client": HOSTILE})
    text = stream.getvalue()
    if format_ is LogFormat.JSON:
        (line,) = text.splitlines()
        record = json.loads(line)
        assert record["message"] == record["reason"] == record["client"] == ESCAPED
        assert all(part.isprintable() for part in record["exception"].splitlines())
        assert record["exception"].startswith("Traceback")
    else:
        record, *traceback = text.splitlines()
        assert record.count(ESCAPED) == 3
        assert all(line.startswith("    | ") for line in traceback)
        assert "    | Traceback (most recent call last):" in traceback
    assert all(line.isprintable() for line in text.splitlines())


def test_a_record_is_not_endless(logged):
    stream = logged(LogSettings())
    try:
        raise ValueError("x\n" * 1_000_000)
    except ValueError:
        logging.getLogger("flwr").exception("y" * 1_000_000)
    assert len(stream.getvalue()) < 200_000


@pytest.mark.parametrize("format_", LogFormat)
def test_keys_and_tokens_are_blanked_out(logged, format_):
    stream = logged(LogSettings(format_))
    try:
        raise ValueError(f"can not parse {KEY}")
    except ValueError:
        logging.getLogger("fedcomp").exception("Authorization: Bearer abc.def-ghi; %s; cut %s", KEY, KEY[:50])
    assert "c2VjcmV0" not in stream.getvalue()
    assert "abc.def" not in stream.getvalue()
    assert "can not parse [key]" in stream.getvalue()


def test_flower_logs_as_we_do_and_once(logged):
    from flwr.common.logger import log

    stream = logged(LogSettings())
    log(logging.INFO, "")
    log(logging.INFO, "\t> round %s", 1)
    log(logging.DEBUG, "not shown")
    (line,) = lines(stream)
    assert line.endswith(" INFO flwr > round 1")


def test_the_file_rotates_and_is_written_beside_stderr(logged, tmp_path, monkeypatch):
    monkeypatch.setattr("fedcomp.reporting.logs._MAX_FILE_BYTES", 200)
    stream = logged(LogSettings(file=tmp_path / "server.log"))
    for number in range(40):
        logging.getLogger("fedcomp").info("record %d", number)
    names = ["server.log", *(f"server.log.{i}" for i in range(1, 6))]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(path.stat().st_size <= 200 for path in tmp_path.iterdir())
    assert lines(stream)[-1] == (tmp_path / "server.log").read_text().splitlines()[-1]
    assert len(lines(stream)) == 40


def test_configuring_twice_logs_once(logged, tmp_path):
    logged(LogSettings(file=tmp_path / "first.log"))
    stream = logged(LogSettings())
    logging.getLogger("fedcomp").info("once")
    assert len(lines(stream)) == 1
    assert (tmp_path / "first.log").read_text() == ""


def test_wrong_settings_are_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="log level is 'loud', expected one of debug, info, warning, error"):
        LogSettings(level="loud")
    with pytest.raises(UsageError, match="log format is 'xml', expected one of text, json"):
        LogSettings.from_environment({"FEDCOMP_LOG_FORMAT": "xml"})
    with pytest.raises(UsageError, match=r"the log file can not be written: .*missing"):
        configure_logging(LogSettings(file=tmp_path / "missing" / "x.log"))


def test_children_log_alike():
    settings = LogSettings(LogFormat.JSON, "warning")
    assert LogSettings.from_environment(settings.environment()) == settings
    assert LogSettings.from_environment({}) is None
    code = (
        "import logging; from fedcomp.reporting.logs import *; configure_logging(LogSettings.from_environment()); "
        "logging.info('no'); logging.warning('yes')"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], env=settings.environment() | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(child.stderr)["message"] == "yes"


def test_a_record_whose_arguments_do_not_fit_harms_nobody_but_itself(logged):
    stream = logged(LogSettings())
    logging.getLogger("library").info("%d things", "many")
    logging.getLogger("library").info("goes on")
    assert "--- Logging error ---" in lines(stream)
    assert lines(stream)[-1].endswith("INFO library goes on")
