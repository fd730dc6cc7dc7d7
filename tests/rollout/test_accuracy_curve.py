"""The curve of accuracy against hint rate: its inverse, its fit, and the points that the fit is given."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from rollout.accuracy_curve import AccuracyCurve, FitRules, averaged, fit_curve, with_margins

CURVES = st.builds(
    AccuracyCurve,
    slope=st.floats(0.5, 50),
    shift=st.floats(-2, 1),
    guess=st.floats(0, 0.9),
)


def fitted(*points: tuple[float, float]) -> AccuracyCurve:
    return fit_curve(averaged(with_margins(points)), FitRules()).curve


# -- the curve


@pytest.mark.parametrize(
    ("slope", "shift", "guess", "rate"),
    # The paper's Fig. 3. By hand, the second: 0.84 - ln(0.98 / 0.48 - 1) / 43.15 = 0.84 - 0.04082 / 43.15 = 0.83905.
    [(4.46, -0.5, 0.0, 0.5), (43.15, -0.84, 0.02, 0.8391), (19.03, -0.64, 0.45, 0.5190), (50.0, -0.59, 0.0, 0.59)],
)
def test_the_rate_for_half_of_the_rollouts(slope: float, shift: float, guess: float, rate: float) -> None:
    found = AccuracyCurve(slope=slope, shift=shift, guess=guess).rate(0.5)
    assert found == pytest.approx(rate, abs=5e-5)


def test_the_curve_is_a_logistic_above_its_guess_rate() -> None:
    curve = AccuracyCurve(slope=4.0, shift=-0.5, guess=0.2)
    # At -shift the logistic is 1/2: 0.2 + 0.8 / 2. A quarter further, 1 / (1 + e^-1) = 0.7311.
    assert curve.accuracy(0.5) == pytest.approx(0.6)
    assert curve.accuracy(0.75) == pytest.approx(0.2 + 0.8 * 0.731058579)


@settings(deadline=None)
@given(curve=CURVES, rates=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_accuracy_rises_with_the_hint_from_the_guess_rate_to_1(
    curve: AccuracyCurve, rates: tuple[float, float]
) -> None:
    low, high = sorted(rates)
    assert curve.guess <= curve.accuracy(low) <= curve.accuracy(high) <= 1
    near = AccuracyCurve(slope=curve.slope, shift=-0.5, guess=curve.guess)
    assert near.accuracy(0.45) < near.accuracy(0.55)


@settings(deadline=None)
@given(curve=CURVES, share=st.floats(0.01, 0.99))
def test_the_rate_of_an_accuracy_has_that_accuracy(curve: AccuracyCurve, share: float) -> None:
    accuracy = curve.guess + (1 - curve.guess) * share
    rate = curve.rate(accuracy)
    assert rate is not None
    assert curve.accuracy(rate) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize(("guess", "accuracy"), [(0.5, 0.5), (0.6, 0.5), (0.0, 0.0), (0.0, 1.0)])
def test_an_accuracy_that_the_curve_never_has_has_no_rate(guess: float, accuracy: float) -> None:
    assert AccuracyCurve(slope=10.0, shift=-0.5, guess=guess).rate(accuracy) is None


def test_no_slope_overflows() -> None:
    steep = AccuracyCurve(slope=1e6, shift=-0.5, guess=0.0)
    assert (steep.accuracy(0.0), steep.accuracy(0.5), steep.accuracy(1.0)) == (0.0, 0.5, 1.0)


# -- its points


def test_what_was_not_tried_is_nothing_without_a_hint_and_everything_with_the_whole_solution() -> None:
    assert with_margins([(0.8, 1.0)]) == ((0.8, 1.0), (0.0, 0.0), (1.0, 1.0))
    assert with_margins([(0.0, 0.75), (0.5, 1.0)]) == ((0.0, 0.75), (0.5, 1.0), (1.0, 1.0))
    assert with_margins([(1.0, 0.5), (0.0, 0.5)]) == ((1.0, 0.5), (0.0, 0.5))
    assert with_margins([]) == ((0.0, 0.0), (1.0, 1.0))


def test_rounds_of_one_rate_are_one_point_of_their_mean_accuracy() -> None:
    points = [(0.4, 0.25), (0.8, 1.0), (0.4, 0.75), (0.4, 0.5)]
    assert averaged(points) == ((0.4, 0.5), (0.8, 1.0)) == averaged(points[::-1])


# -- its fit


def test_the_start_decides_where_only_margins_and_a_success_are_known() -> None:
    # Any steep curve with its jump between 0 and 0.8 is exact; from shift -0.5 the solver stays near it.
    assert fitted((0.8, 1.0)).rate(0.5) == pytest.approx(0.46, abs=0.01)


def test_a_fit_to_a_failure_below_a_success() -> None:
    curve = fitted((0.8, 1.0), (0.4, 0.25))
    assert curve.guess == pytest.approx(0.0, abs=1e-3)
    assert curve.shift == pytest.approx(-0.43, abs=0.01)
    rate = curve.rate(0.5)
    # The slope is hardly known: only the jump must lie behind 0.4.
    assert rate is not None and 0.42 <= rate <= 0.48


def test_a_fit_to_three_rounds_is_determined() -> None:
    points = [(0.8, 1.0), (0.4, 0.25), (0.6, 0.625)]
    fit = fit_curve(averaged(with_margins(points)), FitRules())
    assert fit.curve.slope == pytest.approx(9.77, abs=0.1)
    assert fit.curve.shift == pytest.approx(-0.531, abs=0.005)
    assert fit.curve.guess == pytest.approx(0.007, abs=0.003)
    assert fit.curve.rate(0.5) == pytest.approx(0.53, abs=0.01)
    squares = [(fit.curve.accuracy(rate) - accuracy) ** 2 for rate, accuracy in with_margins(points)]
    assert fit.error == pytest.approx(math.sqrt(sum(squares) / 5))


def test_the_fit_finds_the_curve_that_its_points_are_on() -> None:
    curve = AccuracyCurve(slope=12.0, shift=-0.4, guess=0.1)
    rates = [each / 10 for each in range(11)]
    fit = fit_curve(tuple((rate, curve.accuracy(rate)) for rate in rates), FitRules())
    assert (fit.curve.slope, fit.curve.shift, fit.curve.guess) == pytest.approx((12.0, -0.4, 0.1), abs=1e-4)
    assert fit.error == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_that_of_a_solver_without_its_jacobian(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = np.linspace(0, 1, 9)
    seen = np.clip(0.05 + 0.95 / (1 + np.exp(-8 * (rates - 0.5))) + rng.normal(0, 0.05, 9), 0, 1)
    rules = FitRules()
    (slope, shift, guess), _ = curve_fit(
        lambda p, k, mu, b: b + (1 - b) / (1 + np.exp(-k * (p + mu))),
        rates,
        seen,
        p0=rules.start,
        bounds=(rules.lower, rules.upper),
    )
    found = fit_curve(tuple(zip(rates.tolist(), seen.tolist(), strict=True)), rules).curve
    assert (found.slope, found.shift, found.guess) == pytest.approx((slope, shift, guess), abs=1e-3)


@settings(deadline=None)
@given(points=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=4))
def test_a_fit_stays_within_its_bounds_and_is_the_same_again(points: list[tuple[int, int]]) -> None:
    seen = averaged(with_margins([(step / 5, correct / 8) for step, correct in points]))
    fit = fit_curve(seen, FitRules())
    assert 1e-3 <= fit.curve.slope <= 50 and -2 <= fit.curve.shift <= 1 and 0 <= fit.curve.guess <= 0.999
    assert 0 <= fit.error <= 1
    fit_curve.cache_clear()
    assert fit_curve(seen, FitRules()) == fit


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"start": (10.0, -0.5)}, r"must be \(slope, shift, guess\), got \[2, 3, 3\] numbers"),
        ({"start": (60.0, -0.5, 0.05)}, "must lie between its bounds"),
        ({"lower": (0.0, -2.0, 0.0)}, "slope > 0 and guess in"),
        ({"upper": (50.0, 1.0, 1.0)}, "slope > 0 and guess in"),
    ],
)
def test_rules_that_no_fit_can_follow_are_refused(rules: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitRules(**rules)
