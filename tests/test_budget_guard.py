"""The ledger, the guard and the purse: sums, kills at every write, faults 21 and 22, errors.

    python tests/test_budget_guard.py FOLDER

kills a process at each call that changes the ledger, and is what the test of the kills runs.
"""

import contextlib
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from x1lib import X1Error, budget_guard
from x1lib.budget_guard import (
    END_SECONDS,
    RESTART_SHARE,
    BudgetGuard,
    BudgetRefused,
    CapTooSmall,
    Ledger,
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    LedgerFormatError,
    LedgerNotWritable,
    Machine,
    Plan,
    PlanError,
    Purse,
    take_in,
    this_machine,
)
from x1lib.budget_guard.__main__ import main
from x1lib.session.money import Money

ROOT = Path(__file__).resolve().parent.parent
BRIEF = Plan("the whole course", hours=36, usd_fixed=3)
HOUR = 3600.0


class Clock:
    """A machine's time: true seconds since boot, and a wall clock that may jump."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.wall_offset = seconds, 1.8e9

    def machine(self, name="box", began=0.0) -> Machine:
        return Machine(
            name=name,
            host=name.partition(":")[0],
            began_seconds=began,
            seconds=lambda: self.seconds,
            wall=lambda: self.seconds + self.wall_offset,
        )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ledger.jsonl"


def purse(path, clock, run_id="run", price=1.0, name="box", cap=50.0, began=0.0, **options):
    """A process of its own: nothing is known to it but the file."""
    ledger = Ledger(path, cap, overspent_ok=True)
    return Purse(ledger, price, run_id, machine=clock.machine(name, began), **options)


def kinds(path) -> list[str]:
    return [json.loads(line)["kind"] for line in path.read_text().splitlines()]


# The guard


def test_the_plan_of_the_course_passes_at_one_price_and_not_at_another(path):
    admitted = BudgetGuard(Ledger(path), 1.10).admit(BRIEF)
    assert admitted.usd == pytest.approx((36 * 1.10 + 3) * 1.1) and admitted.reservation is None
    with pytest.raises(BudgetRefused) as refused:
        BudgetGuard(Ledger(path), 1.79).admit(BRIEF)
    error = refused.value
    assert error.usd == pytest.approx(74.184) and error.available_usd == 50.0
    price = error.break_even_usd_per_hour
    assert (36 * price + 3) * 1.1 == pytest.approx(50) and round(price, 4) == 1.1793
    assert (error.fits_hours * 1.79 + 3) * 1.1 == pytest.approx(50)
    for part in ("74.18", "0.00 are spent", "cap is 50.00", "24.18 too much", "1.179", "23.7 h"):
        assert part in str(error)
    BudgetGuard(Ledger(path), price).admit(BRIEF)  # at the break-even price it fits, to the float
    with pytest.raises(BudgetRefused):
        BudgetGuard(Ledger(path), price + 1e-4).admit(BRIEF)
    assert not path.exists()  # a question leaves no line


def test_the_hours_to_start_again_count(path):
    guard = BudgetGuard(Ledger(path), 1.10)
    assert guard.admit(Plan("with a restart", 36, 3, restart_hours=2)).usd < 50
    with pytest.raises(BudgetRefused, match=r"36 h \+ 3 h to restart"):
        guard.admit(Plan("with a longer one", 36, 3, restart_hours=3))


def test_one_cap_over_all_labs(path):
    first = BudgetGuard(Ledger(path), 1.10).admit(Plan("lab00", 24), "a")
    ledger = Ledger(path)
    assert ledger.committed_usd == pytest.approx(24 * 1.1 * 1.1)
    with pytest.raises(BudgetRefused) as refused:
        BudgetGuard(ledger, 1.10).admit(Plan("lab01", 20), "b")
    assert refused.value.available_usd == pytest.approx(50 - 29.04)
    assert "29.04 are set aside for other runs" in str(refused.value)
    ledger.settle(first.reservation, 20.0)  # it was cheaper
    assert BudgetGuard(Ledger(path), 1.10).admit(Plan("lab01", 20), "b").left_usd > 0


def test_a_relaunch_asks_for_the_whole_plan_again(path):
    clock, plan = Clock(), Plan("lab00", 40)
    admit = BudgetGuard(Ledger(path), 1.10).admit
    first = admit(plan, "run")
    lines = path.read_bytes()
    assert admit(plan, "run").reservation == first.reservation and path.read_bytes() == lines
    held = purse(path, clock, price=1.10)
    clock.seconds = 30 * HOUR
    held.leave("preempted")  # 33 of 48.4 are gone; what is left of the plan still fits
    again = BudgetGuard(Ledger(path), 1.10).admit(plan, "run")
    assert again.reservation == first.reservation
    with pytest.raises(BudgetRefused, match=r"33\.00 of it are spent"):  # dearer than before
        BudgetGuard(Ledger(path), 1.30).admit(plan, "run")
    assert Ledger(path).committed_usd == pytest.approx(48.4 - 33)


def test_the_time_that_a_machine_was_up_before_counts(path):
    clock = Clock(10 * HOUR)  # process 1 started ten hours ago
    guard = BudgetGuard(Ledger(path), 1.0, machine=clock.machine())
    with pytest.raises(BudgetRefused, match=r"10\.00 more for the time this machine has been up"):
        guard.admit(Plan("lab00", 38))
    stamped = BudgetGuard(Ledger(path), 1.0, machine=clock.machine(), billed_since=1.8e9 + 9 * HOUR)
    assert stamped.admit(Plan("lab00", 38)).left_usd == pytest.approx(50 - 38 * 1.1 - 1)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "2", True, None])
def test_impossible_amounts_are_refused_by_name(path, bad):
    with pytest.raises(PlanError, match="hours is"):
        Plan("x", bad)
    with pytest.raises(LedgerError, match="usd_per_hour is"):
        BudgetGuard(Ledger(path), bad)
    with pytest.raises(LedgerError, match="usd is"):
        Ledger(path).reserve(bad, "x", "x")
    with pytest.raises(LedgerError, match="cap_usd is"):
        Ledger(path, bad)
    assert not path.exists()


# Reservations


def test_reserving_is_idempotent_by_run(path):
    ledger = Ledger(path)
    one = ledger.reserve(10, "lab00", "a")
    assert Ledger(path).reserve(99, "lab00", "a") == one  # changes nothing, whatever the sum
    assert ledger.reserve(5, "lab01", "b") != one
    assert ledger.committed_usd == 15 and ledger.spent_usd == 0
    ledger.settle(one, 7.5)
    ledger.settle(one, 7.5)
    ledger.release(one)
    assert (ledger.spent_usd, ledger.committed_usd) == (7.5, 5)
    assert Ledger(path).spent_usd == 7.5
    with pytest.raises(LedgerError, match="no reservation 'r9'; it has r1, r2"):
        ledger.settle("r9", 1)


def test_after_a_release_money_can_be_set_aside_again(path):
    ledger = Ledger(path)
    one = ledger.reserve(10, "lab00", "a")
    ledger.release(one)
    assert ledger.committed_usd == 0
    two = ledger.reserve(12, "lab00", "a")
    assert two != one and ledger.committed_usd == 12


def test_a_reservation_that_does_not_fit_is_refused(path):
    ledger = Ledger(path, 20)
    ledger.reserve(15, "lab00", "a")
    with pytest.raises(BudgetRefused, match=r"asks for 6\.00 .* 5\.00 are left") as refused:
        ledger.reserve(6, "lab01", "b")
    assert refused.value.break_even_usd_per_hour is None
    assert ledger.reserve(5, "lab01", "b") and ledger.committed_usd == 20


def test_what_was_metered_is_never_settled_away(path):
    clock = Clock()
    held = purse(path, clock)
    id = held.ledger.reserve(10, "lab00", "run")
    clock.seconds = 4 * HOUR
    held.tick()
    assert held.ledger.committed_usd == pytest.approx(6)
    held.ledger.settle(id, 1.0)
    assert held.ledger.spent_usd == pytest.approx(4) and held.ledger.committed_usd == 0
    assert Ledger(path).spent_usd == pytest.approx(4)


# The meter


def test_two_labs_on_one_machine_bill_it_once_and_on_two_machines_twice(path):
    clock = Clock()
    labs = [purse(path, clock, run, price=2.0) for run in ("a", "b")]
    for minute in range(1, 181):
        clock.seconds = minute * 60.0
        for lab in labs:
            lab.tick()
    assert Ledger(path).spent_usd == pytest.approx(6.0)
    other = purse(path, clock, "c", price=2.0, name="other", began=clock.seconds)
    clock.seconds += HOUR
    for lab in (*labs, other):
        lab.settle("done")
    ledger = Ledger(path)
    assert ledger.spent_usd == pytest.approx(6.0 + 2.0 + 2.0)
    assert sum(run.usd for run in ledger.runs.values()) == pytest.approx(10.0)


def test_a_span_is_billed_at_the_dearer_price_of_its_ends(path):
    clock = Clock()
    purse(path, clock, "typo", price=11.0)
    clock.seconds = HOUR
    held = purse(path, clock, price=1.1)
    clock.seconds = 2 * HOUR
    held.leave("done")
    assert Ledger(path).spent_usd == pytest.approx(11.0 + 1.1)  # and not at the old one for good


def test_a_killed_process_is_billed_until_the_next_on_its_machine(path):
    clock = Clock(100.0)
    purse(path, clock, price=2.0, began=40.0).tick()
    clock.seconds += 600  # killed; nobody was there
    held = purse(path, clock, price=2.0, began=40.0)
    assert held.spent_usd == pytest.approx(660 * 2 / HOUR)
    # Elsewhere, the lost machine is billed for the tick in which it fell silent, no more.
    clock.seconds += 30
    moved = Clock(5000.0)
    again = purse(path, moved, price=1.0, name="spot", began=5000.0, tick_seconds=60.0)
    assert again.spent_usd == pytest.approx((660 + 120) * 2 / HOUR)
    moved.seconds += HOUR
    again.settle("done")
    assert Ledger(path).runs["run"].usd == pytest.approx((660 + 120) * 2 / HOUR + 1)


def test_a_pod_that_was_stopped_is_a_bill_of_its_own(path):
    clock = Clock(HOUR)
    purse(path, clock, name="pod:1").leave("stopped by the reader")
    clock.seconds = 11 * HOUR  # the host ran on, the pod did not
    assert purse(path, clock, name="pod:2", began=11 * HOUR).spent_usd == pytest.approx(1.0)


def test_a_rebooted_box_with_the_readers_stamp_is_billed_through(path):
    clock, stamp = Clock(HOUR), 1.8e9 - HOUR  # billed for an hour before it booted
    held = purse(path, clock, name="vm:boot1", billed_since=stamp)
    assert held.spent_usd == pytest.approx(2.0)
    clock.seconds += HOUR
    held.tick()
    after = Clock(60.0)  # ten minutes down, then a minute up
    after.wall_offset += 2 * HOUR + 600
    again = purse(path, after, name="vm:boot2", billed_since=stamp)
    assert again.spent_usd == pytest.approx(3.0 + 660 / HOUR)


def test_the_readers_stamp_may_be_corrected_to_an_earlier_time(path):
    clock = Clock(2 * HOUR)
    now = 1.8e9 + clock.seconds
    assert purse(path, clock, billed_since=now - 600).spent_usd == pytest.approx(600 / HOUR)
    clock.wall_offset += 1e6  # a jump: the same stamp is not read twice
    assert purse(path, clock, billed_since=now - 600).spent_usd == pytest.approx(600 / HOUR)
    clock.wall_offset -= 1e6
    assert purse(path, clock, billed_since=now - 900).spent_usd == pytest.approx(900 / HOUR)
    assert purse(path, clock, billed_since=now - 300).spent_usd == pytest.approx(900 / HOUR)
    for bad in (now + 60, math.nan):
        with pytest.raises(LedgerError, match="billed_since is"):
            purse(path, clock, name="fresh", billed_since=bad)


def test_a_clock_that_begins_anew_loses_nothing(path):
    clock = Clock(5 * HOUR)
    purse(path, clock)
    clock.seconds = 60.0  # a system that gives no name to a boot
    held = purse(path, clock)
    clock.seconds = HOUR
    held.tick()
    assert held.spent_usd == pytest.approx(6.0)


def test_a_machine_whose_uptime_alone_passes_the_cap_is_not_taken(path):
    clock = Clock(1000 * HOUR)
    with pytest.raises(BudgetRefused, match=r"1000\.00 US dollars since process 1 .* billed_since"):
        purse(path, clock)
    assert not path.exists()
    assert purse(path, clock, billed_since=1.8e9 + 999 * HOUR).spent_usd == pytest.approx(1.0)


def test_a_line_is_written_once_a_tick(path):
    clock = Clock()
    held = purse(path, clock, tick_seconds=60.0)
    before = kinds(path).count("meter")
    for second in range(600):
        clock.seconds = float(second)
        held.tick()
    assert kinds(path).count("meter") == before + 9
    watcher = purse(path, clock, role="watchdog", tick_seconds=90.0)
    before = kinds(path).count("meter")
    for second in range(600, 1200):
        clock.seconds = float(second)
        held.tick()
        watcher.tick()
    assert kinds(path).count("meter") == before + 10  # the trainer's; then it hangs
    clock.seconds = 1300.0
    assert watcher.tick() and Ledger(path).spent_usd == pytest.approx(1300 / HOUR)


# The cap: faults 21 and 22


def train(path, clock, *, price, cap, step=20.0, save=45.0, steps=10**6, drift=1.0, jumps=None):
    """A trainer's loop on a fake clock; returns how many steps it did and why it stopped."""
    held = purse(path, clock, price=price, cap=cap, keep_seconds=save)
    for number in range(steps):
        if reason := held.must_stop():
            clock.seconds += save  # the last checkpoint
            held.settle(reason)
            clock.seconds += held.end_seconds  # until the machine is gone
            return number, reason
        clock.seconds += step
        step *= drift
        if jumps:
            clock.wall_offset += jumps[number % len(jumps)]
    return steps, None


