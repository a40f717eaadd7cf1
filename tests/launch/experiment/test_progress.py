from launch.experiment import progress


def test_a_plain_line_says_what_is_done_and_how_far(capsys, monkeypatch):
  monkeypatch.setattr(progress, '_PLAIN_SECONDS', 0.0)
  with progress.Progress(0, 10_000, 'images', 'log p(x)') as shown:
    shown.update(1500)
  with progress.Progress(2, 9) as shown:
    shown.update(4)
  first, second = capsys.readouterr().err.splitlines()
  assert first.startswith('log p(x): 1,500 of 10,000 images, ')
  assert second.startswith('4 of 9 steps, ')
