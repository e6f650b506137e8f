"""What the automatic sharpener decides after each epoch, on made-up losses."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.keras.sharpening.course import HARD, SURROGATE, Budget, Course, falls, growth, moves


def drive(losses, *, layers=2, epochs=40, tempo=HARD, watched=None, first=0, start=None):
    """Return the sharpness of every epoch for these training losses, as the callback asks for it."""
    course, budget, values, seen = Course(), Budget(first, epochs), start or [0.0] * layers, []
    course.before_first_epoch(first, values, tempo, budget)
    for epoch in range(first, epochs):
        values = course.next_values(values)
        seen.append(values)
        loss = losses(epoch, values)
        course.after_epoch(epoch, values, loss, loss if watched is None else watched(epoch), tempo, budget)
    return seen, course


def test_blunt_phase_lasts_while_the_watched_loss_falls():
    seen, _ = drive(lambda epoch, values: max(1.0 - 0.1 * epoch, 0.5), epochs=60)
    # 0.5 is reached in epoch 5; two epochs without an improvement end the phase
    assert [values[0] for values in seen[:10]] == [0] * 8 + [0.25, 0.625]


def test_blunt_phase_goes_by_validation_where_there_is_one():
    seen, _ = drive(lambda epoch, values: 1.0 / (epoch + 1), watched=lambda epoch: 1.0, epochs=60)
    assert [values[0] for values in seen[:4]] == [0, 0, 0, 0.25]


def test_epochs_without_validation_are_not_counted_as_waiting():
    seen, _ = drive(lambda epoch, values: 1.0, watched=lambda epoch: 1.0 if epoch % 2 else None, epochs=60)
    assert [values[0] for values in seen[:8]] == [0] * 6 + [0.25, 0.625]


def test_blunt_phase_ends_in_time_however_well_it_learns():
    seen, _ = drive(lambda epoch, values: 0.5**epoch, epochs=20)
    assert [values[0] for values in seen[:7]] == [0] * 6 + [0.25]


def test_layers_follow_each_other_and_none_goes_slowly_through_the_steepest_slopes():
    seen, course = drive(lambda epoch, values: 1.0, layers=3)
    for low, mid, high in seen:
        assert mid == 0.0 or low == 1.0
        assert high == 0.0 or mid == 1.0
        assert not any(0.85 < value < 1.0 for value in (low, mid, high))
    assert seen[-1] == [1.0] * 3
    assert course.phase == "sharp"
    assert not course.hurried


def test_rise_of_the_loss_makes_it_wait_until_the_loss_no_longer_falls_and_go_slower():
    after_step = iter([1.0, 1.0, 1.0, 1.5, 1.3, 1.22, 1.21] + [1.21] * 99)
    seen, _ = drive(lambda epoch, values: next(after_step), layers=1, epochs=100)
    # the step to 0.25 costs 50 %; it waits while the loss falls by more than 2 %, then goes on half as fast
    assert [values[0] for values in seen[:9]] == [0, 0, 0, 0.25, 0.25, 0.25, 0.25, 0.375, pytest.approx(0.5625)]


def test_recovery_ends_the_wait_at_once():
    after_step = iter([1.0, 1.0, 1.0, 1.5, 1.05] + [1.0] * 99)
    seen, _ = drive(lambda epoch, values: next(after_step), layers=1, epochs=100)
    assert [values[0] for values in seen[3:6]] == [0.25, 0.25, 0.375]


def test_with_a_surrogate_a_layer_is_sharp_in_one_step():
    seen, _ = drive(lambda epoch, values: 1.0, layers=3, tempo=SURROGATE)
    assert seen[:6] == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]


@given(
    layers=st.integers(1, 6),
    extra=st.integers(1, 60),
    first=st.integers(0, 5),
    tempo=st.sampled_from([HARD, SURROGATE]),
    start=st.data(),
    seed=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=60)
def test_whatever_the_losses_do_the_last_epoch_is_trained_fully_sharpened(layers, extra, first, tempo, start, seed):
    values = start.draw(st.lists(st.floats(0, 1), min_size=layers, max_size=layers))
    unfinished = sum(value < 1.0 for value in values)
    wild = lambda epoch, values: seed.choice([0.0, 0.1, 1.0, 10.0, math.nan, math.inf, -1.0])  # noqa: E731
    seen, course = drive(wild, epochs=first + unfinished + extra, first=first, tempo=tempo, start=values)
    assert seen[-1] == [1.0] * layers
    assert course.phase == "sharp"
    for earlier, later in zip([values, *seen], seen, strict=False):
        assert all(a <= b for a, b in zip(earlier, later, strict=True))


def test_a_layer_that_is_sharp_but_for_a_rounding_takes_no_step_of_its_own():
    seen, course = drive(lambda epoch, values: 1.0, layers=3, epochs=3, start=[0.0, 0.5, 1.0 - 2.0**-53])
    assert seen[-1] == [1.0] * 3
    assert course.phase == "sharp"


def test_few_epochs_still_leave_a_blunt_one_and_a_sharp_one():
    seen, course = drive(lambda epoch, values: 1.0, layers=3, epochs=4)
    assert seen == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert course.hurried


def test_model_that_comes_half_sharpened_goes_on_from_there():
    seen, _ = drive(lambda epoch, values: 1.0, start=[1.0, 0.5])
    assert seen[:3] == [[1.0, 0.75], [1.0, 1.0], [1.0, 1.0]]


def test_model_that_comes_sharp_is_trained_sharp():
    seen, course = drive(lambda epoch, values: 1.0, start=[1.0, 1.0], epochs=3)
    assert seen == [[1.0, 1.0]] * 3
    assert course.phase == "sharp"


def sharp_course(steps, *, tempo=SURROGATE, can_cool=True, epochs=100, first=10):
    course = Course(phase="sharp")
    return [
        course.after_sharp_epoch(epoch, improved, falling, can_cool, tempo, Budget(0, epochs))
        for epoch, (improved, falling) in enumerate(steps, start=first)
    ]


def test_sharp_training_stops_when_nothing_better_comes_and_the_rate_has_fallen_twice():
    stale = (False, False)
    assert sharp_course([(True, False)] + [stale] * 12) == ["go on"] * 4 + (["cool"] + ["go on"] * 3) * 2 + ["stop"]
    assert sharp_course([(True, False)] + [stale] * 4, can_cool=False) == ["go on"] * 4 + ["stop"]
    assert sharp_course([(True, False)] + [stale] * 3, tempo=HARD) == ["go on"] * 3 + ["stop"]


def test_new_best_epoch_or_a_falling_learning_rate_begins_the_count_anew():
    stale, best, falling = (False, False), (True, False), (False, True)
    steps = [stale, stale, best, stale, stale, falling, stale, stale, stale]
    assert sharp_course(steps, tempo=HARD) == ["go on"] * 8 + ["stop"]


def test_rate_falls_before_the_epochs_end_however_well_it_learns():
    assert sharp_course([(True, False)] * 10, epochs=20) == (
        ["go on"] * 3 + ["cool"] + ["go on"] * 2 + ["cool"] + ["go on"] * 3
    )
    assert sharp_course([(True, False)], epochs=11) == ["go on"]


def test_growth_is_relative_and_safe():
    assert growth(1.5, 1.0) == 0.5
    assert growth(-0.5, -1.0) == 0.5
    assert growth(1.0, None) == 0.0
    assert growth(0.0, 0.0) == 0.0
    assert growth(1.0, 0.0) == math.inf
    assert growth(math.nan, 1.0) == math.inf


def test_learning_rate_falls_only_if_it_is_known_and_lower():
    assert falls(0.9, 1.0)
    assert not falls(1.0, 1.0)
    assert not falls(0.99999, 1.0)
    assert not falls(None, 1.0)
    assert not falls(1.0, None)
    assert moves(1.0, 0.9)
    assert moves(0.9, 1.0)
    assert not moves(1.0, 1.0)
    assert not moves(None, 1.0)