@pytest.mark.parametrize("drift", [1.0, 1.005])
def test_billed_never_passes_the_cap_the_last_checkpoint_included(path, drift):
    clock = Clock()
    _, reason = train(path, clock, price=1.79, cap=5.0, drift=drift)
    billed = clock.seconds / HOUR * 1.79  # to the end of the machine
    assert reason.startswith("budget: 4.") and billed <= 5.0
    assert billed > 4.7  # and little is left over: 5 minutes are 15 cents
    assert Ledger(path).spent_usd == pytest.approx(billed - 180 / HOUR * 1.79, abs=1e-6)


def test_what_was_spent_before_a_kill_stays_spent(path):
    clock = Clock()
    steps = 0
    for _ in range(4):  # killed each time, without a last word
        done, reason = train(path, clock, price=2.0, cap=4.0, steps=60)
        steps += done
        clock.seconds += 300
    while not reason:
        done, reason = train(path, clock, price=2.0, cap=4.0, steps=60)
    assert clock.seconds / HOUR * 2.0 <= 4.0
    done, reason = train(path, clock, price=2.0, cap=4.0)  # and once more
    assert done == 0 and reason


@pytest.mark.parametrize("jumps", [(86_400.0, -86_400.0), (-1e6,), (3e7,), (0.0, -3600.0, 7200.0)])
def test_a_wall_clock_that_jumps_neither_gives_nor_takes(path, tmp_path, jumps):
    steady, jumping = Clock(), Clock()
    other = tmp_path / "other.jsonl"
    expected = train(path, steady, price=1.5, cap=3.0)
    assert train(other, jumping, price=1.5, cap=3.0, jumps=jumps) == expected
    assert Ledger(other, 3).spent_usd == Ledger(path, 3).spent_usd
    spans = [json.loads(line) for line in other.read_text().splitlines()]
    spans = [line for line in spans if line["kind"] == "meter"]
    assert all(line["usd"] >= 0 and line["until"] >= line["from"] for line in spans)
    assert all(a["until"] == b["from"] for a, b in pairwise(spans))


