"""Settings: every one of them in the help, every impossible one refused in one line."""

import contextlib
import io
import subprocess
import sys
from dataclasses import MISSING, asdict, fields, replace

import pytest

from x1lib import X1Error
from x1lib.settings import ConfigError, differences, from_command_line, from_dict
from x1lib.shapes import ShapeError
from x1lib.train import Config

NAMES = [f.name for f in fields(Config)]


def parse(line: str) -> Config:
    return from_command_line(Config, line.split(), "what it does")


@pytest.fixture(scope="module")
def help_text() -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as left:
        parse("--help")
    assert left.value.code == 0
    return " ".join(output.getvalue().split())


@pytest.mark.parametrize("field", fields(Config), ids=NAMES)
def test_help_lists_every_setting(help_text, field):
    """The flag, what it is and its default."""
    assert f"--{field.name.replace('_', '-')}" in help_text
    text = field.metadata["help"]
    assert len(text) > 5 and text in help_text
    if field.metadata["among"]:
        text += ": " + ", ".join(field.metadata["among"])
    shown = {"": "none", "True": "on", "False": "off"}.get(str(field.default), field.default)
    assert f"{text} (default: {shown})" in help_text
    assert field.default is not MISSING and type(field.default) in (str, bool, int, float)


def test_switches_can_be_turned_off(help_text):
    assert "--qk-norm, --no-qk-norm" in help_text
    assert parse("--steps 3").qk_norm is True
    assert parse("--steps 3 --no-qk-norm").qk_norm is False
    assert parse("--steps 3 --no_qk_norm --no-deterministic").deterministic is False
    assert parse("--steps 3 --no-qk-norm --qk-norm").qk_norm is True


@pytest.mark.parametrize(
    "line, name, value",
    [
        ("--tokens 5e9", "tokens", 5_000_000_000),
        ("--tokens 5_000_000_000", "tokens", 5_000_000_000),
        ("--tokens=1.5e3", "tokens", 1500),
        ("--hours 0.015", "hours", 0.015),
        ("--hours 2", "hours", 2.0),
        ("--steps 7 --batch_tokens 2048 --seq-len 64", "batch_tokens", 2048),
        ("--steps 7 --batch-tokens=2048 --seq_len=64", "batch_tokens", 2048),
        ("--steps 7 --out my_own_folder", "out", "my_own_folder"),
        ("--steps 7 --branch_from=runs/a_b@40", "branch_from", "runs/a_b@40"),
        ("--steps 7 --lr 3e-3", "lr", 0.003),
        ("--steps 7 --source texts/my_text.txt", "source", "texts/my_text.txt"),
    ],
)
def test_command_line(line, name, value):
    found = parse(line)
    assert getattr(found, name) == value and type(getattr(found, name)) is type(value)


def test_what_is_not_said_is_the_default():
    assert parse("--steps 7") == Config(steps=7)
    assert parse("--steps 7 --seed 1") != Config(steps=7)


