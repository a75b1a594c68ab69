"""Length of a training: equal epochs, nothing lost, schedules over the whole length."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellmill.training.lengths import describe_source, plan_length
from cellmill.training.optimisers import learning_rate_at


def settings_of(*, epochs=50, steps=None, minutes=None, **schedule):
    optimiser = {"learning_rate": 0.01}
    rates = {"optimiser": optimiser, "schedule": {"name": "cosine", "warmup_epochs": 0, **schedule}}
    return {"epochs": epochs, "steps": steps, "minutes": minutes, **rates}


@given(epochs=st.integers(1, 200), steps=st.integers(1, 5000))
def test_epochs_of_a_number_of_steps_add_up_and_differ_by_one_step_at_most(epochs, steps):
    length = plan_length(settings_of(epochs=epochs, steps=steps), pass_steps=7)
    parts = [length.of(epoch) for epoch in range(length.epochs)]
    assert sum(parts) == length.steps == steps
    assert max(parts) - min(parts) <= 1
    assert length.epochs == (epochs if steps >= epochs else steps)
    assert [length.before(epoch) for epoch in range(length.epochs)] == [sum(parts[:n]) for n in range(length.epochs)]


def test_fewer_steps_than_epochs_are_epochs_of_one_step():
    length = plan_length(settings_of(steps=3), pass_steps=7)
    assert [length.of(epoch) for epoch in range(length.epochs)] == [1, 1, 1]


def test_without_a_number_of_steps_each_epoch_is_a_pass():
    length = plan_length(settings_of(epochs=4), pass_steps=7)
    assert ([length.of(epoch) for epoch in range(4)], length.steps) == ([7] * 4, 28)


def test_the_progress_of_passes_is_the_plain_sum_to_the_last_bit():
    length = plan_length(settings_of(epochs=50), pass_steps=49)
    for epoch in range(50):
        for step in range(49):
            assert length.progress(epoch, step) == epoch + step / 49


@pytest.mark.parametrize("steps", [3, 20, 64, 1000, 1001])
def test_a_cosine_falls_over_the_steps_whatever_their_number(steps):
    train = settings_of(epochs=20, steps=steps)
    length = plan_length(train, pass_steps=7)
    for epoch in range(length.epochs):
        done = length.before(epoch)
        rate = learning_rate_at(length.progress(epoch, 0), train=train)
        # The boundary of two epochs may be rounded by one step.
        low, high = (0.01 * (1 + math.cos(math.pi * min(1, (done + shift) / steps))) / 2 for shift in (1, 0))
        assert low <= rate <= high + 1e-9


def test_a_warmup_in_epochs_is_a_fraction_of_the_length():
    train = settings_of(epochs=10, steps=1000, name="none", warmup_epochs=2)
    length = plan_length(train, pass_steps=7)
    rates = [learning_rate_at(length.progress(epoch, 0), train=train) for epoch in (0, 1, 2, 3)]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.01])


def test_steps_of_a_rate_fall_at_their_epochs():
    train = settings_of(epochs=50, steps=3000, name="step", every_epochs=10, factor=0.5)
    length = plan_length(train, pass_steps=7)
    rates = [learning_rate_at(length.progress(9 + (step >= 60), step % 60), train=train) for step in (59, 60)]
    assert rates == pytest.approx([0.01, 0.005])


@pytest.mark.parametrize(
    ("changes", "source"),
    [({}, "epochs: 50"), ({"steps": 11_000}, "steps: 11000"), ({"minutes": 15.0}, "minutes: 15")],
)
def test_the_source_is_the_key_that_was_set(changes, source):
    assert describe_source(settings_of(**changes)) == source