def test_a_projected_overrun_is_foretold(path):
    clock = Clock()
    held = purse(path, clock, price=2.0, cap=10.0, keep_seconds=300.0)
    left = held.seconds_left
    assert left == pytest.approx(5 * HOUR - held.margin_seconds)
    assert held.margin_seconds == 300 + 60 + 180
    fits = held.forecast(left)
    assert fits.over_usd == 0 and "more than" not in fits.text
    over = held.forecast(6 * HOUR)
    assert over.usd == pytest.approx(12.0)
    assert over.over_usd == pytest.approx((6 * HOUR - left) * 2 / HOUR)
    assert "12.00 US dollars at the end" in over.text and "under the cap of 10.00" in over.text
    held.must_stop()
    clock.seconds += 200  # a slow step: the next may take twice as long
    held.must_stop()
    assert held.margin_seconds == 300 + 400 + 180


def test_another_runs_reservation_is_not_spent(path):
    clock = Clock()
    Ledger(path, 10).reserve(6.0, "lab00", "other")
    held = purse(path, clock, price=1.0, cap=10.0)
    watcher = purse(path, clock, price=1.0, cap=10.0, role="watchdog")
    assert held.seconds_left == pytest.approx(4 * HOUR - held.margin_seconds)
    clock.seconds = 4 * HOUR
    assert "6.00 are set aside for other runs" in held.must_stop()
    assert watcher.must_stop() is None  # a machine is ended for the cap, not for a share of it
    clock.seconds = 10 * HOUR - 60
    assert watcher.must_stop()


