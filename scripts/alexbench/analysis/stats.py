"""Statistics over runs and over test images: intervals, tests, calibration. Needs NumPy, SciPy and scikit-learn only.

Two things vary: the run, with its seed, and the choice of test images. Intervals over runs (`mean_interval`, `difference_interval`,
`ratio_interval`) say what other seeds might give on these test images; `wilson` and `mcnemar` say what this run might give on other images.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats
from sklearn import metrics

CONFIDENCE = 0.95
RESAMPLES = 9999


class Interval(NamedTuple):
    """An estimate with its 95 % interval. `low` and `high` are NaN where there is none: for a single value, or if all values are equal."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and `value` lies outside it."""
        return bool(value < self.low or value > self.high)


class McNemar(NamedTuple):
    """McNemar's test. `only_a`, `only_b`: images that only a, only b has right; `p`: the chance of a split at least this uneven."""

    only_a: int
    only_b: int
    p: float


class Reliability(NamedTuple):
    """Per confidence bin, (bins,) each: number of images, mean confidence and accuracy (both NaN in an empty bin)."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of runs and its Student's t interval with n - 1 degrees of freedom."""
    values = np.asarray(values, float)
    if len(values) == 0:
        return Interval(np.nan)
    middle, n = float(values.mean()), len(values)
    if n < 2 or np.ptp(values) == 0:
        return Interval(middle)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(middle, middle - half, middle + half)


def prediction_interval(values: Sequence[float]) -> Interval:
    """Mean of runs, and the 95 % prediction interval for one further run: mean ± t s sqrt(1 + 1/n), n - 1 degrees of freedom.

    Use it to judge somebody else's single run. `mean_interval` is narrower, since it says where the mean of many runs lies: in simulations
    without any real difference, a further run lies outside it in 9 % of cases with two runs, 16 % with three, 32 % with five and 51 % with
    ten, but outside the prediction interval in 5 %.
    """
    middle, low, high = mean_interval(values)
    # The half-width of `mean_interval` already contains s sqrt(1/n).
    factor = np.sqrt(len(values) + 1)
    return Interval(middle, middle - factor * (middle - low), middle + factor * (high - middle))