@pytest.mark.parametrize(
    "line, words",
    [
        ("--stepz 5", "unknown flag --stepz; did you mean --steps?"),
        ("--step 5", "unknown flag --step; did you mean --steps?"),  # no abbreviations
        ("--batchtokens=5", "did you mean --batch-tokens?"),
        ("--qqq 5", "unknown flag --qqq; --help lists every setting"),
        ("tiny", "unknown flag tiny"),
        ("--steps", "--steps: expected one argument"),
        ("--steps many", "--steps: invalid whole number value: 'many'"),
        ("--steps 1.5", "--steps: invalid whole number value: '1.5'"),
        ("--tokens inf", "--tokens: invalid whole number value: 'inf'"),
        ("--tokens nan", "--tokens: invalid whole number value: 'nan'"),
        ("--hours soon", "--hours: invalid float value: 'soon'"),
        ("--steps -5", "steps is -5; expected a whole number from 0: optimiser steps"),
        ("--hours nan", "hours is nan; expected a number from 0"),
        ("--hours inf", "hours is inf; expected a number from 0"),
        ("--steps 5 --beta2 1", "beta2 is 1.0; expected a number from 0 to below 1"),
        ("--steps 5 --dtype float16", "dtype is 'float16'; expected one of auto, float32, bfloat"),
        ("--steps 5 --compile yes", "compile is 'yes'; expected one of auto, on, off"),
        ("--steps 5 --keep-last 0", "keep_last is 0; expected a whole number from 1"),
        ("--steps 5 --warmup 0.5 --cooldown 0.6", "warmup and cooldown are over 1 together"),
        ("--steps 5 --cooldown 1.5", "warmup and cooldown are over 1 together"),
        ("--steps 5 --seq-len 64 --batch-tokens 100", "batch_tokens is 100; expected k x 64"),
        ("--seed 3", "no end: give hours, tokens or steps"),
        ("", "no end: give hours, tokens or steps"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_do(line, words):
    with pytest.raises(ConfigError) as found:
        parse(line)
    assert words in str(found.value) and "\n" not in str(found.value)
    assert isinstance(found.value, X1Error) and found.value.exit_code == 2


@pytest.mark.parametrize(
    "name, value",
    [
        ("steps", 5.0),
        ("steps", "5"),
        ("steps", True),
        ("lr", "fast"),
        ("lr", True),
        ("lr", None),
        ("qk_norm", 1),
        ("shape", 3),
        ("out", None),
    ],
)
def test_wrong_types_are_refused_in_code_too(name, value):
    with pytest.raises(ConfigError, match=f"^{name} is "):
        Config(**({"steps": 5} | {name: value}))


def test_whole_numbers_pass_where_a_number_is_wanted():
    assert Config(steps=5, lr=1).lr == 1


def test_an_unknown_shape_is_refused_when_the_config_is_made():
    with pytest.raises(ShapeError, match="unknown shape '51m'"):
        parse("--steps 5 --shape 51m")


def test_from_dict():
    assert from_dict(Config, {"steps": 5, "seed": 2}) == Config(steps=5, seed=2)
    with pytest.raises(ConfigError, match=r"unknown setting 'sed'; did you mean seed\?"):
        from_dict(Config, {"steps": 5, "sed": 2})
    assert from_dict(Config, asdict(Config(steps=5, lr=0.1))) == Config(steps=5, lr=0.1)


def other(value, among):
    """Another value that is allowed."""
    if among:
        return next(word for word in among if word != value)
    return {bool: lambda: not value, str: lambda: value + "x"}.get(
        type(value), lambda: value + 1 if isinstance(value, int) else value / 2 + 0.15
    )()


@pytest.mark.parametrize("field", fields(Config), ids=NAMES)
def test_a_resume_may_change_what_is_free_and_nothing_else(field):
    then = Config(steps=5, hours=1.0, lr=0.1)  # base_width takes one
    value = other(getattr(then, field.name), field.metadata["among"])
    words = {"shape": "5m", "batch_tokens": 512, "inject": "lr-too-high@9"}
    value = words.get(field.name, value)
    now = replace(then, **{field.name: value})
    expected = {} if field.metadata["free"] else {field.name: (getattr(then, field.name), value)}
    assert differences(asdict(then), now) == expected


def test_what_decides_the_weights_is_not_free():
    free = {f.name for f in fields(Config) if f.metadata["free"]}
    deciding = {"seed", "steps", "tokens", "hours", "shape", "lr", "batch_tokens", "beta1", "clip"}
    deciding |= {"source", "tokenizer", "seq_len", "warmup", "cooldown", "weight_decay", "init_std"}
    deciding |= {"base_width", "inject", "on_spike"}
    assert not free & deciding


def test_every_setting_has_a_check():
    """Numbers have a lower bound, so that a NaN cannot pass either."""
    for f in fields(Config):
        if type(f.default) in (int, float):
            assert f.metadata["low"] is not None, f.name
            with pytest.raises(ConfigError):
                replace(Config(steps=5), **{f.name: float("nan")})


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        Config(steps=5).steps = 6


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--stepz", "5"], "ConfigError: unknown flag --stepz; did you mean --steps?\n"),
        (["--steps", "5", "--shape", "51m"], "ShapeError: unknown shape '51m'; give one of "),
    ],
)
def test_on_the_real_command_line(tmp_path, arguments, words):
    """One line on stderr, nothing on stdout, exit code 2, and no folder made."""
    done = subprocess.run(
        [sys.executable, "-m", "x1lib.train", "--out", str(tmp_path / "run"), *arguments],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(words) and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_sources_stand_beside_the_published_numbers():
    """Every default that someone published names who."""
    sourced = ("lr", "beta1", "beta2", "cooldown", "rope_theta", "norm_eps", "init_std", "z_loss")
    for f in fields(Config):
        if f.name in sourced:
            assert "(" in f.metadata["help"] and ")" in f.metadata["help"], f.name
