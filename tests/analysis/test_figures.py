import itertools
import pathlib
import re

import matplotlib.image
import matplotlib.offsetbox
import matplotlib.path
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotnine as gg
import pytest
from matplotlib.collections import PathCollection

from analysis import (
  axis,
  colours,
  embedding,
  factors,
  figures,
  frames,
  loss_curves,
  rate_distortion,
  study,
  sweep,
  terms,
  wording,
)
from launch import records
from tests.analysis import builders


def draw(plot, path, dpi=figures.DPI):
  plot.save(path, dpi=dpi, verbose=False)
  return matplotlib.image.imread(path)[..., :3]


# -- Loss curves --------------------------------------------------------------


@pytest.mark.parametrize('shift', [0.0, -0.5, -2.0])
def test_loss_curves_show_every_point(shift):
  steps = np.array([1, 2, 4, 8])
  frame = pd.DataFrame(
    {
      'step': steps,
      'configuration': '',
      'reduction': 'mean',
      'total': 1 / steps + shift,
      'reconstruction': 0.9 / steps + shift,
      'measured_kl': 0.1 * steps,
    }
  )
  figure = loss_curves.plot_loss_curves(frame).draw()
  for axes, term in zip(
    figure.axes, ('total', 'reconstruction', 'measured_kl'), strict=True
  ):
    points = np.concatenate([c.get_offsets() for c in axes.collections])
    expected = frame[term]
    if not shift:
      expected = np.log10(expected)
    np.testing.assert_allclose(points[:, 1], expected)
    low, high = axes.get_ylim()
    assert (points[:, 1] >= low).all()
    assert (points[:, 1] <= high).all()
  texts = ' '.join(text.get_text() for text in figure.findobj(plt.Text))
  assert ('linear' in texts) == bool(shift)
  figures.close(figure)


@pytest.mark.parametrize(
  ('settings', 'flags', 'left_out'),
  [
    ({'beta': (1.0, 4.0)}, {}, 'runs that differ in beta'),
    ({'beta': (1.0, 4.0)}, {'facet': 'beta'}, ''),
    ({'objective': ('elbo', 'dip_ii')}, {}, 'runs that differ in objective'),
    ({'latent_size': (2, 3)}, {}, ''),
    (
      {'likelihood': ('bernoulli', 'normal')},
      {},
      'runs that differ in likelihood',
    ),
  ],
)
def test_totals_of_unlike_losses_share_no_panel(
  tmp_path, settings, flags, left_out
):
  ((name, values),) = settings.items()
  for value in values:
    builders.write_run(tmp_path / str(value), **{name: value})
  plot = loss_curves.plot(*tmp_path.iterdir(), **flags)
  panels = set(plot.data['panel'].str.split('[\n,]').str[0])
  assert 'KL' in panels
  assert ('reconstruction' in panels) == (name != 'likelihood')
  assert ('total loss' in panels) == (not left_out)
  caption = ' '.join(plot.labels.caption.split())
  assert left_out in caption
  assert ('left out' in caption) == bool(left_out)


def test_what_is_no_density_has_its_own_unit(tmp_path):
  for likelihood in ('bernoulli', 'squared_error'):
    builders.write_run(tmp_path / likelihood, likelihood=likelihood)
  rows = records.read_rows(tmp_path / 'squared_error', records.TRAIN)
  records.write_table(
    tmp_path / 'squared_error',
    records.TRAIN,
    [row | {'distortion_nats': ''} for row in rows],
  )
  plot = loss_curves.plot(*tmp_path.iterdir(), facet='likelihood')
  panels = plot.data.groupby('likelihood')['panel'].unique()
  units = {name: ' '.join(values) for name, values in panels.items()}
  assert 'nats per pixel' in units['bernoulli']
  assert 'not a density' not in units['bernoulli']
  assert 'nats per pixel' not in units['squared_error']


def test_a_setting_that_is_measured_too_colours_curves(tmp_path):
  for kl in ('exact', 'monte_carlo'):
    builders.write_run(tmp_path / kl, kl=kl, seed=len(kl))
  plot = loss_curves.plot(*tmp_path.iterdir(), color='kl')
  assert set(plot.data['kl']) == {'exact', 'monte_carlo'}
  rows = plot.data[plot.data['panel'].str.startswith('KL')]
  assert rows['mean'].tolist() == [1.01] * 6