def test_at_a_price_of_nothing_the_path_is_the_same(path):
    clock = Clock(1e7)
    Ledger(path, 0.5).settle(Ledger(path, 0.5).reserve(0.5, "paid", "paid"), 0.5)
    admitted = BudgetGuard(Ledger(path, 0.5), 0.0).admit(Plan("laptop", 1e6), "run")
    assert admitted.usd == 0 and admitted.break_even_usd_per_hour == 0.0
    held = purse(path, clock, price=0.0, cap=0.5)
    assert held.seconds_left == math.inf and held.forecast(1e9).over_usd == 0
    for _ in range(100):
        clock.seconds += 1e4
        assert held.must_stop() is None
    assert held.settle("finished") == 0.0
    assert {"reserve", "begin", "meter", "end", "settle"} <= set(kinds(path))
    assert Ledger(path, 0.5).spent_usd == 0.5


def test_settling_says_what_the_run_cost_and_why_it_ended(path):
    clock = Clock()
    admitted = BudgetGuard(Ledger(path), 1.1).admit(Plan("lab00", 2, usd_fixed=0.4), "run")
    held = purse(path, clock, price=1.1, label="lab00")
    clock.seconds = HOUR
    held.note("cooldown begun early")
    assert held.settle("finished", usd_fixed=0.4) == pytest.approx(1.5)
    summary = held.summary()
    assert summary["usd"] == 1.5 and summary["billed_seconds"] == 3600
    ledger = Ledger(path)
    assert ledger.reservations[admitted.reservation].state == "settled"
    assert (ledger.spent_usd, ledger.committed_usd) == (pytest.approx(1.5), 0)
    assert [n.get("text") or n["reason"] for n in ledger.notes] == [
        "cooldown begun early",
        "finished",
    ]


# The file


def written(path) -> list[bytes]:
    ledger = Ledger(path)
    ledger.settle(ledger.reserve(5, "lab00", "a"), 4)
    ledger.reserve(5, "lab01", "b")
    return path.read_bytes().splitlines(keepends=True)


def test_a_torn_line_is_passed_over_wherever_it_was_torn(path):
    lines = written(path)
    whole = b"".join(lines[:-1])
    for cut in range(len(lines[-1])):
        path.write_bytes(whole + lines[-1][:cut])
        assert (Ledger(path).spent_usd, Ledger(path).committed_usd) == (4, 0)
        ledger = Ledger(path)
        ledger.reserve(7, "lab02", "c")
        assert Ledger(path).committed_usd == ledger.committed_usd == 7
        assert path.read_bytes().startswith(whole + lines[-1][:cut])  # nothing is rewritten
        assert (b" #torn\n" in path.read_bytes()) == (cut > 0)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_any_flipped_byte_is_found(path, number):
    lines = written(path)
    for at in range(len(lines[number]) - 1):
        changed = bytearray(lines[number])
        changed[at] ^= 1
        path.write_bytes(b"".join([*lines[:number], bytes(changed), *lines[number + 1 :]]))
        with pytest.raises(LedgerError, match=r"damaged|line of kind|ledger begins"):
            Ledger(path)


def test_lines_that_are_missing_swapped_or_made_up_are_found(path):
    lines = written(path)
    made_up = b'{"kind": "settle", "id": "r1", "run_id": "a", "usd": 0.0, "crc": "00000000"}\n'
    for wrong in (
        lines[:2] + lines[3:],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, made_up],
        lines[1:],
    ):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(LedgerDamaged, match=r"line \d of .*ledger\.jsonl is damaged"):
            Ledger(path)


def test_a_ledger_that_shrinks_or_goes_away_under_a_run_stops_it(path):
    clock = Clock()
    held = purse(path, clock)
    data = path.read_bytes()
    for left in (data[:-50], None):
        path.write_bytes(left) if left is not None else path.unlink()
        clock.seconds += 61
        assert "never rewritten" in held.must_stop()
        with pytest.raises(LedgerDamaged):
            _ = held.ledger.spent_usd


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"kind": "ledger", "format": 2, "cap_usd": 1}, "format 2; expected 'ledger', format 1"),
        ({"kind": "meter"}, "begins with 'meter'"),
    ],
)
def test_an_unknown_format_is_refused(path, header, words):
    body = json.dumps(header)[:-1]
    checksum = budget_guard.journal._chained("00000000", body)
    path.write_text(f'{body}, "crc": "{checksum}"}}\n')
    with pytest.raises(LedgerFormatError, match=words):
        Ledger(path)
    path.write_text('{"step": 1, "loss": 2.5}\n')
    with pytest.raises(LedgerDamaged):
        Ledger(path)


