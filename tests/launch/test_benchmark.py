from launch import benchmark
from tests.launch import conftest


def test_the_benchmark_prints_both_and_their_ratio(monkeypatch):
  monkeypatch.setattr(benchmark, '_NUM_IMAGES', 5)
  monkeypatch.setattr(benchmark, '_NUM_SAMPLES', 8)
  result = conftest.call(benchmark.main, ['--repeats=2'])
  assert result.code == 0, result.stderr
  lines = result.stdout.splitlines()
  assert [line[:26].strip() for line in lines] == [
    'importance-weighted bound',
    'matrix products alone',
    'ratio, pair by pair',
  ]