def test_facets_of_the_same_panels_share_their_axes():
  frame = pd.DataFrame(
    [
      dict.fromkeys(loss_curves._TERMS, 10.0**k)
      | {'step': 10**step, 'configuration': f'{k}', 'k': f'{k}'}
      for k in range(4)
      for step in range(6)
    ]
  ).assign(reduction='sum')
  plot = loss_curves.plot_loss_curves(frame, facet='k')
  figure = plot.draw()
  width, height = figure.get_size_inches()
  limits = {axes.get_ylim() for axes in figure.axes}
  texts = [text.get_text() for text in figure.findobj(plt.Text)]
  figures.close(figure)
  assert len(figure.axes) == 12 and len(limits) == 1
  assert 'training step (log scale)' in texts
  assert 'Vertical axes: log scale. Of training minibatches.' in texts
  assert height < 0.7 * width


# -- Terms --------------------------------------------------------------------


@pytest.mark.parametrize('shift', [0.0, -2.0])
def test_terms_have_their_units_and_are_logarithmic_where_they_can_be(shift):
  frame = pd.DataFrame(
    {
      'step': [1, 10, 1, 10, 1, 10],
      'configuration': '',
      'term': ['total_correlation_nats'] * 4 + ['mmd'] * 2,
      'value': np.array([1.0, 10.0, 3.0, 30.0, 0.5, 0.25]) + shift,
    }
  )
  figure = terms.plot_terms(frame).draw()
  texts = [text.get_text() for text in figure.findobj(plt.Text)]
  assert 'total correlation\nnats per image' in texts
  assert 'mmd\nno unit' in texts
  expected = np.array([2.0, 20.0]) + shift  # Two seeds.
  offsets = np.concatenate(
    [points.get_offsets() for points in figure.axes[0].collections[-1:]]
  )
  np.testing.assert_allclose(
    offsets[:, 1], expected if shift else np.log10(expected)
  )
  assert shift == 0.0 or '−1' in ' '.join(texts)
  assert '-' not in ' '.join(texts)
  figures.close(figure)


@pytest.mark.parametrize(
  ('objective', 'tc_estimator', 'is_said'),
  [
    ('beta_tc', 'weighted', True),
    ('beta_tc', 'stratified', False),
    ('factor', 'weighted', False),
  ],
)
def test_the_bias_of_minibatch_weights_is_said(
  objective, tc_estimator, is_said
):
  frame = pd.DataFrame(
    {
      'step': [1, 10],
      'configuration': '',
      'term': 'total_correlation_nats',
      'value': [60.0, 55.0],
      'objective': objective,
      'tc_estimator': tc_estimator,
    }
  )
  figure = terms.plot_terms(frame).draw()
  texts = ' '.join(text.get_text() for text in figure.findobj(plt.Text))
  assert ('Minibatch-weighted' in texts) == is_said
  assert 'Estimates on the minibatch of each step.' in texts
  assert 'launch' not in texts
  figures.close(figure)


def test_a_capacity_is_no_estimate():
  frame = pd.DataFrame({'step': [1, 10], 'configuration': '', 'value': 2.0})
  plot = terms.plot_terms(frame.assign(term='capacity_nats'))
  assert 'Estimates' not in plot.labels.caption


def test_an_objective_without_terms_says_so():
  frame = pd.DataFrame({'step': [], 'term': [], 'value': []})
  with pytest.raises(figures.FigureError, match='only some objectives do'):
    terms.plot_terms(frame)


@pytest.mark.parametrize('figure', [rate_distortion, sweep])
def test_figures_over_both_columns_are_wide(figure):
  drawn = figure.plot(SWEEP.with_name('beta'), width='double').draw()
  width, height = drawn.get_size_inches()
  figures.close(drawn)
  assert 0.4 * width < height < 0.6 * width


# -- Text ---------------------------------------------------------------------


@pytest.mark.parametrize('width', [1.6, 3.35, 6.9])
def test_long_titles_stay_inside_and_leave_the_panel_its_room(width):
  heights = []
  for title in ('', 'a long title of many words, with β and $5 and $6; ' * 5):
    plot = (
      gg.ggplot(pd.DataFrame({'x': [1, 2]}), gg.aes('x', 'x'))
      + gg.geom_point()
      + figures.dress(figures.Page(width, is_double=False), 2.0, title)
    )
    figure = plot.draw()
    figure.draw_without_rendering()
    heights.append(figure.axes[0].get_window_extent().height / figure.dpi)
    for text in figure.findobj(matplotlib.text.Text):
      if text.get_visible() and text.get_text():
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    plt.close(figure)
  assert heights[1] > 0.9 * heights[0]