def wilson(correct: int, n: int) -> Interval:
    """Accuracy of one run on `n` test images, with Wilson's score interval, which covers the choice of images but not the seed."""
    found = stats.binomtest(int(correct), int(n)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(correct / n, float(found.low), float(found.high))


def difference_interval(
    a: Sequence[float], b: Sequence[float], paired: bool = False, statistic: Callable = np.mean, together: int = 1
) -> Interval:
    """`statistic(a) - statistic(b)` for the runs of two cells, with its bootstrap interval.

    `paired`: a[i] and b[i] belong together, for example by seed, and are resampled together; both must then have the same length.
    Otherwise each is resampled on its own. `statistic` takes an array and `axis`. `together`: how many such intervals are judged together.
    Each is widened (Bonferroni) so that, in 95 % of cases, all of them contain the true value.

    The interval is the estimate ± t standard errors. The standard error comes from the bootstrap, widened by sqrt(n / (n - 1)); t is
    Student's (Hesterberg, The American Statistician 69:4, 2015), with n - 1 degrees of freedom for paired runs and those of Welch and
    Satterthwaite otherwise.

    Coverage in simulations with normally distributed runs: the usual percentile interval, which cannot extend beyond the observed runs,
    contains the true value in 50 % of cases with two runs, 75 % with three and 91 % with ten. This interval, paired, contains it in 95 %,
    for medians in 98 %. Unpaired, where Welch's degrees of freedom are an approximation: 98 % with two runs each, 96 % with three and
    95 % with ten, but 90 % with two against ten.
    The price is its width: with two pairs of runs it extends 13 standard errors to either side, so only very large differences show. No
    method gets more out of two runs.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if min(len(a), len(b)) == 0:
        return Interval(np.nan)
    middle = float(statistic(a, axis=0) - statistic(b, axis=0))
    if min(len(a), len(b)) < 2:
        return Interval(middle)
    if paired:
        variances = [_variance((a, b), lambda x, y, axis: statistic(x, axis=axis) - statistic(y, axis=axis))]
    else:
        variances = [_variance((values,), statistic) for values in (a, b)]
    # Treat rounding errors as no spread: sums of equal numbers differ in their last bits.
    if np.sqrt(sum(variances)) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return Interval(middle)
    # If paired, there is one term and this is n - 1.
    freedom = sum(variances) ** 2 / sum(v**2 / (len(values) - 1) for v, values in zip(variances, (a, b), strict=False))
    half = float(stats.t.ppf(1 - (1 - CONFIDENCE) / together / 2, freedom) * np.sqrt(sum(variances)))
    return Interval(middle, middle - half, middle + half)


def _variance(runs: Sequence[np.ndarray], statistic: Callable) -> float:
    """Bootstrap variance of a statistic of runs, resampled together by position, scaled by n / (n - 1)."""
    random = np.random.default_rng(0)
    found = stats.bootstrap(runs, statistic, paired=len(runs) > 1, n_resamples=RESAMPLES, method="percentile", random_state=random)
    n = len(runs[0])
    return float(n / (n - 1) * found.standard_error**2)


def ratio_interval(
    a: Sequence[float], b: Sequence[float], paired: bool = False, statistic: Callable = np.mean, together: int = 1
) -> Interval:
    """`statistic(a) / statistic(b)` of positive values, with the `difference_interval` of the logarithms and its weakness."""

    def logarithm(values: np.ndarray, axis: int) -> np.ndarray:
        return np.log(statistic(values, axis=axis))

    return Interval(*(float(np.exp(edge)) for edge in difference_interval(a, b, paired, logarithm, together)))


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> McNemar:
    """McNemar's exact test of two networks on the same images; bool (n,) each, whether a prediction is correct.

    It compares two trained networks, not the frameworks or recipes that trained them: other seeds may give another result.
    """
    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax in float64; logits (n, classes)."""
    return special.softmax(np.asarray(logits, np.float64), axis=1)


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Accuracy by confidence, the largest probability, in bins of equal width; logits (n, classes), labels (n,)."""
    shares = probabilities(logits)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(count, np.bincount(place, confidence, minlength=bins) / count, np.bincount(place, right, minlength=bins) / count)


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability`, weighted by images (Guo et al., ICML 2017, equation 5)."""
    count, confidence, accuracy = reliability(logits, labels, bins)
    filled = count > 0
    return float(np.sum(count[filled] * np.abs(confidence[filled] - accuracy[filled])) / len(labels))


def confusion_matrix(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Number of images by true class (row) and predicted class (column), int (classes, classes)."""
    return metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=range(logits.shape[1]))


def class_accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each class's images that are classified correctly, (classes,); NaN for a class without images."""
    matrix = confusion_matrix(logits, labels)
    with np.errstate(invalid="ignore"):
        return np.diagonal(matrix) / matrix.sum(axis=1)


def is_unbalanced(labels: np.ndarray, classes: int) -> bool:
    """Whether the largest class has over 1.2 times as many images as the smallest, so that accuracy alone says little of the small ones."""
    counts = np.bincount(labels, minlength=classes)
    return bool(counts.max() > 1.2 * counts.min())


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the classes' accuracies; logits (n, classes), labels (n,)."""
    return float(np.nanmean(class_accuracy(logits, labels)))


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of F1, the harmonic mean of precision and recall; 0 for a class that is never predicted."""
    return float(metrics.f1_score(labels, logits.argmax(axis=1), labels=range(logits.shape[1]), average="macro", zero_division=0.0))


def confidently_wrong(shares: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most `count` misclassified images, the most confident first, int (<= count,).

    `shares`: probabilities (n, classes).
    """
    wrong = np.flatnonzero(shares.argmax(axis=1) != labels)
    return wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")][:count]