def test_a_cap_below_what_was_spent_is_refused(path):
    written(path)
    with pytest.raises(CapTooSmall, match=r"4\.00 US dollars were spent before.*cap of 3\.00"):
        Ledger(path, 3.0)
    assert Ledger(path, 3.0, overspent_ok=True).spent_usd == 4
    assert Ledger(path, 4.0).spent_usd == 4


def test_places_that_take_no_line_are_refused_by_name(path, tmp_path):
    for bad in (tmp_path / "nowhere" / "ledger.jsonl", tmp_path):
        with pytest.raises((LedgerNotWritable, LedgerError)) as caught:
            Ledger(bad).reserve(1, "lab00", "a")
        assert isinstance(caught.value, X1Error) and str(bad) in str(caught.value)
    if os.path.exists("/dev/full"):
        full = tmp_path / "full"
        full.symlink_to("/dev/full")
        with pytest.raises(LedgerNotWritable, match="No space left"):
            Ledger(full).reserve(1, "lab00", "a")


def test_a_read_only_mount(tmp_path):
    code = (
        "import sys\nfrom x1lib.budget_guard import Ledger\n"
        "print(Ledger(sys.argv[1]).spent_usd)\nLedger(sys.argv[1]).reserve(1, 'lab00', 'a')"
    )
    disk = tmp_path / "disk"
    disk.mkdir()
    written(disk / "ledger.jsonl")
    script = f'mount --bind "{disk}" "{disk}" && mount -o remount,ro,bind "{disk}" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-ec", script, "sh"]
    command += [sys.executable, "-c", code, str(disk / "ledger.jsonl")]
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no unshare on this machine, so no mounts of our own")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "4.0"  # reading is fine
    assert "LedgerNotWritable" in done.stderr.splitlines()[-1], done.stderr
    assert "Read-only file system" in done.stderr


def test_a_disk_that_fills_up_in_mid_line_loses_nothing(path, monkeypatch):
    clock = Clock()
    held = purse(path, clock)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
    clock.seconds = 100.0
    assert not held.tick() and "No space left" in held.trouble
    assert held.must_stop() is None and held.spent_usd == pytest.approx(100 / HOUR)
    clock.seconds = 800.0
    assert "no line for ten minutes" in held.must_stop()
    monkeypatch.undo()
    assert held.tick() and held.trouble is None and held.must_stop() is None
    assert Ledger(path).spent_usd == pytest.approx(800 / HOUR)
    assert path.read_bytes().count(b" #torn\n") >= 1


def test_a_lock_that_is_held_is_named_and_costs_nothing(path):
    clock = Clock()
    held = purse(path, clock)
    held.ledger.journal._lock_seconds = 0.05
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clock.seconds = 100.0
        assert held.must_stop() is None and "locked by another process" in held.trouble
        with pytest.raises(LedgerBusy):
            held.ledger.reserve(1, "x", "x")
    assert held.tick() and Ledger(path).spent_usd == pytest.approx(100 / HOUR)


WRITER = """
import sys
from x1lib.budget_guard import Ledger
ledger = Ledger(sys.argv[1], 1000.0)
for number in range(25):
    ledger.reserve(1.0, "own", f"{sys.argv[2]}-{number}")
    ledger.settle(ledger.reserve(2.0, "shared", f"shared-{number}"), 2.0)
"""


def test_writers_at_once_lose_and_double_nothing(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(i)], cwd=ROOT) for i in range(4)]
    assert [one.wait(120) for one in writers] == [0] * 4
    ledger = Ledger(path, 1000.0)
    assert ledger.spent_usd == 50.0  # of each shared run once
    assert sum(r.label == "own" for r in ledger.reservations.values()) == 100
    assert len({r.id for r in ledger.reservations.values()}) == len(ledger.reservations)


# Kills


def a_run(path: Path, clock: Clock, hours: int) -> None:
    """Open, admit, tick each half hour, settle: all that a run does to a ledger."""
    held = purse(path, clock, price=2.0, label="lab00")
    BudgetGuard(held.ledger, 2.0).admit(Plan("lab00", 4), "run")
    for _ in range(2 * hours):
        clock.seconds += HOUR / 2
        held.must_stop()
    held.settle("finished")