# -- Colours ------------------------------------------------------------------

# Machado et al. 2009, severity 1, on linear RGB.
DEFICIENCIES = {
  'none': np.eye(3),
  'protan': np.array(
    [
      [0.152286, 1.052583, -0.204868],
      [0.114503, 0.786281, 0.099216],
      [-0.003882, -0.048116, 1.051998],
    ]
  ),
  'deutan': np.array(
    [
      [0.367322, 0.860646, -0.227968],
      [0.280085, 0.672501, 0.047413],
      [-0.011820, 0.042940, 0.968881],
    ]
  ),
}


def lab(colour, deficiency):
  """CIELAB of a colour as someone with a colour vision deficiency sees it."""
  rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  seen = np.clip(deficiency @ linear, 0, 1)
  to_xyz = np.array(
    [
      [0.4124, 0.3576, 0.1805],
      [0.2126, 0.7152, 0.0722],
      [0.0193, 0.1192, 0.9505],
    ]
  )
  xyz = to_xyz @ seen / [0.9505, 1.0, 1.089]
  f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize('deficiency', DEFICIENCIES)
def test_the_palette_can_be_told_apart(deficiency):
  seen = [lab(c, DEFICIENCIES[deficiency]) for c in colours.PALETTE]
  distances = [
    np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]
  ]
  assert min(distances) > 15  # A difference of 2.3 is just noticeable.


def test_numbers_have_one_minus_sign_and_none_before_zero():
  assert wording.number(-1.26) == '−1.3'
  assert wording.number(-0.04) == '0.0'
  assert wording.tick_labels([-2.5, -0.0, 1e-7]) == ['−2.5', '0', '1e−07']


def test_ticks_have_the_separators_of_texts():
  assert wording.tick_labels([-0.0, 0.5, -2e-05, 1000, 10000, 3e6]) == [
    '0',
    '0.5',
    '−2e−05',
    '1,000',
    '10,000',
    '3,000,000',
  ]


# Of the palest colour to white paper, where yellow has 1.3 (WCAG 2.1).
FAINTEST = 2.2


def test_no_category_is_faint_on_paper():
  assert len(colours.PALETTE) == 10
  for colour in colours.PALETTE:
    assert contrast(colour, 'white') > FAINTEST, colour


@pytest.mark.parametrize('count', [3, 5, 10, 11, 64])
@pytest.mark.parametrize('setting', ['beta', 'strength', 'learning_rate'])
def test_colours_of_numbers_go_from_dark_to_light(count, setting):
  levels = [f'{10.0**-k:g}' for k in range(count)][::-1]
  shades = colours.of_levels(levels, setting)
  dark = [contrast(shade, 'white') for shade in shades]
  assert len(shades) == count
  assert (np.diff(dark) < 0).all()
  assert min(dark) > FAINTEST
  # In grey print the steps are even, and of few levels each can be seen.
  if count <= 10:
    lightness = np.diff([lab(shade, np.eye(3))[0] for shade in shades])
    assert lightness.min() > 5 and lightness.max() < 1.5 * lightness.min()


@pytest.mark.parametrize(
  ('levels', 'setting'),
  [
    (['0', '1', '2', '3'], 'seed'),
    (['0', '1', '2', '3'], 'label'),
    (['0.1', '1', '10'], ''),
    (['0.1', '10'], 'beta'),
    (['beta_tc', 'elbo', 'factor'], 'objective'),
    (['0.1', '1', 'nan'], 'gamma'),
    (['100,100', '200', '400'], 'hidden_sizes'),
  ],
)
def test_what_has_no_order_has_colours_of_categories(levels, setting):
  expected = list(colours.PALETTE[: len(levels)])
  assert colours.of_levels(levels, setting) == expected


def test_there_are_as_many_colours_as_asked_for():
  for count in (1, 10, 11, 64):
    for setting in ('seed', 'beta', 'objective'):
      levels = [str(k) for k in range(count)]
      assert len(set(colours.of_levels(levels, setting))) == count


