"""Runs of seconds in memory: steady, exact, and equal where the rule across widths says nothing."""

import math

from x1lib.postmortem.tiny import activations, heldout, steady, text, tiny


def test_a_steady_schedule_warms_up_and_stays():
    schedule = steady(50)
    assert schedule.multiplier(0) == 1 / 50 and schedule.multiplier(49) == 1
    assert schedule.multiplier(100_000) == 1


def test_a_tiny_run_goes_back_to_the_bit_and_settings_reach_it():
    run = tiny(width=32, seed=3)
    assert run.config.seed == 3 and run.shape.d_model == 32
    run.run(3)
    state = run.snapshot()
    once = run.run(2, observe=True, probe=True)
    assert run.restore(state).run(2, observe=True, probe=True) == once
    assert tiny(width=32, seed=4).run(1) != tiny(width=32, seed=3).run(1)


def test_an_untrained_model_guesses_among_all_tokens():
    losses = heldout(tiny(width=32))
    assert losses.keys() == {"book", "encyclopaedia"} and len({*losses.values()}) == 2
    for nats in losses.values():
        assert math.isclose(nats, math.log(text().vocab_size), rel_tol=0.03)


def test_at_the_base_width_the_rule_changes_nothing():
    plain = activations(32)
    assert list(plain) == ["queries", "stream", "logits"] and min(plain.values()) > 0
    assert activations(32, base_width=32) == plain
    assert activations(64, base_width=32) != activations(64)
