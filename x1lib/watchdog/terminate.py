"""Ending the machine: the provider's own command or request, checked at the start, retried.

A guest's own `shutdown` is no template: with several providers a machine that was shut down from
inside is billed on until it is terminated from outside (on AWS it depends on a setting).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from x1lib.tracking.secrets import scrub
from x1lib.watchdog.trainer import WatchdogError

ATTEMPT_SECONDS = 20.0
OUTPUT_CHARACTERS = 500
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def variable(name: str) -> str:
    """An environment variable, also where only process 1 of a container has it; "" for none.

    A shell that came in over ssh often lacks what the provider set at the container's start.
    SKYPILOT_CLUSTER_NAME is read from the JSON in SKYPILOT_CLUSTER_INFO (SkyPilot's docs,
    "Environment Variables").
    """
    if value := os.environ.get(name):
        return value
    try:
        pairs = Path("/proc/1/environ").read_bytes().split(b"\0")
        first = dict(pair.decode(errors="replace").partition("=")[::2] for pair in pairs)
    except OSError:
        first = {}
    if name == "SKYPILOT_CLUSTER_NAME":
        info = os.environ.get("SKYPILOT_CLUSTER_INFO") or first.get("SKYPILOT_CLUSTER_INFO", "")
        try:
            return str(json.loads(info)["cluster_name"])
        except (ValueError, KeyError, TypeError):
            return ""
    return first.get(name, "")


def _filled(text: str) -> str:
    """The text with each $NAME replaced; raises WatchdogError for a variable that is not set."""

    def value(found: re.Match) -> str:
        name = found[1] or found[2]
        if not variable(name):
            raise WatchdogError(
                f"{name} is not set, and the terminate command needs it; export {name}=..."
                " before the watchdog starts"
            )
        return variable(name)

    return _VARIABLE.sub(value, text)


@dataclass(frozen=True)
class Command:
    """A command line without a shell; $NAME stands for an environment variable."""

    line: str

    def check(self) -> str:
        """What will be run, secrets hidden; raises WatchdogError where that cannot work."""
        arguments = self._arguments()
        if shutil.which(arguments[0]) is None:
            raise WatchdogError(
                f"the terminate command {arguments[0]!r} is not on this machine; install it, or"
                " give another --terminate"
            )
        return scrub(self.line)

    def attempt(self, number: int = 0) -> tuple[bool, str]:
        """Run it once; whether it succeeded, and the end of what it said."""
        try:
            done = subprocess.run(
                self._arguments(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=ATTEMPT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return False, f"no answer in {ATTEMPT_SECONDS:.0f} s"
        except (OSError, WatchdogError) as error:
            return False, scrub(str(error))
        said = scrub(done.stdout.strip())[-OUTPUT_CHARACTERS:]
        return done.returncode == 0, f"exit code {done.returncode}" + (f": {said}" if said else "")

    def _arguments(self) -> list[str]:
        try:
            parts = shlex.split(self.line)
        except ValueError as error:
            raise WatchdogError(f"--terminate {self.line!r} cannot be read: {error}") from error
        if not parts:
            raise WatchdogError("--terminate is empty; give a command or a template's name")
        return [_filled(part) for part in parts]


@dataclass(frozen=True)
class Request:
    """An HTTP request with a key as bearer token, made in this process: no `ps` shows the key.

    urls are tried in turn, attempt by attempt.
    """

    method: str
    urls: tuple[str, ...]
    key_variable: str
    body: str = ""

    def check(self) -> str:
        """What will be sent, without the key; raises WatchdogError where that cannot work."""
        _filled(self.body)
        _filled(f"${self.key_variable}")
        return f"{self.method} {_filled(self.urls[0])} with the key in {self.key_variable}"

    def attempt(self, number: int = 0) -> tuple[bool, str]:
        """Send it once; whether it succeeded, and the end of the answer."""
        try:
            request = urllib.request.Request(
                _filled(self.urls[number % len(self.urls)]),
                data=_filled(self.body).encode() if self.body else None,
                method=self.method,
                headers={
                    "Authorization": f"Bearer {_filled(f'${self.key_variable}')}",
                    "Content-Type": "application/json",
                },
            )
            with urllib.request.urlopen(request, timeout=ATTEMPT_SECONDS) as answer:
                return True, f"HTTP {answer.status}: {self._end(answer.read(4096))}"
        except urllib.error.HTTPError as error:
            return False, f"HTTP {error.code}: {self._end(error.read(4096))}"
        except (OSError, ValueError, WatchdogError) as error:
            return False, scrub(str(error))

    def _end(self, answer: bytes) -> str:
        text = scrub(answer.decode(errors="replace")).replace(variable(self.key_variable), "...")
        return text.strip()[-OUTPUT_CHARACTERS:]


# None of these was run against a real account by the authors; each says what it is taken from.
TEMPLATES: dict[str, Command | Request] = {
    # docs.runpod.io, "runpodctl remove pod": deletes the pod for good. A pod comes with runpodctl
    # and a key of its own scope (docs.runpod.io, "runpodctl"). Since July 2026 the page spells it
    # `pod delete`, and `remove pod` is an alias that older and newer releases know; give the new
    # one as a command if yours has dropped it. A network volume outlives the pod and is billed on.
    "runpod": Command("runpodctl remove pod $RUNPOD_POD_ID"),
    # docs.runpod.io, API reference, "Delete a Pod" (OpenAPI 0.1.0): answers 204. It needs a key
    # of the account; that the pod's own key is enough here is unverified.
    "runpod-api": Request(
        "DELETE", ("https://rest.runpod.io/v1/pods/$RUNPOD_POD_ID",), "RUNPOD_API_KEY"
    ),
    # docs-api.lambda.ai, "terminate instances"; bearer key and the second address as SkyPilot's
    # source has them (sky/provision/lambda_cloud/lambda_utils.py), the first being the company's
    # present domain, unverified. No variable on the machine names it: export LAMBDA_INSTANCE_ID,
    # which the console shows and GET /instances lists. The disk is lost, a filesystem is not.
    "lambda": Request(
        "POST",
        (
            "https://cloud.lambda.ai/api/v1/instance-operations/terminate",
            "https://cloud.lambdalabs.com/api/v1/instance-operations/terminate",
        ),
        "LAMBDA_API_KEY",
        '{"instance_ids": ["$LAMBDA_INSTANCE_ID"]}',
    ),
    # docs.skypilot.co, CLI, "sky down". It works where SkyPilot's client and its cloud keys are,
    # which a cluster by itself does not have: there rather launch with `--down` and an idle time
    # (docs, "Autostop and Autodown"), and let the end of the job end the cluster.
    "skypilot": Command("sky down --yes $SKYPILOT_CLUSTER_NAME"),
}


def terminator(text: str) -> Command | Request:
    """The template of this name, or the text as a command line."""
    return TEMPLATES.get(text) or Command(text)