def drawn_colours(plot):
  """The colour of each point of a drawn plot, by its place upwards."""
  figure = plot.draw()
  (points,) = figure.axes[0].collections
  result = {
    round(y, 3): matplotlib.colors.to_hex(colour)
    for (_, y), colour in zip(
      points.get_offsets(), points.get_facecolors(), strict=True
    )
  }
  figures.close(figure)
  return result


@pytest.mark.parametrize('page', [*figures.STYLES['icml'].values()])
@pytest.mark.parametrize(
  'levels',
  [
    ['0.1', '1', '10'],
    [f'{v:g}' for v in (0, *10.0 ** np.arange(-5, 8))],
    [str(k) for k in range(12, 76)],
  ],
)
def test_points_have_the_colours_of_their_levels(page, levels):
  hues = colours.hues(levels, page, 'beta')
  frame = pd.DataFrame({'x': 1.0, 'y': [*map(float, range(len(levels)))]})
  frame['color'] = hues.of(pd.Series(levels))
  plot = (
    gg.ggplot(frame, gg.aes('x', 'y', color='color'))
    + gg.geom_point()
    + figures.dress(page, 1.5 + hues.height)
    + hues.layers
  )
  found = drawn_colours(plot)
  shades = [found[y] for y in sorted(found)]
  dark = [contrast(shade, 'white') for shade in shades]
  assert (np.diff(dark) < 0).all() and min(dark) > FAINTEST
  few = colours.of_levels(levels, 'beta')
  assert (shades[0], shades[-1]) == (few[0], few[-1])
  if len(levels) <= 10:
    assert shades == few and hues.where is None
    return
  scale = hues.layers[0]
  assert isinstance(scale, gg.scale_color_gradientn)
  # Ticks are some levels, at their places, the first and the last among them.
  places = dict(zip(levels, axis.positions(levels)[0], strict=True))
  ticks = dict(zip(scale.labels, scale.breaks, strict=True))
  assert 3 < len(ticks) < len(levels)
  assert ticks == {label: places[label] for label in ticks}
  steps = np.diff([*map(float, levels)])
  assert ('log scale' in hues.note) == (steps.max() > 2 * steps.min())
  assert {levels[0], levels[-1]} < ticks.keys()


@pytest.mark.parametrize(
  ('levels', 'expected'),
  [
    (range(0, 40, 3), range(0, 40, 3)),
    ([0, 1, 10, 100], [-1, 0, 1, 2]),
    ([2, 3, 5], [2, 3, 5]),
  ],
)
def test_numbers_in_even_steps_or_of_one_decade_are_placed_by_themselves(
  levels, expected
):
  assert axis.positions([*map(str, levels)])[0].tolist() == [*expected]


def test_runs_of_a_warm_up_have_the_colour_of_the_beta_asked_for(tmp_path):
  for beta in (0.5, 1.0, 2.0):
    path = tmp_path / f'beta-{beta}'
    builders.write_run(path, False, beta=beta)
    rows = records.read_rows(path, records.TRAIN)
    for k, row in enumerate(rows):
      row['beta'] = beta * k / len(rows)
    (path / records.TRAIN).unlink()
    records.write_table(path, records.TRAIN, rows)
  for flags in ({}, {'color': 'beta'}):
    plot = loss_curves.plot(
      tmp_path / 'beta-0.5',
      tmp_path / 'beta-1.0',
      tmp_path / 'beta-2.0',
      **flags,
    )
    assert plot.labels.color == 'beta'
    assert [*plot.data['color'].cat.categories] == ['0.5', '1', '2']
    for row in plot.data.to_dict('records'):
      assert row['configuration'] == f'beta {row["color"]}'


def test_settings_come_in_the_order_of_their_numbers():
  assert frames.levels(pd.Series([10.0, 2.0, 0.5])) == ['0.5', '2', '10']
  assert frames.levels(pd.Series(['b', 'a', '1'])) == ['1', 'a', 'b']
  assert frames.levels(pd.Series([1e-05, -20.0, -3.0])) == [
    '-20',
    '-3',
    '1e-05',
  ]
  gammas = [f'seed 0, gamma {gamma}' for gamma in ('2.5', '6', '20')]
  assert frames.levels(pd.Series(gammas[::-1])) == gammas


# -- Texts and legends --------------------------------------------------------

PAGES = [(style, width) for style in figures.STYLES for width in figures.WIDTHS]


