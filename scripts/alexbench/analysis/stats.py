"""Statistics over runs and over test images: intervals, tests, calibration. NumPy, SciPy and scikit-learn only.

Two things vary: the run, with its seed, and the choice of test images. Intervals over runs (`mean_interval`, `difference_interval`,
`ratio_interval`) say what other seeds might give on these test images; `wilson` and `mcnemar` what this one run might on others.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats
from sklearn import metrics

CONFIDENCE = 0.95
RESAMPLES = 9999


class Interval(NamedTuple):
    """An estimate with its 95 % interval. `low` and `high` are NaN where there is none: of one value, or of values all the same."""

    value: float
    low: float = np.nan
    high: float = np.nan

    def contains(self, value: float) -> bool:
        """Whether `value` lies within the interval; False where there is no interval."""
        return bool(self.low <= value <= self.high)

    def excludes(self, value: float) -> bool:
        """Whether there is an interval, and `value` lies outside."""
        return bool(value < self.low or value > self.high)


class McNemar(NamedTuple):
    """`only_a`, `only_b`: images that a alone, b alone has right; `p`: how often chance would share them out so unevenly, or more so."""

    only_a: int
    only_b: int
    p: float


class Reliability(NamedTuple):
    """By bin of confidence, (bins,) each: number of images, their mean confidence and their accuracy (NaN in an empty bin)."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of runs, and its interval by Student's t with n - 1 degrees of freedom."""
    values = np.asarray(values, float)
    if len(values) == 0:
        return Interval(np.nan)
    middle, n = float(values.mean()), len(values)
    if n < 2 or np.ptp(values) == 0:
        return Interval(middle)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(middle, middle - half, middle + half)


def prediction_interval(values: Sequence[float]) -> Interval:
    """Mean of runs, and the 95 % interval in which a single further run will lie: mean ± t s sqrt(1 + 1/n), n - 1 degrees of freedom.

    A single run of somebody else's is compared with this one. `mean_interval` is narrower: it says where the mean of many runs lies. In
    simulations where nothing differs, a further run lies outside of that in 9 % of cases with two runs, 16 % with three, 32 % with five,
    51 % with ten, and outside of this one in 5 %.
    """
    middle, low, high = mean_interval(values)
    # s sqrt(1/n) is in it already.
    factor = np.sqrt(len(values) + 1)
    return Interval(middle, middle - factor * (middle - low), middle + factor * (high - middle))


def wilson(correct: int, n: int) -> Interval:
    """Share of right answers of one run on `n` test images, and Wilson's score interval: of the images, not of the seed."""
    found = stats.binomtest(int(correct), int(n)).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(correct / n, float(found.low), float(found.high))


def difference_interval(a: Sequence[float], b: Sequence[float], paired: bool = False, statistic: Callable = np.mean) -> Interval:
    """`statistic(a) - statistic(b)` of the runs of two cells, and its bootstrap interval.

    `paired`: a[i] and b[i] belong together, as by their seed, and are resampled together; both have the same length then. Otherwise each
    is resampled by itself. `statistic` takes an array and `axis`.

    The spread comes from the bootstrap, widened by sqrt(n / (n - 1)), and the interval is that many standard errors to either side as
    Student's t gives it (Hesterberg, The American Statistician 69:4, 2015): with n - 1 degrees of freedom where runs are paired, with
    Welch's and Satterthwaite's where they are not. The usual percentile interval cannot reach beyond the runs at hand: in simulations of
    normal runs it holds the truth in 50 % of cases with two runs, 75 % with three, 91 % with ten. This one, paired, does so in 95 %, of
    medians in 98 %. Unpaired, Welch's degrees of freedom are an approximation: 98 % with two runs each, 96 % with three, 95 % with ten,
    but 90 % with two against ten. Its weakness is its width: with two pairs of runs it reaches 13 standard errors, so that only the
    largest of differences shows. No method makes more of two runs.
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
    # Sums of equal numbers differ in their last bits.
    if np.sqrt(sum(variances)) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return Interval(middle)
    # Of one term, paired, this is n - 1.
    freedom = sum(variances) ** 2 / sum(v**2 / (len(values) - 1) for v, values in zip(variances, (a, b), strict=False))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(sum(variances)))
    return Interval(middle, middle - half, middle + half)


def _variance(runs: Sequence[np.ndarray], statistic: Callable) -> float:
    """Variance of a statistic of runs by the bootstrap, those in one place resampled together; as if they had been divided by n - 1."""
    random = np.random.default_rng(0)
    found = stats.bootstrap(runs, statistic, paired=len(runs) > 1, n_resamples=RESAMPLES, method="percentile", random_state=random)
    n = len(runs[0])
    return float(n / (n - 1) * found.standard_error**2)


def ratio_interval(a: Sequence[float], b: Sequence[float], paired: bool = False, statistic: Callable = np.mean) -> Interval:
    """`statistic(a) / statistic(b)` of positive values, and its interval: `difference_interval` of the logarithms, with its weakness."""

    def logarithm(values: np.ndarray, axis: int) -> np.ndarray:
        return np.log(statistic(values, axis=axis))

    return Interval(*(float(np.exp(edge)) for edge in difference_interval(a, b, paired, logarithm)))


def verdict(found: Interval, above: str, below: str, equal: float = 0.0) -> str:
    """A difference (or, with `equal` 1, a ratio) in a word: `above` or `below` only where the interval excludes `equal`."""
    if np.isnan(found.low):
        return "no interval, no verdict"
    if not found.excludes(equal):
        return "no difference found"
    return above if found.value > equal else below


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> McNemar:
    """McNemar's exact test of two networks on the same images; bool (n,) each, whether a prediction is right.

    It compares two trained networks, not what trained them: other seeds may come out otherwise.
    """
    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax in float64; logits (n, classes)."""
    return special.softmax(np.asarray(logits, np.float64), axis=1)


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """How often a network is right when it is so sure: bins of equal width of its largest probability; logits (n, classes), labels (n,)."""
    shares = probabilities(logits)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(count, np.bincount(place, confidence, minlength=bins) / count, np.bincount(place, right, minlength=bins) / count)


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance of confidence from accuracy over the bins of `reliability`, by their images (Guo et al., ICML 2017, equation 5)."""
    count, confidence, accuracy = reliability(logits, labels, bins)
    filled = count > 0
    return float(np.sum(count[filled] * np.abs(confidence[filled] - accuracy[filled])) / len(labels))


def confusion_matrix(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images by true class (row) and predicted class (column), int (classes, classes)."""
    return metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=range(logits.shape[1]))


def class_accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each class's images that are taken for it, (classes,); NaN for a class without images."""
    matrix = confusion_matrix(logits, labels)
    with np.errstate(invalid="ignore"):
        return np.diagonal(matrix) / matrix.sum(axis=1)


def confidently_wrong(shares: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Places of at most `count` images that are taken for a wrong class, the surest first, int (<= count,).

    `shares`: probabilities (n, classes).
    """
    wrong = np.flatnonzero(shares.argmax(axis=1) != labels)
    return wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")][:count]
