"""The heartbeat: beats while the process lives, is read whole, and counts a killed one's time."""

import json
import subprocess
import sys
import time

import pytest

from x1lib.tracking import heartbeat
from x1lib.tracking.heartbeat import HEARTBEAT, Heartbeat, last_beat


def test_it_beats_from_the_first_moment_to_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS", 0.01)
    state = {"step": 0}
    with Heartbeat(tmp_path, lambda: dict(state)):
        until = time.monotonic() + 5
        while last_beat(tmp_path).get("step") != 0 and time.monotonic() < until:
            time.sleep(0.005)
        state["step"] = 7
        while last_beat(tmp_path).get("step") != 7 and time.monotonic() < until:
            time.sleep(0.005)
        assert last_beat(tmp_path)["step"] == 7
        state["step"] = 8
    assert last_beat(tmp_path)["step"] == 8  # the last one is written on leaving
    assert abs(last_beat(tmp_path)["time"] - time.time()) < 60


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "\0" * 160])
def test_what_cannot_be_read_is_no_beat(tmp_path, content):
    if content is not None:
        (tmp_path / HEARTBEAT).write_text(content)
    assert last_beat(tmp_path) == {}


def test_a_shorter_beat_leaves_nothing_of_a_longer_one(tmp_path):
    for number in (123_456_789, 1):
        with Heartbeat(tmp_path, lambda n=number: {"step": n}):
            pass
        assert last_beat(tmp_path)["step"] == number


def test_a_disk_that_refuses_stops_nothing(tmp_path):
    (tmp_path / HEARTBEAT).mkdir()
    with Heartbeat(tmp_path, lambda: {"step": 1}):
        pass
    assert last_beat(tmp_path) == {}


KILLED = """
import os, signal, sys, time
from x1lib.tracking.heartbeat import Heartbeat
begun = time.monotonic()
with Heartbeat(sys.argv[1], lambda: {"elapsed_seconds": time.monotonic() - begun}):
    time.sleep(3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_is_known_to_two_seconds(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60)
    assert done.returncode == -9
    assert 1.0 <= last_beat(tmp_path)["elapsed_seconds"] <= 3.5
    assert json.loads((tmp_path / HEARTBEAT).read_text())["pid"] > 0