def drawn_width(text, page, size):
  """Of its widest line in inches, as matplotlib's canvas draws it."""
  figure = plt.figure(dpi=600)
  drawn = figure.text(0, 0, text, family=page.family, size=size)
  extent = drawn.get_window_extent(figure.canvas.get_renderer())
  plt.close(figure)
  return extent.width / 600


@pytest.mark.parametrize(('style', 'width'), PAGES)
def test_lines_are_broken_where_the_letters_of_a_style_end(style, width):
  page = figures.STYLES[style][width]
  text = 'Wide: WWWW MMMM mm. Narrow: illicit till, ' * 8 + 'x' * 200
  for room in (0.5, 0.97 * page.width):
    wrapped = figures.wrap(text, room, page, 6)
    assert ''.join(wrapped.split()) == ''.join(text.split())
    assert drawn_width(wrapped, page, 6) < 1.02 * room
    # No fewer lines would do: taking what fits needs as many.
    count, line = 1, ''
    for word in text.split()[:-1]:
      longer = f'{line} {word}'.lstrip()
      fits = drawn_width(longer, page, 6) < 0.99 * room
      count, line = (count, longer) if fits else (count + 1, word)
    broken = [line for line in wrapped.split('\n') if 'x' not in line]
    assert len(broken) <= count


@pytest.mark.parametrize('page', figures.STYLES['paper'].values())
def test_no_word_stands_alone_where_lines_can_be_even(page):
  words = 'value of the latent; framed: nearest to the code; left out: some'
  widths = []
  for count in range(1, 60):
    text = ' '.join((words.split() * 5)[:count])
    lines = figures.wrap(text, 0.97 * page.width, page).split('\n')
    if len(lines) > 1:
      widths.append([drawn_width(line, page, 8) for line in lines])
      assert ' ' in lines[-1]
  # To within about a word.
  assert max(np.ptp(w) for w in widths) < drawn_width('framed: xxx', page, 8)
  assert len(widths) > 20


def test_lines_are_not_broken_at_spaces_that_are_none_to_break_at():
  page, text = figures.SINGLE_COLUMN, 'at quantiles of N(0,\xa01) or others'
  for room in np.arange(0.7, 2.5, 0.1):
    for at_commas in (False, True):
      lines = figures.wrap(f' {text} ', room, page, at_commas=at_commas)
      assert lines.replace('\n', ' ') == text


def test_a_title_is_broken_between_its_parts():
  title = 'mnist, 10 latents, beta 0.01 (mean), effective beta 0.784'
  page = figures.SINGLE_COLUMN
  assert figures.wrap(title, 3.0, page, at_commas=True) == (
    'mnist, 10 latents, beta 0.01 (mean),\neffective beta 0.784'
  )
  # A part that is longer than a line is broken within.
  for room in (0.3, 0.8):
    lines = figures.wrap(title, room, page, at_commas=True).split('\n')
    assert max(drawn_width(line, page, 8) for line in lines) < 1.02 * room


def contrast(one, other):
  """The contrast of two colours, from 1 to 21 (WCAG 2.1)."""
  lights = []
  for colour in (one, other):
    parts = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(
      parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4
    )
    lights.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
  return max(lights) / min(lights)


@pytest.mark.parametrize('name', ['correlations', 'factors'])
def test_numbers_on_colours_can_be_read(name):
  count = 41
  frame = pd.DataFrame(
    {
      'value': np.linspace(-1 if name == 'correlations' else 0, 1, count),
      'first': [f'score {k}' for k in range(count)],
      'second': 'mig',
      'num_runs': 9,
      'measure': factors.INFORMATION,
      'panel': 'shares',
      'latent': range(count),
      'factor': 'x',
      'rate_nats': 1.0,
      'active': True,
      'scores': '',
    }
  )
  page = figures.DOUBLE_COLUMN._replace(height=20.0)
  draw_it = (
    study.plot_correlations if name == 'correlations' else factors.plot_factors
  )
  plot = draw_it(frame, '', page)
  figure = plot.draw()
  axes = figure.axes[0]
  tiles = {
    tuple(path.get_extents().get_points().mean(axis=0).round(2)): colour
    for path, colour in zip(
      axes.collections[0].get_paths(),
      axes.collections[0].get_facecolor(),
      strict=True,
    )
  }
  found = [
    contrast(text.get_color(), tiles[place][:3])
    for text in axes.texts
    if (place := tuple(np.round(text.get_position(), 2))) in tiles
  ]
  figures.close(figure)
  assert len(found) >= count
  assert min(found) > 4.3


