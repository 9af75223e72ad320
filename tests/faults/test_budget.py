"""The money in a real trainer: refused, cooled down, stopped, and never more than the cap."""

import json
import signal
import time

import pytest

from x1lib.budget_guard import Ledger
from x1lib.session.money import LEDGER

PRICE = 360.0  # US dollars an hour: ten cents a second
KEPT_USD = 24.0  # what a purse keeps back: a minute for a step, three for the machine's end


def settings(cap_usd, hours=0.02, **changes):
    """A run that is billed from now on; process 1 of this machine began long ago."""
    return {
        "hours": hours,
        "steps": None,
        "eval_every": 10**6,
        "checkpoint_every": 50,
        "usd_per_hour": PRICE,
        "cap_usd": cap_usd,
        "billed_since": int(time.time()),
        **changes,
    }


def ledger_of(run, cap_usd):
    return Ledger(run.out.parent / LEDGER, cap_usd=cap_usd)


def stood_still(trainer, seconds):
    trainer.signal(signal.SIGSTOP)
    time.sleep(seconds)
    trainer.signal(signal.SIGCONT)


def test_a_plan_above_the_cap_never_begins(start, run):
    """The refusal has the sum, and the price at which it would fit."""
    changes = settings(cap_usd=5.0)
    trainer = start(run, **changes)
    assert trainer.wait() == 2
    elapsed = time.time() - changes["billed_since"]
    assert "BudgetRefused" in trainer.last_line() and "8.32 US dollars" in trainer.last_line()
    assert "(0.02 h + 0.001 h to restart) x 360" in trainer.last_line()
    assert "the cap is 5.00" in trainer.last_line() and "would fit" in trainer.last_line()
    assert not run.step_lines()
    assert 0 < ledger_of(run, 5.0).spent_usd <= elapsed * PRICE / 3600  # and no more


def test_money_that_ends_before_the_hours_cools_the_run_down(finish, run):
    """50 seconds are asked for and the money lasts for half: the run is whole, and shorter."""
    cap = KEPT_USD + 2.8
    finish(run, **settings(cap, hours=0.014))
    manifest = run.manifest()
    assert manifest["status"] == "finished" and manifest["val_loss"] > 0
    assert manifest["wall_clock_seconds"] < 40 and run.step_lines()[-1]["phase"] == "cooldown"
    assert run.events("schedule")[-1]["why"] == "money"
    ledger = ledger_of(run, cap)
    assert 0 < manifest["usd"] <= ledger.spent_usd + 1e-5 and ledger.spent_usd <= cap
    assert manifest["usd_status"] is None
    assert ledger.committed_usd == 0
    notes = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert any(note["kind"] == "note" and "the run ends at step" in note["text"] for note in notes)


def test_a_run_that_stood_still_stops_under_the_cap_and_resumes_with_more(start, finish, run):
    """Seconds that nobody used are billed too: it saves, leaves with 77, and says why."""
    cap = KEPT_USD + 2.0
    changes = settings(cap, hours=0.008)
    trainer = start(run, **changes)
    trainer.until(lambda: run.last_step() >= 20)
    stood_still(trainer, 20.0)
    assert trainer.wait() == 77, trainer.output[-2000:]
    assert trainer.last_line().startswith("BudgetStop: budget: ")
    assert run.manifest()["status"] == "failed" and "BudgetStop" in run.manifest()["reason"]
    assert run.saved_steps()[-1] == run.last_step()
    spent = ledger_of(run, cap).spent_usd
    assert 2.0 <= spent <= cap

    finish(run, **changes | {"cap_usd": 90.0})
    assert run.manifest()["status"] == "finished"
    assert run.events("resume") and ledger_of(run, 90.0).spent_usd > spent


def test_with_more_money_the_hours_end_the_run_again(start, finish, run):
    """Killed in the cooldown that the money began; the end that it brought forward moves back."""
    changes = settings(KEPT_USD + 3.2, hours=0.015)
    trainer = start(run, **changes)
    trainer.until(lambda: any(one["why"] == "money" for one in run.events("schedule")))
    trainer.signal(signal.SIGKILL)
    assert trainer.wait() == -signal.SIGKILL
    last_step, _ = run.events("schedule")[-1]["schedule"]["knots"][-1]
    assert run.last_step() < last_step, "it had ended already"
    trainer = finish(run, **changes | {"cap_usd": 90.0})
    assert "the cap was 27.20; an end that the money brought forward moves back" in trainer.output
    manifest = run.manifest()
    assert manifest["status"] == "finished" and manifest["steps"] > 1.1 * last_step


def test_a_ledger_that_is_deleted_under_a_run_is_said_and_not_made_up(start, finish, run):
    """The manifest says unknown, no empty ledger is left, and no start begins the count again."""
    changes = settings(cap_usd=90.0, hours=0.011)
    trainer = start(run, **changes)
    trainer.until(lambda: run.last_step() >= 20)
    ledger = run.out.parent / LEDGER
    kept = ledger.read_bytes()
    ledger.unlink()
    assert trainer.wait() == 77, trainer.output[-2000:]
    assert "restore it from a copy; the state is saved" in trainer.last_line()
    assert "raise cap_usd" not in trainer.last_line()
    manifest = run.manifest()
    assert manifest["usd"] is None and "is gone" in manifest["usd_status"]
    assert not ledger.exists()

    trainer = start(run, **changes)
    assert trainer.wait() == 2
    assert "LedgerError" in trainer.last_line() and "is gone, and run was metered" in (
        trainer.last_line()
    )
    assert not ledger.exists()
    ledger.write_bytes(kept)
    finish(run, **changes)
    assert run.manifest()["usd"] > 0 and run.manifest()["usd_status"] is None


@pytest.mark.parametrize("down_seconds", [3.0])
def test_a_killed_run_is_billed_while_it_was_down(start, finish, run, down_seconds):
    """The machine was up all the time; what was spent before the kill is not forgotten."""
    changes = settings(cap_usd=90.0, hours=0.007)
    trainer = start(run, **changes)
    trainer.until(lambda: run.last_step() >= 60)
    trainer.signal(signal.SIGKILL)
    assert trainer.wait() == -signal.SIGKILL
    time.sleep(down_seconds)
    finish(run, **changes)
    elapsed = time.time() - changes["billed_since"]
    spent = ledger_of(run, 90.0).spent_usd
    assert elapsed - 5 <= spent * 3600 / PRICE <= elapsed + 1  # the last line is before the exit
    assert spent > run.manifest()["wall_clock_seconds"] * PRICE / 3600


def test_at_a_price_of_0_the_same_lines_are_written_and_nothing_is_refused(finish, run):
    finish(run, steps=12)
    assert run.manifest()["usd"] is None and "no price" in run.manifest()["usd_status"]
    kinds = [json.loads(line)["kind"] for line in (run.out.parent / LEDGER).open()]
    assert kinds == ["ledger", "begin", "meter", "reserve", "meter", "end", "settle"]
