"""The sharpeners, driven epoch by epoch without any training: what is how sharp when, and when they stop."""

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl

from strop.errors import DataError, StropError
from strop.keras import (
    AdaptiveSharpener,
    ScheduledSharpener,
    SimpleSharpener,
    SpikingBReLU,
    get_sharpness,
    set_sharpness,
)


def model_of(count):
    stack = [keras.Input((2,))]
    for index in range(count):
        stack += [kl.Dense(2), SpikingBReLU(name=f"s{index}")]
    return keras.Sequential(stack)


class Course:
    """Call a sharpener as Keras does; note the sharpness around batches and epochs, and in the logs."""

    def __init__(self, sharpener, model, batches, *, epochs=99, first=0, losses=None, steps="known", stride=1):
        self.before_epoch, self.after_batch, self.after_epoch, self.logged = [], [], [], []
        sharpener.set_params({"verbose": 0, "epochs": epochs, "steps": batches if steps == "known" else steps})
        sharpener.set_model(model)
        model.stop_training = False
        sharpener.on_train_begin()
        for epoch in range(first, epochs):
            sharpener.on_epoch_begin(epoch)
            self.before_epoch.append(values(model))
            self.after_batch.append([])
            for batch in range(0, batches, stride):
                sharpener.on_train_batch_begin(batch)
                sharpener.on_train_batch_end(batch + stride - 1, {"loss": 1.0})
                self.after_batch[-1].append(values(model))
            logs = {"loss": 1.0 if losses is None else losses[epoch - first]}
            sharpener.on_epoch_end(epoch, logs)
            self.after_epoch.append(values(model))
            self.logged.append(logs)
            if model.stop_training:
                break
        sharpener.on_train_end()
        self.epochs = len(self.after_epoch)


def values(model):
    return list(get_sharpness(model).values())