class Killer:
    """Ends this process by SIGKILL before the n-th call that touches the ledger's file.

    A write has two such points: before it, and with half of it on the disk.
    """

    def __init__(self, n: int, log: Path) -> None:
        self.left, self.log = n, log
        for module, name in ((os, "open"), (os, "fsync"), (os, "close"), (fcntl, "flock")):
            setattr(module, name, self.counted(name, getattr(module, name)))
        self.write, os.write = os.write, self.torn_write

    def tick(self, name: str) -> None:
        if not self.left:
            self.log.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def counted(self, name, call):
        def counted(*arguments, **options):
            self.tick(name)
            return call(*arguments, **options)

        return counted

    def torn_write(self, file, data):
        self.tick("write")
        half = self.write(file, data[: len(data) // 2])
        self.tick("torn write")
        return half + self.write(file, data[half:])


def each_kill(folder: Path) -> None:
    """Fork for n = 0, 1, 2, ...: die at call n, look, let another process go on; look again."""
    killed_at = []
    for n in range(2000):
        path, log = folder / f"{n}.jsonl", folder / "killed-at"
        child = os.fork()
        if child == 0:
            clock = Clock()
            Killer(n, log)
            a_run(path, clock, hours=2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        completed = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        assert completed or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
        ledger = Ledger(path)
        spans = [round(usd, 6) for usd in (0.0, 1.0, 2.0, 3.0, 4.0)]
        assert round(ledger.spent_usd, 6) in spans, ledger.spent_usd  # whole lines, whole ticks
        spent, aside = ledger.spent_usd, ledger.committed_usd
        assert aside in (0.0, pytest.approx(8.8 - spent))
        again = Clock(3 * HOUR)  # killed after two hours at most; the machine stayed up
        a_run(path, again, hours=1)
        ledger = Ledger(path)
        assert ledger.spent_usd == pytest.approx(8.0) and ledger.committed_usd == 0
        assert all(r.run_id == "run" for r in ledger.reservations.values())
        assert len(ledger.reservations) == (2 if completed or len(ledger.reservations) == 2 else 1)
        if completed:
            print(json.dumps(killed_at))
            return
        killed_at.append(log.read_text())
    raise AssertionError("the run never completed")


def test_a_kill_at_every_call_loses_no_money(tmp_path):
    command = [sys.executable, __file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    killed_at = json.loads(done.stdout)
    assert {"open", "flock", "write", "torn write", "fsync", "close"} == set(killed_at)
    assert killed_at.count("torn write") >= 9  # each line of a run


# The machine and the command line


def test_this_machine_is_one_for_all_its_processes():
    machine = this_machine()
    assert 0 <= machine.began_seconds <= machine.seconds()
    code = "from x1lib.budget_guard import this_machine as m; print(m().name, m().seconds())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    name, seconds = done.stdout.rsplit(maxsplit=1)
    assert name == machine.name and abs(float(seconds) - machine.seconds()) < 60
    if sys.platform == "linux":
        assert machine.began_with == "process 1"
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        assert machine.seconds() == pytest.approx(uptime, abs=2)
        begun = time.monotonic()
        time.sleep(0.05)
        assert machine.seconds() > begun - time.monotonic() + machine.began_seconds


def test_the_account_is_shown_as_a_table(path, capsys):
    clock = Clock()
    BudgetGuard(Ledger(path), 1.1).admit(Plan("lab00", 10), "0123456789abcdef")
    held = purse(path, clock, "0123456789abcdef", price=1.1, label="lab00")
    clock.seconds = 2 * HOUR
    held.leave("interrupted by SIGTERM")
    Ledger(path).reserve(5, "lab01", "second")
    assert main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", lines[1])[:6] == [
        "0123456789ab",
        "lab00",
        "2.00",
        "2.20",
        "9.90",
        "r1 open",
    ]
    assert re.split(r"  +", lines[3])[:3] == ["all", "2.20", "14.90"]
    assert "cap 50.00, left 32.90 US dollars" in lines
    assert lines[-1].endswith("left: interrupted by SIGTERM")
    assert main([str(path), "--release", "r2", "--cap-usd", "10"]) == 0
    assert "cap 10.00, left -2.10 US dollars: over the cap" in capsys.readouterr().out
    assert main([str(path), "--release", "r7"]) == 2
    assert capsys.readouterr().err.startswith("LedgerError: ")
    assert main([str(path.with_name("none.jsonl"))]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_command_line_has_help():
    command = [sys.executable, "-m", "x1lib.budget_guard", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--release" in done.stdout


def test_a_relaunch_with_a_larger_plan_keeps_all_that_is_still_to_come(tmp_path):
    """10 hours at a dollar are planned and 5 used; 12 hours then need 12 x 1.10 - 5 more."""
    now = [1000.0]
    machine = Machine("m", "h", now[0], seconds=lambda: now[0])
    ledger = Ledger(tmp_path / "ledger.jsonl")
    guard = BudgetGuard(ledger, 1.0)
    guard.admit(Plan("run", 10), "R1")
    purse = Purse(ledger, 1.0, "R1", machine=machine)
    now[0] += 5 * 3600
    purse.tick(force=True)
    assert ledger.committed_usd == pytest.approx(11.0 - 5.0)
    guard.admit(Plan("run", 12), "R1")
    assert ledger.committed_usd == pytest.approx(13.2 - 5.0)
    again = Ledger(tmp_path / "ledger.jsonl")  # as the next process reads it
    assert again.committed_usd == pytest.approx(13.2 - 5.0)


def test_whoever_takes_the_advice_is_admitted(tmp_path):
    """What would fit is rounded down; with fixed costs above the cap there is no price."""
    guard = BudgetGuard(Ledger(tmp_path / "ledger.jsonl"), 1.10)
    with pytest.raises(BudgetRefused) as refused:
        guard.admit(Plan("run", 36, usd_fixed=3.0, restart_hours=6.0))
    hours = float(re.search(r"([0-9.]+) h would fit", str(refused.value))[1])
    price = float(re.search(r"would fit at ([0-9.]+) an hour", str(refused.value))[1])
    guard.admit(Plan("run", hours, usd_fixed=3.0, restart_hours=6.0))
    BudgetGuard(guard.ledger, price).admit(Plan("run", 36, usd_fixed=3.0, restart_hours=6.0))
    with pytest.raises(BudgetRefused, match="would fit at no price"):
        guard.admit(Plan("run", 1, usd_fixed=60.0))


def test_one_cap_for_all_who_are_at_work(path):
    """Recorded where a reader gives it and it holds; nobody's own line changes it back."""
    clock = Clock()
    first, watcher = (purse(path, clock, cap=50.0, role=role) for role in ("trainer", "watchdog"))
    second = purse(path, clock, run_id="other", cap=5.0)  # one that is refused, say
    for held in (first, second, watcher):
        clock.seconds += 60
        held.must_stop()
        held.tick(force=True)
    assert Ledger(path).recorded_cap_usd == 50.0 and "cap" not in kinds(path)
    Ledger(path, cap_usd=30.0).record_cap()
    for held in (first, second, watcher):
        clock.seconds += 60
        held.must_stop()
        held.tick(force=True)
        assert held.ledger.cap_usd == 30.0
    assert first.available_usd == pytest.approx(30.0 - clock.seconds / HOUR)
    assert kinds(path).count("cap") == 1
    Ledger(path, cap_usd=20.0).record_cap()
    assert first.available_usd == pytest.approx(20.0 - clock.seconds / HOUR)


def test_a_lab_records_its_cap_only_where_the_reader_gave_one_and_it_is_admitted(tmp_path):
    (tmp_path / "ledger.jsonl").touch()
    named = {"restart_hours": 0.0, "after_hours": 0.0, "usd_per_hour": 1.0}

    def lab(name: str, **changes) -> float | None:
        config = SimpleNamespace(**named | {"hours": 1.0, "cap_usd": 0.0} | changes)
        config.billed_since = int(time.time())
        with contextlib.suppress(BudgetRefused):
            Money(config, tmp_path / name, name, lambda line: None)
        return Ledger(tmp_path / "ledger.jsonl", overspent_ok=True).recorded_cap_usd

    assert lab("a", cap_usd=40.0) == 40.0
    assert lab("b", cap_usd=0.5) == 40.0  # refused, so its cap is nobody's
    assert lab("c") == 40.0
    assert lab("d", cap_usd=60.0) == 60.0
    assert lab("e") == 60.0


def test_nothing_is_admitted_where_nothing_is_left(path):
    """A run whose machine idled past the cap has its plan paid, and no money to go on with."""
    clock = Clock()
    held = purse(path, clock, price=2.0)
    held.ledger.reserve(11.0, "run", "run")
    clock.seconds = 24.9 * HOUR
    held.leave("done for today")
    clock.seconds = 25.9 * HOUR
    held = purse(path, clock, price=2.0)
    assert held.ledger.spent_usd == pytest.approx(51.8)
    with pytest.raises(BudgetRefused) as refused:
        BudgetGuard(held.ledger, 2.0).admit(Plan("run", 5), "run")
    said = str(refused.value)
    assert "51.80 are billed to it already, with the idle hours of its machine" in said
    assert "1.80 too much; it would fit at no price, and raise cap_usd" in said
    assert refused.value.available_usd == pytest.approx(-1.8) and "are left" not in said
    free = BudgetGuard(held.ledger, 0.0).admit(Plan("free", 5))  # costs nothing
    assert "; 0.00 are left" in free.text


def test_a_twentieth_of_the_hours_to_restart_leaves_the_plan_of_the_course_its_price(path):
    """At $1.10 an hour it passes with a relaunch kept, at $1.79 not; nor does a day at $1.90."""
    kept = Plan("the whole course", 36, 3, restart_hours=RESTART_SHARE * 36)
    admitted = BudgetGuard(Ledger(path), 1.10).admit(kept)
    assert admitted.usd == pytest.approx((37.8 * 1.10 + 3) * 1.1) and admitted.usd < 50
    assert admitted.break_even_usd_per_hour == pytest.approx((50 / 1.1 - 3) / 37.8)
    with pytest.raises(BudgetRefused, match=r"36 h \+ 1\.8 h to restart"):
        BudgetGuard(Ledger(path), 1.79).admit(kept)
    day = Plan("lab00", 24, restart_hours=RESTART_SHARE * 24)
    assert BudgetGuard(Ledger(path), 1.79).admit(day).usd < 50
    with pytest.raises(BudgetRefused):
        BudgetGuard(Ledger(path), 1.90).admit(day)


# What follows a run, and hours in which nobody is at work


def test_what_follows_a_run_is_set_aside_until_it_is_metered(path):
    """An hour's run, half an hour of measuring after it, and a lab that would take all the rest."""
    clock, plan = Clock(), Plan("lab00", 10, restart_hours=1, after_hours=0.5)
    held = purse(path, clock, price=2.0, label="lab00", end_seconds=END_SECONDS + 1800)
    admitted = BudgetGuard(held.ledger, 2.0).admit(plan, "run")
    assert admitted.usd == pytest.approx(11.5 * 2 * 1.1) and "0.5 h after it" in admitted.text
    with pytest.raises(BudgetRefused):
        BudgetGuard(held.ledger, 2.0).admit(Plan("lab01", 12), "other")
    assert held.margin_seconds == 60 + 60 + 180 + 1800  # it stops early enough to measure
    clock.seconds = 10 * HOUR
    held.settle("finished", usd_after=0.5 * 2.0 * 1.1)
    ledger = Ledger(path)
    assert (ledger.spent_usd, ledger.committed_usd) == (pytest.approx(20), pytest.approx(1.1))
    clock.seconds += 0.75 * HOUR  # it began late
    after = purse(path, clock, price=2.0, role="after")
    assert Ledger(path).committed_usd == 0 and Ledger(path).spent_usd == pytest.approx(21.5)
    clock.seconds += HOUR / 2
    assert after.settle("the ladder: over") == pytest.approx(22.5)
    ledger = Ledger(path)
    assert (ledger.spent_usd, ledger.committed_usd) == (pytest.approx(22.5), 0)
    assert {r.state for r in ledger.reservations.values()} == {"settled"}


def test_idle_hours_are_counted_when_somebody_asks(path, monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr("x1lib.budget_guard.__main__.this_machine", clock.machine)
    held = purse(path, clock, price=2.0, label="lab00")
    held.ledger.reserve(5.0, "lab00", "run")
    clock.seconds = HOUR
    held.settle("finished", usd_after=1.0)
    clock.seconds = 4 * HOUR  # nobody was there
    assert Ledger(path).spent_usd == pytest.approx(2.0)
    for _ in range(2):  # asking again bills no second twice
        assert main([str(path), "--meter"]) == 0
        assert Ledger(path).spent_usd == pytest.approx(8.0)
    assert capsys.readouterr().out.startswith("6.00 US dollars more for this machine\n")
    for _ in range(2):
        assert main([str(path), "--ending"]) == 0
        assert Ledger(path).spent_usd == pytest.approx(8.0 + END_SECONDS * 2 / HOUR)
    assert "no longer set aside: r2" in capsys.readouterr().out
    assert Ledger(path).committed_usd == 0
    clock.seconds += 60  # it was not ended after all: those minutes are paid
    assert purse(path, clock, price=2.0).spent_usd == pytest.approx(8.0 + END_SECONDS * 2 / HOUR)
    other = Clock(HOUR)
    monkeypatch.setattr(
        "x1lib.budget_guard.__main__.this_machine", lambda: other.machine("elsewhere")
    )
    before = path.read_bytes()
    assert main([str(path), "--meter"]) == 0 and path.read_bytes() == before
    assert "in no line of the ledger" in capsys.readouterr().out


def test_what_a_stopped_run_needs_to_go_on_stays_set_aside_when_its_machine_ends(path):
    clock = Clock()
    held = purse(path, clock, price=2.0)
    BudgetGuard(held.ledger, 2.0).admit(Plan("lab00", 5), "run")
    held.leave("interrupted by SIGTERM")
    assert Ledger(path).release_leftovers() == [] and Ledger(path).committed_usd > 10


# A ledger that grew elsewhere


def spend(path, run_id, usd, cap=50.0):
    ledger = Ledger(path, cap)
    ledger.settle(ledger.reserve(usd, run_id, run_id), usd)


def test_a_ledger_that_began_elsewhere_is_counted_once(tmp_path, capsys):
    home, away = tmp_path / "ledger.jsonl", tmp_path / "away.jsonl"
    spend(home, "A", 30.0)
    spend(away, "B", 4.0, cap=99.0)
    assert take_in(home, away) == pytest.approx(4.0)
    assert take_in(home, away) == 0.0  # again
    spend(away, "C", 2.0)
    text = away.read_bytes()
    assert take_in(home, away) == pytest.approx(2.0)  # what came since
    spend(home, "D", 1.0)
    assert take_in(home, away) == 0.0
    assert Ledger(home).spent_usd == pytest.approx(37.0) and away.read_bytes() == text
    assert Ledger(home).recorded_cap_usd == 50.0 and Ledger(home).committed_usd == 0.0
    assert main([str(home), "--take", str(away)]) == 0
    assert "0.00 US dollars of" in capsys.readouterr().out
    assert main([str(home), "--take", str(tmp_path / "none")]) == 2
    away.write_bytes(text.replace(b'"usd": 2.0', b'"usd": 0.0'))
    with pytest.raises(LedgerDamaged):
        take_in(home, away)


def test_of_two_ledgers_that_parted_what_they_share_counts_once(tmp_path):
    home, away, clock = tmp_path / "ledger.jsonl", tmp_path / "away.jsonl", Clock()
    held = purse(home, clock, price=2.0)
    clock.seconds = HOUR
    held.tick(force=True)
    away.write_bytes(home.read_bytes())
    gone = purse(away, clock, price=2.0)
    clock.seconds = 4 * HOUR
    gone.leave("the run went on there")
    spend(home, "free", 0.5)
    assert take_in(home, away) == pytest.approx(6.0)
    assert Ledger(home).spent_usd == pytest.approx(8.5) and take_in(home, away) == 0.0
    behind = tmp_path / "behind.jsonl"
    behind.write_bytes(b"".join(home.read_bytes().splitlines(keepends=True)[:3]))
    assert take_in(home, behind) == 0.0  # it is this one's beginning


# A ledger that is gone


def test_a_ledger_that_is_gone_is_not_made_anew(path):
    clock = Clock()
    held = purse(path, clock)
    watcher = purse(path, clock, role="watchdog", cap=1.0)
    path.unlink()
    clock.seconds = 100.0
    assert "is gone; a ledger is never rewritten" in held.must_stop() and held.is_ledger_lost
    with pytest.raises(LedgerDamaged):
        held.leave("for that")
    assert watcher.must_stop() is None and not path.exists()
    clock.seconds = HOUR - 60  # it knows what it read, and its own clock
    assert watcher.must_stop().startswith("budget: 0.98 US dollars of 1.00")
    assert not path.exists()


if __name__ == "__main__":
    each_kill(Path(sys.argv[1]))