@pytest.mark.parametrize(('style', 'width'), PAGES[::3])
@pytest.mark.parametrize(
  'labels',
  [
    [f'objective beta_tc, latent_size {n}' for n in range(40)],
    [str(2**n) for n in range(16)],
    [str(2**n) for n in range(64)],
    ['floor', 'a label that is wider than a single column of text is wide'],
  ],
)
def test_a_legend_fits_the_page(tmp_path, style, width, labels):
  page = figures.STYLES[style][width]
  setting = 'beta' if labels[0] == '1' else ''
  hues = colours.hues(labels, page, setting)
  assert hues.height <= page.height / 4
  if len(labels) == 40 and hues.note.startswith('The legend names'):
    assert re.search(r'names \d+ of 40\.', hues.note)
  elif len(labels) == 40:
    assert '40 colours are more than can be told apart' in hues.note
  else:
    assert hues.note == ('Colours: log scale.' if setting else '')
  if len(labels) == 2:
    return
  frame = pd.DataFrame({'x': 1.0, 'label': hues.of(pd.Series(labels))})
  plot = (
    gg.ggplot(frame, gg.aes('x', 'x', color='label'))
    + gg.geom_point()
    + figures.dress(page, 1.5 + hues.height, 'Title')
    + hues.layers
  )
  image = draw(plot, tmp_path / 'x.png', 100)
  # What is too wide is cut at both edges.
  assert (image[:, [0, -1]] == 1).all()


SWEEP = (
  pathlib.Path(__file__)
  .parents[2]
  .joinpath('analysis', 'results', 'sweeps', 'disentanglement')
)


@pytest.mark.parametrize(
  ('flags', 'color', 'unnamed'),
  [
    ({}, 'strength', ''),
    ({'color': 'strength', 'facet': 'objective'}, 'strength', ''),
    ({'width': 'single'}, 'objective', 'strength'),
    ({'color': 'strength'}, 'strength', 'objective'),
  ],
)
def test_curves_of_two_settings_are_told_apart_or_said_not_to_be(
  flags, color, unnamed
):
  plot = loss_curves.plot(SWEEP, **flags)
  shown = [color, *(['facet'] if 'facet' in plot.data else [])]
  curves = plot.data.groupby(shown, observed=True)['configuration'].nunique()
  assert plot.labels.color == color
  assert (curves.max() > 1) == bool(unnamed)
  said = f'Curves of one colour differ in {unnamed}.'
  assert (said in ' '.join(plot.labels.caption.split())) == bool(unnamed)
  # Each curve has the strength and the objective that it was trained with.
  for row in plot.data.to_dict('records'):
    said = wording.assigned(color, row[color])
    assert said in row['configuration'].split(', ')


def test_strengths_order_the_runs_of_each_objective():
  runs = frames.read_sweep(SWEEP)
  frame = rate_distortion.read_frame(runs)
  assert list(frame['series']) == list(runs.table['objective'])
  assert (frame['order'] == runs.table['strength'].astype(float)).all()
  plot = rate_distortion.plot_rate_distortion(frame)
  assert plot.labels.caption.startswith('Numbers at points: strength')
  assert plot.labels.color == 'objective'


@pytest.mark.parametrize('page', figures.STYLES['paper'].values())
@pytest.mark.parametrize('name', ['rate_distortion', 'beta'])
def test_labels_of_the_frontier_cross_nothing(name, page):
  runs = frames.read_sweep(SWEEP.with_name(name))
  frame = rate_distortion.read_frame(runs)
  figure = rate_distortion.plot_rate_distortion(frame, 'title', page).draw()
  figure.draw_without_rendering()
  (axes,) = figure.axes
  labels = {
    text.get_text(): text.get_window_extent()
    for text in axes.texts
    if text.get_text()
  }
  numbers = set(wording.tick_labels(frame['order'].unique()))
  assert labels.keys() >= numbers
  assert '← rate 0: collapsed' not in labels  # No run did.
  for one, other in itertools.combinations(labels.values(), 2):
    assert not one.overlaps(other)
  obstacles = [
    axes.transData.transform(path.vertices)
    for collection in axes.collections
    for path in collection.get_paths()
    if len(path.vertices) >= 2
    and collection.get_offset_transform().transform([0, 0]).tolist() == [0, 0]
  ] + [axes.transData.transform(line.get_xydata()) for line in axes.lines]
  points = frame[['rate_nats', 'distortion_nats']].to_numpy()
  obstacles += [
    np.repeat(p[None], 2, 0) for p in axes.transData.transform(points)
  ]
  assert len(obstacles) > len(frame) + 4
  for text, box in labels.items():
    for line in obstacles:
      on_it = text.startswith('elbo') and len(line) == 2
      crossed = matplotlib.path.Path(line).intersects_bbox(box, filled=False)
      assert on_it or not crossed, text
  figures.close(figure)