class TestSimple:
    def test_by_epochs_one_layer_after_the_other(self):
        course = Course(SimpleSharpener(2, steps=2), model_of(2), batches=3)
        assert course.after_epoch == [[0, 0], [0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [1, 1]]

    def test_all_at_once(self):
        course = Course(SimpleSharpener(0, steps=4, bottom_up=False), model_of(3), batches=3)
        assert course.after_epoch == [[0.25] * 3, [0.5] * 3, [0.75] * 3, [1.0] * 3, [1.0] * 3]

    def test_by_batches_from_the_first_batch_of_the_start_epoch_on(self):
        course = Course(SimpleSharpener(1, steps=2, epochs=False), model_of(2), batches=3)
        assert course.after_batch == [
            [[0, 0]] * 3,
            [[0.5, 0], [1, 0], [1, 0.5]],
            [[1, 1], [1, 1], [1, 1]],
            [[1, 1]] * 3,
        ]

    def test_by_batches_counts_batches_and_not_calls(self):
        """With `steps_per_execution` Keras calls once for several batches."""
        course = Course(SimpleSharpener(0, steps=8, epochs=False), model_of(1), batches=6, stride=3, epochs=1)
        assert course.after_batch == [[[3 / 8], [6 / 8]]]

    @pytest.mark.parametrize("bottom_up", [True, False])
    @pytest.mark.parametrize("steps", [1, 3, 7, 49])
    def test_takes_exactly_so_many_steps_and_ends_at_exactly_one(self, steps, bottom_up):
        course = Course(SimpleSharpener(0, steps=steps, bottom_up=bottom_up), model_of(2), batches=1)
        taken = steps * 2 if bottom_up else steps
        assert course.epochs == taken + 1
        assert course.after_epoch[taken - 1] == [1.0, 1.0]
        assert min(course.after_epoch[taken - 2] if taken > 1 else [0]) < 1.0

    def test_goes_on_from_what_the_layers_have_and_never_blunts(self):
        model = model_of(3)
        set_sharpness(model, [0.6, 1.0, 0.0])
        course = Course(SimpleSharpener(0, steps=4), model, batches=2)
        assert course.after_epoch[:4] == [[0.75, 1, 0], [1, 1, 0], [1, 1, 0.25], [1, 1, 0.5]]

    def test_interrupted_and_resumed_is_the_same_as_in_one_go(self):
        whole = Course(SimpleSharpener(1, steps=3), model_of(2), batches=2).after_epoch
        model = model_of(2)
        first = Course(SimpleSharpener(1, steps=3), model, batches=2, epochs=4).after_epoch
        second = Course(SimpleSharpener(1, steps=3), model, batches=2, first=4).after_epoch
        assert first + second == whole

    def test_reset_starts_from_nothing(self):
        model = model_of(2)
        set_sharpness(model, 1.0)
        course = Course(SimpleSharpener(1, steps=1, reset=True), model, batches=2)
        assert course.after_epoch == [[0, 0], [1, 0], [1, 1], [1, 1]]


class TestScheduled:
    def test_sharpens_from_the_first_batch_of_start_to_exactly_one_at_the_last_of_stop(self):
        course = Course(ScheduledSharpener([(1, 3), (3, 4)]), model_of(2), batches=4)
        first, second = ([[sharp[i] for sharp in epoch] for epoch in course.after_batch] for i in (0, 1))
        assert first == [[0] * 4, [0.125, 0.25, 0.375, 0.5], [0.625, 0.75, 0.875, 1], [1] * 4, [1] * 4]
        assert second == [[0] * 4, [0] * 4, [0] * 4, [0.25, 0.5, 0.75, 1], [1] * 4]

    def test_may_start_in_epoch_0(self):
        course = Course(ScheduledSharpener([(0, 1)]), model_of(1), batches=2)
        assert course.after_batch[0] == [[0.5], [1.0]]

    def test_one_batch_per_epoch_is_no_division_by_zero(self):
        course = Course(ScheduledSharpener([(0, 1), (0, 2)]), model_of(2), batches=1)
        assert course.after_batch == [[[1.0, 0.5]], [[1.0, 1.0]], [[1.0, 1.0]]]

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=3),
        st.integers(1, 7),
        st.integers(1, 3),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=40)
    def test_any_schedule_is_met_to_the_epoch(self, spans, batches, stride, known):
        schedule = [(start, start + length) for start, length in spans]
        batches *= stride
        sharpener = ScheduledSharpener(schedule)
        steps = "known" if known else None
        course = Course(sharpener, model_of(len(schedule)), batches, stride=stride, steps=steps)
        for index, (start, stop) in enumerate(schedule):
            for epoch in range(course.epochs):
                after = course.after_epoch[epoch][index]
                assert (after > 0) == (epoch >= start)
                assert (after == 1.0) == (epoch >= stop - 1)
            assert all(sharp[index] == 0 for epoch in course.after_batch[:start] for sharp in epoch)
            if known:
                assert course.after_batch[start][0][index] > 0
                assert course.after_batch[stop - 1][-1][index] == 1.0
        assert course.epochs == max(stop for _, stop in schedule) + 1

    def test_unknown_number_of_batches_steps_by_epochs_until_it_is_known(self):
        course = Course(ScheduledSharpener([(0, 2)]), model_of(1), batches=2, steps=None)
        assert course.after_batch[:2] == [[[0], [0]], [[0.75], [1.0]]]
        assert course.after_epoch[:2] == [[0.5], [1.0]]

    def test_more_batches_than_keras_said_do_not_run_ahead(self):
        course = Course(ScheduledSharpener([(0, 2)]), model_of(1), batches=6, steps=3)
        assert course.after_batch[0] == [
            [pytest.approx(1 / 6)],
            [pytest.approx(1 / 3)],
            [0.5],
            [0.5],
            [0.5],
            [0.5],
        ]

    def test_taken_up_in_the_middle_it_is_where_the_schedule_is(self):
        course = Course(ScheduledSharpener([(0, 2), (2, 4)]), model_of(2), batches=2, first=3)
        assert course.before_epoch[0] == [1.0, 0.5]  # sharp for the first batch already
        assert course.after_batch[0] == [[1.0, 0.75], [1.0, 1.0]]

    def test_never_blunts_a_layer_unless_told_to(self):
        model = model_of(2)
        set_sharpness(model, [0.5, 1.0])
        course = Course(ScheduledSharpener([(0, 2), (0, 2)]), model, batches=2, epochs=1)
        assert course.after_batch == [[[0.5, 1.0], [0.5, 1.0]]]
        course = Course(ScheduledSharpener([(0, 2), (0, 2)], reset=True), model, batches=2, epochs=1)
        assert course.after_batch == [[[0.25, 0.25], [0.5, 0.5]]]

    def test_generated_schedule_takes_the_number_of_layers_from_the_model(self):
        course = Course(ScheduledSharpener(start=1, duration=1, intermission=1), model_of(2), batches=2)
        assert course.after_epoch == [[0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]
        course = Course(ScheduledSharpener(start=1, duration=2, bottom_up=False), model_of(2), batches=2)
        assert course.after_epoch == [[0, 0], [0.5, 0.5], [1, 1], [1, 1]]

    def test_generated_schedule(self):
        expected = [(10, 14), (15, 19), (20, 24)]
        assert ScheduledSharpener.gen_schedule(3, 10, 4, 1) == expected
        assert ScheduledSharpener(num_layers=3, start=10, duration=4, intermission=1).schedule == expected
        assert ScheduledSharpener.gen_schedule(2, 0, 1) == [(0, 1), (1, 2)]

    @pytest.mark.parametrize("schedule", [[(0, 1)], [(0, 1)] * 3])
    def test_schedule_for_another_number_of_layers_is_refused(self, schedule):
        with pytest.raises(DataError, match=f"schedule has {len(schedule)} entries for 2 layers: s0, s1"):
            Course(ScheduledSharpener(schedule), model_of(2), batches=2)

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ({"schedule": [(-1, 2)]}, "start of entry 0 .* at least 0, got -1"),
            ({"schedule": [(0, 1), (3, 3)]}, "stop of entry 1 .* at least 4, got 3"),
            ({"schedule": [(0, 1.5)]}, "whole number"),
            ({"schedule": []}, "empty"),
            ({"schedule": [1, 2]}, "list of \\(start, stop\\)"),
            ({}, "needs a schedule, or start and duration"),
            ({"start": 1}, "needs a schedule, or start and duration"),
            ({"start": 1, "duration": 0}, "duration must be"),
            ({"start": 1, "duration": 1, "intermission": -1}, "intermission must be"),
            ({"start": 1, "duration": 1, "num_layers": 0}, "num_layers must be"),
            ({"schedule": [(0, 1)], "start": 1}, "not both"),
        ],
    )
    def test_bad_schedule_is_refused_with_the_reason(self, arguments, match):
        with pytest.raises(DataError, match=match):
            ScheduledSharpener(**arguments)


