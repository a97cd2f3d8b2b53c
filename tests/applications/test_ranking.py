"""What a search says of its accuracies, checked by hand."""

import numpy as np
import pytest

from dcjax.applications.nas.ranking import (
  Scores,
  best,
  comma_separated,
  correlations,
  counts,
  scatter,
  shortlist,
  table,
)


def scores(validation, test=None):
  validation = np.array(validation, float)
  return Scores(validation, validation if test is None else np.array(test, float))


def by_hand(first, second):
  """Spearman's coefficient of distinct values: 1 - 6 sum(d^2) / (n (n^2 - 1))."""
  ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
  count = len(first)
  return 1 - 6 * np.square(ranks[0] - ranks[1]).sum() / (count * (count**2 - 1))


def test_how_many_are_compared():
  assert counts(720) == {"best_10": 10, "best_5_percent": 36, "all": 720}
  assert counts(24) == {"best_10": 10, "best_5_percent": 2, "all": 24}
  assert (shortlist(720), shortlist(24), shortlist(4)) == (36, 10, 4)


def test_the_best_are_those_of_the_validation():
  found = scores([0.2, 0.9, 0.5, 0.9], test=[0.9, 0.1, 0.8, 0.7])
  assert best(found, 3).tolist() == [1, 3, 2]


def test_correlations_of_the_best_and_of_all():
  rng = np.random.default_rng(0)
  proxy, whole = (scores(*rng.permuted(np.tile(np.arange(240.0), (2, 1)), axis=1)) for _ in "ab")
  found = correlations(proxy, whole)
  for name, count in (("best_10", 10), ("best_5_percent", 12), ("all", 240)):
    places = np.argsort(-proxy.validation)[:count]
    for field in ("validation", "test"):
      expected = by_hand(getattr(proxy, field)[places], getattr(whole, field)[places])
      assert found[name][field] == pytest.approx(expected)
  assert correlations(proxy, proxy)["all"]["test"] == pytest.approx(1.0)


def test_ties_share_their_rank():
  found = correlations(scores([0.3, 0.1, 0.1]), scores([0.5, 0.2, 0.4]))["all"]["test"]
  assert found == pytest.approx(1.5 / np.sqrt(1.5 * 2))  # Pearson's of 3, 1.5, 1.5 and 3, 1, 2


@pytest.mark.parametrize(
  ("proxy", "whole"),
  [
    ([0.1, 0.2], [0.1, 0.2]),
    ([0.1, 0.1, 0.1], [0.1, 0.2, 0.3]),
    ([0.1, 0.2, 0.3], [0.1, 0.2, np.nan]),
  ],
)
def test_what_is_not_defined_is_none(proxy, whole):
  assert correlations(scores(proxy), scores(whole))["all"] == {"validation": None, "test": None}


def test_the_ranking_as_text():
  text = comma_separated(
    ["a", "b", "c"],
    {"DM": scores([0.1, 0.3, 0.2]), "whole": scores([np.nan, 0.5, 0.625], [np.nan, 0.25, 0.75])},
  )
  assert text.splitlines() == [
    "network,DM rank,DM validation,DM test,whole rank,whole validation,whole test",
    "a,3,0.1,0.1,,,",
    "b,1,0.3,0.3,2,0.5,0.25",
    "c,2,0.2,0.2,1,0.625,0.75",
  ]


def test_the_table():
  found = {"validation": 0.789, "test": None}
  entry = {
    "set": "DM", "images": 100, "steps": 300, "chosen": "convnet:width=32",
    "accuracy_mean": 0.8125, "accuracy_std": 0.01, "seconds": 12.4, "compile_seconds": 3.0,
    "correlations": {"best_10": found, "best_5_percent": found, "all": found},
  }  # fmt: skip
  head, _, row, *_ = table([entry]).splitlines()
  assert len(head) == len(row)
  assert [cell.strip() for cell in row.strip("|").split("|")] == [
    "DM", "100", "300", "convnet:width=32", "81.2 ± 1.0", *["0.79 / -"] * 3, "12", "3",
  ]  # fmt: skip


def test_the_picture():
  rng = np.random.default_rng(1)
  whole, proxies = scores(rng.random(30)), {name: scores(rng.random(30)) for name in "abcde"}
  panels = scatter(proxies, whole).axes
  assert [axes.get_title()[:1] for axes in panels] == ["a", "b", "c", "d", "e", ""]
  others, chosen = (found.get_offsets() for found in panels[0].collections)
  places = best(proxies["a"], 10)
  np.testing.assert_allclose(chosen, 100 * np.stack([proxies["a"].test, whole.test], 1)[places])
  assert len(others) == 20
  expected = by_hand(proxies["a"].test[places], whole.test[places])
  assert panels[0].get_title() == f"a\nbest 10: ρ = {expected:.2f}"
