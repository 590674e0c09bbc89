"""Intervals hold the truth as often as they claim, tests agree with published tables, and nothing is called better without reason."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from alexbench.analysis import stats


def test_the_mean_of_runs_has_students_interval():
    values = [0.61, 0.63, 0.64]
    found = stats.mean_interval(values)
    assert found.value == pytest.approx(0.62667, abs=1e-5)
    # Student's t for 2 degrees of freedom is 4.3027; the standard deviation is 0.0152753.
    assert found.high - found.value == pytest.approx(4.3027 * 0.0152753 / 3**0.5, rel=1e-4)
    assert found.value - found.low == pytest.approx(found.high - found.value)


@pytest.mark.parametrize("values", [[0.6], [0.6, 0.6], []])
def test_one_run_or_no_spread_gives_no_interval(values):
    found = stats.mean_interval(values)
    assert np.isnan(found.low) and np.isnan(found.high)
    assert not found.excludes(0.1)


def test_wilsons_interval_of_one_run():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263, and 0 of 20.
    assert stats.wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert stats.wilson(0, 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("paired", [True, False])
def test_intervals_of_a_difference_hold_the_truth_as_often_as_they_say(n, paired, monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 500)
    random = np.random.default_rng(n)
    held = []
    for _ in range(400):
        common = random.normal(0, 0.02, n) if paired else 0
        a, b = 0.63 + common + random.normal(0, 0.01, n), 0.60 + common + random.normal(0, 0.01, n)
        found = stats.difference_interval(a, b, paired)
        held.append(found.low <= 0.03 <= found.high)
    # 95 % of 400 is 380, with a standard deviation of 4.4; ignoring the covariance or the small n gives far less.
    # Unpaired, Welch's degrees of freedom are on the safe side if both have few runs.
    assert np.mean(held) > 0.95 - 0.035
    if paired:
        assert np.mean(held) < 0.95 + 0.035


@pytest.mark.parametrize(
    ("n", "others", "paired", "statistic", "share"),
    [
        (2, 2, True, np.mean, 0.95),
        (3, 3, True, np.median, 0.98),
        # With the smaller n's degrees of freedom: 0.994, 0.987 and 1.
        (2, 2, False, np.mean, 0.98),
        (3, 3, False, np.mean, 0.96),
        (2, 10, False, np.mean, 0.90),
    ],
)
def test_the_docstring_says_how_often_a_difference_is_held(n, others, paired, statistic, share, monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 200)
    random = np.random.default_rng(0)
    pairs = zip(random.normal(0.63, 0.01, (1000, n)), random.normal(0.60, 0.01, (1000, others)), strict=True)
    found = [stats.difference_interval(a, b, paired, statistic) for a, b in pairs]
    held = np.mean([interval.low <= 0.03 <= interval.high for interval in found])
    assert f"{100 * share:.0f} %" in stats.difference_interval.__doc__
    # Two standard deviations of the share of 1,000, plus what rounding and resampling add.
    assert abs(held - share) < 2 * np.sqrt(share * (1 - share) / 1000) + 0.005


@pytest.mark.parametrize(("n", "share"), [(2, 0.50), (3, 0.75), (10, 0.91)])
def test_the_docstring_says_how_seldom_the_percentile_interval_does(n, share):
    random = np.random.default_rng(n)
    runs = random.normal(0, 1, (1500, n))
    means = np.array([runs[:, random.integers(0, n, n)].mean(axis=1) for _ in range(1000)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    assert f"{100 * share:.0f} %" in stats.difference_interval.__doc__
    assert abs(np.mean((low <= 0) & (high >= 0)) - share) < 2 * np.sqrt(share * (1 - share) / 1500) + 0.005


def test_unpaired_means_have_welchs_interval():
    a, b = [0.60, 0.64, 0.68, 0.61], [0.50, 0.52]
    expected = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = stats.difference_interval(a, b)
    # Apart from the noise of resampling.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.1)


@pytest.mark.parametrize(("n", "outside"), [(2, 0.09), (3, 0.16), (5, 0.32), (10, 0.51)])
def test_a_further_run_lies_in_the_prediction_interval_as_often_as_it_says(n, outside):
    random = np.random.default_rng(n)
    runs, further = random.normal(0.63, 0.01, (2000, n)), random.normal(0.63, 0.01, 2000)
    shares = []
    for interval in (stats.prediction_interval, stats.mean_interval):
        _, low, high = np.array([interval(values) for values in runs]).T
        shares.append(np.mean((low <= further) & (further <= high)))
    held, of_the_mean = shares
    # The standard deviation of the first share is 0.005, that of the second at most 0.011.
    assert abs(held - 0.95) < 0.015 and abs(1 - of_the_mean - outside) < 0.025
    assert f"{100 * outside:.0f} %" in stats.prediction_interval.__doc__


@pytest.mark.parametrize("values", [[0.6], [0.6, 0.6], []])
def test_one_run_or_no_spread_predicts_nothing(values):
    found = stats.prediction_interval(values)
    assert np.isnan(found.low) and np.isnan(found.high)


def test_pairing_takes_out_what_runs_of_a_seed_have_in_common():
    a = np.array([0.60, 0.64, 0.68])
    b = a - [0.009, 0.010, 0.011]
    together, apart = stats.difference_interval(a, b, paired=True), stats.difference_interval(a, b)
    assert together.value == pytest.approx(0.01) == apart.value
    assert together.excludes(0) and apart.low <= 0 <= apart.high
    # For paired means it is Student's interval, apart from the noise of resampling.
    expected = scipy_stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (together.low, together.high) == pytest.approx((expected.low, expected.high), rel=0.05)


def test_cells_of_different_size_are_compared_unpaired():
    found = stats.difference_interval([0.60, 0.61, 0.62, 0.61], [0.50, 0.52])
    assert found.value == pytest.approx(0.1) and found.low < 0.1 < found.high


def test_intervals_that_are_judged_together_hold_together(monkeypatch):
    """Three frameworks without any difference, judged in pairs: any of the three is wrong in at most 5 % of cases, unadjusted in more."""
    monkeypatch.setattr(stats, "RESAMPLES", 500)
    random = np.random.default_rng(3)
    wrong = {1: [], 3: []}
    for _ in range(1000):
        cells = random.normal(0.6, 0.01, (3, 5))
        for together, seen in wrong.items():
            found = [stats.difference_interval(a, b, paired=True, together=together) for a, b in combinations(cells, 2)]
            seen.append(any(interval.excludes(0) for interval in found))
    # 5 % of 1,000 has a standard deviation of 0.7 %.
    assert np.mean(wrong[3]) < 0.05 + 0.014 < np.mean(wrong[1]) - 0.02


@pytest.mark.parametrize("function", [stats.difference_interval, stats.ratio_interval])
def test_one_run_a_cell_or_no_spread_gives_no_interval_of_a_difference(function):
    for a, b in (([0.6], [0.5]), ([0.6, 0.7], [0.5]), ([0.6, 0.6], [0.5, 0.5]), ([], [0.5])):
        assert np.isnan(function(a, b).low)


def test_a_ratio_turned_round_is_one_over_it():
    a, b = [200.0, 220.0, 180.0, 205.0], [100.0, 101.0, 99.0, 103.0]
    found, turned = stats.ratio_interval(a, b, paired=True), stats.ratio_interval(b, a, paired=True)
    assert found.value == pytest.approx(np.mean(a) / np.mean(b))
    assert (1 / turned.value, 1 / turned.high, 1 / turned.low) == pytest.approx(tuple(found))
    assert stats.ratio_interval(a, b, statistic=np.median).value == pytest.approx(np.median(a) / np.median(b))


def test_the_same_runs_give_the_same_interval():
    a, b = [0.61, 0.63, 0.66], [0.60, 0.59, 0.62]
    assert stats.difference_interval(a, b) == stats.difference_interval(a, b)


def test_mcnemar_counts_the_images_that_one_alone_has_right():
    right_a = np.array([True] * 10 + [False] * 2 + [True] * 50 + [False] * 38)
    right_b = np.array([False] * 10 + [True] * 2 + [True] * 50 + [False] * 38)
    found = stats.mcnemar(right_a, right_b)
    assert (found.only_a, found.only_b) == (10, 2)
    # Two-sided binomial: 2 (1 + 12 + 66) / 2^12.
    assert found.p == pytest.approx(2 * 79 / 4096)
    assert stats.mcnemar(right_a, right_a) == (0, 0, 1.0)


def sure(confidence: float, label: int, classes: int = 4) -> list[float]:
    """Logits of an image that is assigned to `label` with that probability."""
    return [np.log(confidence if place == label else (1 - confidence) / (classes - 1)) for place in range(classes)]


def test_calibration_is_the_distance_of_confidence_from_accuracy():
    # Ten images at 0.9, of which 6 are right; ten at 0.5, of which 5 are.
    logits = np.array([sure(0.9, 0)] * 10 + [sure(0.5, 0)] * 10)
    labels = np.array([0] * 6 + [1] * 4 + [0] * 5 + [2] * 5)
    assert stats.expected_calibration_error(logits, labels) == pytest.approx((10 * 0.3 + 10 * 0) / 20)
    found = stats.reliability(logits, labels, bins=10)
    assert found.count.sum() == 20 and found.count[9] + found.count[8] == 10
    assert np.nanmax(found.accuracy) == 0.6 and np.isnan(found.accuracy[0])
    # A probability of 1 belongs to the last bin.
    assert stats.reliability(np.array([[1000.0, 0.0]]), np.array([0])).count.tolist() == [0] * 14 + [1]


def test_classes_and_confusion():
    logits = np.eye(3)[[0, 0, 1, 2, 2, 2]]
    labels = np.array([0, 1, 1, 2, 2, 0])
    assert stats.confusion_matrix(logits, labels).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 2]]
    assert stats.class_accuracy(logits, labels) == pytest.approx([0.5, 0.5, 1])
    assert np.isnan(stats.class_accuracy(logits, np.array([0, 0, 0, 1, 1, 1]))[2])


def test_the_surest_mistakes_come_first():
    shares = stats.probabilities(np.array([sure(0.9, 0), sure(0.99, 1), sure(0.6, 2), sure(0.95, 3)]))
    labels = np.array([0, 2, 0, 0])
    assert stats.confidently_wrong(shares, labels, 2).tolist() == [1, 3]
    assert stats.confidently_wrong(shares, labels, 10).tolist() == [1, 3, 2]


def test_unbalanced_classes_have_measures_of_their_own():
    """Nine of ten images are of class 0, and a network that always says so is right in nine of ten."""
    labels = np.array([0] * 90 + [1] * 10)
    assert stats.is_unbalanced(labels, 2) and not stats.is_unbalanced(np.arange(100) % 2, 2)
    always = np.tile([1.0, 0.0], (100, 1))
    assert stats.balanced_accuracy(always, labels) == 0.5
    # Precision 0.9 and recall 1 for class 0; 0 for class 1.
    assert stats.macro_f1(always, labels) == pytest.approx((2 * 0.9 / 1.9) / 2)