class TestAdaptive:
    def test_waits_until_the_loss_stops_falling_and_patience_is_out(self):
        losses = [1.0, 0.5, 0.25, 0.12, 0.12, 0.12, 0.12, 0.12]
        sharpener = AdaptiveSharpener(min_init_epochs=2, rate=0.5, patience=1)
        course = Course(sharpener, model_of(1), batches=2, epochs=8, losses=losses)
        # better by 15 % up to epoch 3; epochs 4 and 5 are not, so epoch 6 is the first to sharpen
        assert course.after_epoch == [[0]] * 6 + [[0.5], [pytest.approx(0.813)]]
        assert course.after_batch[6] == [[0.25], [0.5]]

    def test_does_not_begin_before_min_init_epochs(self):
        course = Course(AdaptiveSharpener(min_init_epochs=5, patience=0), model_of(1), batches=1, epochs=7)
        assert course.after_epoch == [[0]] * 5 + [[0.25], [0.5]]

    def test_pauses_when_the_loss_rises_and_goes_on_when_it_is_steady(self):
        losses = [1.0, 1.0, 1.0, 1.2, 1.2, 1.2, 1.2]
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, sig_increase=0.15)
        course = Course(sharpener, model_of(1), batches=1, epochs=7, losses=losses)
        # sharpens in epochs 2 and 3; the rise at the end of 3 pauses epoch 4, whose steady loss ends that
        assert [sharp[0] for sharp in course.after_epoch] == [0, 0, 0.25, 0.5, 0.5, 0.75, 0.876]

    def test_rise_below_the_significant_one_does_not_pause(self):
        losses = [1.0, 1.0, 1.1, 1.14, 1.14]
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, sig_increase=0.15)
        course = Course(sharpener, model_of(1), batches=1, epochs=5, losses=losses)
        assert [sharp[0] for sharp in course.after_epoch] == [0, 0, 0.25, 0.5, 0.75]

    def test_fall_while_waiting_prolongs_the_wait(self):
        losses = [1.0, 0.8, 0.6, 0.4, 0.4, 0.4]
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, sig_decrease=0.15)
        course = Course(sharpener, model_of(1), batches=1, epochs=6, losses=losses)
        assert [sharp[0] for sharp in course.after_epoch] == [0, 0, 0, 0, 0, 0.25]

    def test_slow_improvements_that_add_up_count_as_one(self):
        losses = [1.0, 0.9, 0.8, 0.72, 0.65]  # each below 15 %, but 0.8 is 20 % below 1.0
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=1)
        course = Course(sharpener, model_of(1), batches=1, epochs=5, losses=losses)
        assert course.after_epoch[-1] == [0]

    def test_critical_zone_has_its_own_rate(self):
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, rate=0.4, cz_rate=0.05, critical=0.8)
        course = Course(sharpener, model_of(1), batches=1, epochs=6)
        assert [sharp[0] for sharp in course.after_epoch] == pytest.approx([0, 0, 0.4, 0.8, 0.85, 0.9])

    def test_first_layer_has_its_own_rate(self):
        sharpener = AdaptiveSharpener(
            min_init_epochs=1, patience=0, rate=0.5, cz_rate=0.5, first_layer_relative_rate=0.5
        )
        course = Course(sharpener, model_of(2), batches=1, epochs=8)
        assert course.after_epoch[2:] == [[0.25, 0], [0.5, 0], [0.75, 0], [1, 0], [1, 0.5], [1, 1]]

    def test_next_layer_waits_for_the_next_epoch(self):
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, rate=1.0, cz_rate=1.0, critical=0.0)
        set_sharpness(model := model_of(2), [0.5, 0.0])
        course = Course(sharpener, model, batches=4, epochs=4)
        assert course.after_batch[2] == [[0.75, 0], [1, 0], [1, 0], [1, 0]]
        assert course.after_batch[3] == [[1, 0.25], [1, 0.5], [1, 0.75], [1, 1]]

    def test_all_at_once(self):
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, rate=0.5, cz_rate=0.5, bottom_up=False)
        course = Course(sharpener, model_of(3), batches=2)
        assert course.after_epoch == [[0] * 3, [0] * 3, [0.5] * 3, [1] * 3, [1] * 3]

    @pytest.mark.parametrize("batches", [1, 3, 7, 60])
    @pytest.mark.parametrize("bottom_up", [True, False])
    def test_ends_at_exactly_one_and_stops(self, batches, bottom_up):
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0, bottom_up=bottom_up)
        course = Course(sharpener, model_of(2), batches=batches)
        assert course.after_epoch[-1] == [1.0, 1.0]
        # 0.75 at a rate of 0.25 and the rest at 0.126: five epochs a layer, after the two that wait
        assert course.epochs == 2 + (10 if bottom_up else 5) + 1

    def test_counts_the_batches_itself_where_keras_cannot(self):
        sharpener = AdaptiveSharpener(min_init_epochs=1, patience=0)
        course = Course(sharpener, model_of(1), batches=5, steps=None, epochs=3)
        assert course.after_epoch == [[0], [0], [0.25]]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_loss_that_is_no_number_pauses(self, bad):
        losses = [1.0, 1.0, bad, bad, bad, bad]
        course = Course(AdaptiveSharpener(min_init_epochs=1, patience=0), model_of(1), 1, epochs=6, losses=losses)
        assert [sharp[0] for sharp in course.after_epoch] == [0, 0, 0.25, 0.25, 0.25, 0.25]

    def test_loss_of_zero_is_no_division_by_zero(self):
        losses = [0.0, 0.0, 0.0, 0.1, 0.1]
        course = Course(AdaptiveSharpener(min_init_epochs=1, patience=0), model_of(1), 1, epochs=5, losses=losses)
        assert [sharp[0] for sharp in course.after_epoch] == [0, 0, 0.25, 0.5, 0.5]

    def test_loss_that_is_not_logged_is_refused_by_name(self):
        with pytest.raises(StropError, match=r"listens to 'val_loss', which this training does not log"):
            Course(AdaptiveSharpener(monitor="val_loss"), model_of(1), batches=1)

    @pytest.mark.parametrize(
        "argument",
        ["min_init_epochs", "rate", "cz_rate", "first_layer_relative_rate", "sig_increase", "sig_decrease"],
    )
    @pytest.mark.parametrize("bad", [0, -1, "fast", None, True])
    def test_figures_out_of_range_are_refused_by_name(self, argument, bad):
        with pytest.raises(DataError, match=f"{argument} must be"):
            AdaptiveSharpener(**{argument: bad})

    def test_bounds_of_the_other_figures(self):
        assert AdaptiveSharpener(critical=0, rate=1, patience=0).critical == 0.0
        for arguments in (
            {"critical": 1.1},
            {"critical": -0.1},
            {"rate": 1.1},
            {"patience": -1},
            {"patience": 0.5},
        ):
            with pytest.raises(DataError, match=f"{next(iter(arguments))} must be"):
                AdaptiveSharpener(**arguments)