def frontier(series, orders=(1000.0,), seeds=2):
  return pd.DataFrame(
    [
      {
        'rate_nats': 10.0 + k + 5 * place + seed,
        'distortion_nats': 80.0 - place,
        'order': order,
        'active_units': 5,
        'series': name,
      }
      for k, name in enumerate(series)
      for place, order in enumerate(orders)
      for seed in range(seeds)
    ]
  ).assign(ordered_by='effective_beta', series_of='latent_size')


@pytest.mark.parametrize('orders', [(1000.0,), (1000.0, 1.0)])
def test_keys_of_the_frontier_are_what_is_drawn(orders):
  frame = frontier(['2', '5', '10'], orders)
  plot = rate_distortion.plot_rate_distortion(frame)
  assert ('1,000' in plot.labels.caption) == (len(orders) == 1)
  figure = plot.draw()
  (axes,) = figure.axes
  texts = {text.get_text() for text in axes.texts}
  assert ('1,000' in texts) == (len(orders) == 2)
  # Hollow marks of the means, in outlines and colours of their series.
  marks = [
    c for c in axes.findobj(PathCollection) if not c.get_facecolor()[:, 3].any()
  ]
  outlines = {tuple(map(tuple, c.get_paths()[0].vertices)) for c in marks}
  assert len(outlines) == 3
  np.testing.assert_allclose(
    sorted(np.concatenate([c.get_offsets() for c in marks])[:, 0]),
    [10.5 + k + 5 * p for p in range(len(orders)) for k in range(3)],
  )
  keys = figure.findobj(matplotlib.offsetbox.DrawingArea)
  # Of each the area, and a mark, also a line where there are lines.
  assert [len(key.get_children()) for key in keys] == [1 + len(orders)] * 3
  figures.close(figure)


def test_runs_without_end_are_not_on_the_frontier():
  frame = frontier(['2'], (1.0, 2.0))
  expected = rate_distortion.plot_rate_distortion(frame.iloc[:2])
  frame.loc[2, 'rate_nats'] = np.inf
  frame.loc[3, 'distortion_nats'] = np.nan
  plot = rate_distortion.plot_rate_distortion(frame)
  caption = ' '.join(plot.labels.caption.split())
  assert 'Not shown: 2 of 4 runs, not finished or without' in caption
  assert plot.coordinates.limits.x == expected.coordinates.limits.x
  assert plot.coordinates.limits.y == expected.coordinates.limits.y


def test_labels_are_named_where_their_points_are():
  generator = np.random.default_rng(0)
  frame = pd.DataFrame(generator.normal(size=(400, 2)), columns=['x', 'y'])
  frame = frame.assign(panel='t-SNE', color='shape', label=['a', 'b'] * 200)
  frame['panel'] = frame['panel'].astype('category')

  def named():
    corners = embedding._corners(frame, 1.0)
    page = figures.DOUBLE_COLUMN
    return {*embedding._names(frame, corners, 2.0, page)['label']}

  assert named() == set()
  embedding.plot_embedding(frame).draw()
  frame.loc[frame['label'] == 'a', 'x'] += 9
  assert named() == {'a', 'b'}
  plt.close('all')


def test_the_latents_alone_have_titles_of_axes():
  frame = pd.DataFrame({'x': [0.0, 1.0, 2.0], 'y': [0.0, 3.0, 1.0]})
  frame = pd.concat(
    frame.assign(panel=panel, color='label', label='')
    for panel in (embedding._LATENTS, embedding._RAW)
  )
  figure = embedding.plot_embedding(frame).draw()
  texts = [{text.get_text() for text in axes.texts} for axes in figure.axes]
  assert texts[0].isdisjoint({'latent 0', 'latent 1'})
  assert texts[1] >= {'latent 0', 'latent 1'}
  figures.close(figure)