class TestAll:
    @pytest.mark.parametrize(
        "sharpener",
        [
            lambda: SimpleSharpener(0, steps=2),
            lambda: SimpleSharpener(0, steps=3, epochs=False),
            lambda: ScheduledSharpener([(0, 1), (1, 2)]),
            lambda: AdaptiveSharpener(min_init_epochs=1, patience=0),
        ],
        ids=["epochs", "batches", "scheduled", "adaptive"],
    )
    def test_stops_after_the_first_whole_epoch_at_full_sharpness(self, sharpener):
        course = Course(sharpener(), model_of(2), batches=4)
        assert course.after_epoch[-2:] == [[1.0, 1.0], [1.0, 1.0]]
        assert course.after_batch[-1] == [[1.0, 1.0]] * 4
        assert course.epochs == 2 or min(course.after_epoch[-3]) < 1.0

    def test_model_that_is_sharp_already_still_gets_an_epoch(self):
        set_sharpness(model := model_of(2), 1.0)
        assert Course(SimpleSharpener(0), model, batches=1).epochs == 1

    def test_does_not_stop_before_everything_is_sharp(self):
        course = Course(SimpleSharpener(0, steps=5), model_of(2), batches=1, epochs=9)
        assert course.epochs == 9
        assert course.after_epoch[-1] == [1.0, 0.8]

    def test_logs_hold_the_sharpness_that_the_epoch_was_trained_with(self):
        course = Course(SimpleSharpener(0, steps=2), model_of(2), batches=1)
        logged = [(logs["sharpness_s0"], logs["sharpness_s1"], logs["sharpness"]) for logs in course.logged]
        assert logged == [(0, 0, 0), (0.5, 0, 0.25), (1, 0, 0.5), (1, 0.5, 0.75), (1, 1, 1)]

    def test_sharpener_tells_what_it_knows(self):
        sharpener = SimpleSharpener(0, steps=2)
        Course(sharpener, model_of(2), batches=1, epochs=3)
        assert sharpener.sharpness == {"s0": 1.0, "s1": 0.5}
        assert not sharpener.fully_sharpened
        assert sharpener.epoch == 2

    def test_model_without_spiking_layers_is_refused(self):
        model = keras.Sequential([keras.Input((2,)), kl.Dense(2)], name="smooth")
        with pytest.raises(StropError, match="model 'smooth' has no spiking activation"):
            Course(SimpleSharpener(0), model, batches=1)

    def test_verbose_prints_a_line_per_epoch_and_quiet_none(self, capsys):
        Course(SimpleSharpener(0, steps=2, verbose=True), model_of(1), batches=1, epochs=2)
        assert capsys.readouterr().out == "epoch 0: sharpness s0=0.5\nepoch 1: sharpness s0=1\n"
        Course(AdaptiveSharpener(1, verbose=True), model_of(1), batches=1, epochs=1)
        assert capsys.readouterr().out == "epoch 0: sharpness s0=0; loss 1, waiting\n"
        Course(SimpleSharpener(0, steps=2), model_of(1), batches=1, epochs=2)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("arguments", [(-1,), (1.5,), (0, 0), (0, 2.0), ("0",), (True,)])
    def test_simple_sharpener_refuses_figures_out_of_range(self, arguments):
        with pytest.raises(DataError, match=r"(start_epoch|steps) must be a whole number"):
            SimpleSharpener(*arguments)
