import io
import zlib

import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import pytest

from tests.vae.data import builders
from vae.data import datasets, images, sources


def test_a_folder_of_images_is_cut_one_in_ten(tmp_path):
  arrays = builders.write_images(tmp_path / 'images', 20)
  dataset = datasets.load(
    str(tmp_path / 'images'), tmp_path / 'data', builders.quiet
  )
  assert dataset.shape == (6, 5, 3)
  assert dataset.provenance['num_images'] == {'train': 18, 'test': 2}
  assert dataset.provenance['test_share'] == 0.1
  seen = {i.tobytes() for s in dataset.splits.values() for i in s.examples}
  assert seen == {array.tobytes() for array in arrays}


def test_a_folder_with_splits_keeps_them_and_greys_have_one_channel(tmp_path):
  train = builders.write_images(tmp_path / 'images' / 'train', 3, mode='L')
  builders.write_images(tmp_path / 'images' / 'test', 2, mode='L')
  dataset = datasets.load(
    str(tmp_path / 'images'), tmp_path / 'data', builders.quiet
  )
  found = dataset.splits['train'].examples[..., 0]
  assert {x.tobytes() for x in found} == {x.tobytes() for x in train}
  assert dataset.provenance['num_images'] == {'train': 3, 'test': 2}


@pytest.mark.parametrize('roots', [('.',), ('train', 'test')])
def test_folders_of_classes_are_labelled_mixed_and_in_every_split(
  tmp_path, roots
):
  for root in roots:
    for grey, name in ((10, 'cat'), (90, 'dog'), (200, 'owl')):
      folder = tmp_path / 'images' / root / name
      folder.mkdir(parents=True)
      for number in range(10 if name == 'owl' else 20):
        image = np.full((4, 4), grey + number, np.uint8)
        PIL.Image.fromarray(image).save(folder / f'{number}.png')
  dataset = datasets.load(
    str(tmp_path / 'images'), tmp_path / 'data', builders.quiet
  )
  assert dataset.provenance['label_names'] == ['cat', 'dog', 'owl']
  for split in dataset.splits.values():
    greys = split.examples[:, 0, 0, 0]
    expected = np.searchsorted([90, 200], greys, side='right')
    np.testing.assert_array_equal(split.labels, expected)
  expected = {'train': (20, 20, 10), 'test': (20, 20, 10)}
  if len(roots) == 1:
    expected = {'train': (18, 18, 9), 'test': (2, 2, 1)}
  assert builders.classes(dataset) == expected
  assert set(dataset.splits['train'].labels[:5]) == {0, 1, 2}
  validated = dataset.with_validation(10)
  assert builders.classes(validated)['validation'] == (4, 4, 2)
  # A slice of what is mixed is no copy.
  for name in ('train', 'validation'):
    assert isinstance(validated.splits[name].examples, np.memmap)


def test_a_class_too_small_for_its_share_is_refused_with_the_numbers(tmp_path):
  builders.write_images(tmp_path / 'images' / 'many', 40)
  builders.write_images(tmp_path / 'images' / 'few', 2)
  with pytest.raises(
    datasets.DatasetError,
    match=r'--test_share=0.1: 4 of 42 examples cannot hold each of the 2 '
    r'classes in its share: class 0 has 2',
  ):
    datasets.load(str(tmp_path / 'images'), tmp_path / 'data', builders.quiet)


def test_bad_folders_are_refused(tmp_path):
  def load(folder):
    return datasets.load(str(folder), tmp_path / 'data', builders.quiet)

  with pytest.raises(datasets.DatasetError, match='no such folder'):
    load(tmp_path / 'missing')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(datasets.DatasetError, match='holds no images'):
    load(tmp_path / 'empty')
  builders.write_images(tmp_path / 'mixed', 9)
  builders.write_images(tmp_path / 'mixed' / 'more', 9, size=(7, 7))
  with pytest.raises(
    datasets.DatasetError, match='2 different sizes; --image_size=64'
  ):
    load(tmp_path / 'mixed')
  builders.write_images(tmp_path / 'broken', 9)
  (tmp_path / 'broken' / '004.png').write_bytes(b'no image')
  with pytest.raises(datasets.DatasetError, match=r'004.png is no readable'):
    load(tmp_path / 'broken')
  builders.write_images(tmp_path / 'deep', 9, mode='L')
  sixteen = np.full((6, 5), 30_000, np.uint16)
  PIL.Image.fromarray(sixteen).save(tmp_path / 'deep' / '003.png')
  with pytest.raises(datasets.DatasetError, match='more than 8 bits'):
    load(tmp_path / 'deep')
  builders.write_images(tmp_path / 'dangling', 9)
  (tmp_path / 'dangling' / 'x.png').symlink_to(tmp_path / 'nowhere')
  with pytest.raises(datasets.DatasetError, match=r'x.png cannot be read'):
    load(tmp_path / 'dangling')
  left = [p for p in (tmp_path / 'data' / 'prepared').iterdir() if p.is_dir()]
  assert not left


def test_a_grey_image_among_colour_ones_is_in_colour(tmp_path):
  builders.write_images(tmp_path / 'images', 10)
  grey = np.full((6, 5), 77, np.uint8)
  PIL.Image.fromarray(grey).save(tmp_path / 'images' / 'grey.png')
  data = images.folder(tmp_path / 'images', None)
  found = np.concatenate([*data.splits['train'].batches()])
  assert found.shape == (11, 6, 5, 3)
  assert (found == 77).all(axis=(1, 2, 3)).any()


def test_transparency_lies_over_black(tmp_path):
  pixels = np.full((4, 4, 4), 200, np.uint8)
  pixels[:2, :, 3] = 0
  PIL.Image.fromarray(pixels, 'RGBA').save(tmp_path / '0.png')
  (batch,) = images.folder(tmp_path, None).splits['train'].batches()
  assert not batch[0, :2].any()
  np.testing.assert_allclose(batch[0, 2:], 200 * 200 / 255, atol=1)


def test_images_lie_as_their_exif_says(tmp_path):
  for number in range(2):
    image = PIL.Image.fromarray(np.zeros((8, 4), np.uint8))
    exif = image.getexif()
    if number:
      image, exif[0x0112] = image.transpose(PIL.Image.Transpose.ROTATE_90), 6
    image.save(tmp_path / f'{number}.jpg', exif=exif)
  data = images.folder(tmp_path, None)
  assert data.splits['train'].shape == (8, 4, 1)
  assert sum(map(len, data.splits['train'].batches())) == 2


def test_images_of_all_sizes_are_cropped_and_resized(tmp_path):
  # A ramp from left to right; the middle square goes from 1/4 to 3/4 of it.
  ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
  builders.write_images(tmp_path / 'images', 9, size=(30, 30), mode='L')
  PIL.Image.fromarray(ramp).save(tmp_path / 'images' / 'wide.png')
  dataset = datasets.load(
    str(tmp_path / 'images'),
    tmp_path / 'data',
    builders.quiet,
    sources.Options(image_size=10),
  )
  assert dataset.shape == (10, 10, 1)
  assert "by Lanczos' filter" in dataset.provenance['source']
  expected = 50 + 10 * np.arange(10) + 4.5
  found = np.concatenate([s.examples[..., 0] for s in dataset.splits.values()])
  assert (np.abs(found - expected) <= 1).all(axis=(1, 2)).sum() == 1


def test_shipped_images_are_resized_too(tmp_path):
  dataset = datasets.load(
    'mnist_5k', tmp_path, builders.quiet, sources.Options(image_size=14)
  )
  assert dataset.shape == (14, 14, 1)
  original = datasets.load('mnist_5k', tmp_path, builders.quiet)
  halves = original.splits['test'].examples.reshape(-1, 14, 2, 14, 2)
  error = halves.mean((2, 4)) - dataset.splits['test'].examples[..., 0]
  assert np.abs(error).mean() < 5


def test_a_file_of_another_format_is_not_opened(tmp_path, monkeypatch):
  # PostScript is a program, which PIL would hand to Ghostscript.
  monkeypatch.setattr(PIL.Image, 'preinit', PIL.Image.init)
  called = []
  monkeypatch.setattr(
    PIL.EpsImagePlugin, 'Ghostscript', lambda *given: called.append(given)
  )
  (tmp_path / '7.png').write_bytes(
    b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n{} loop\n%%EOF\n'
  )
  with pytest.raises(sources.SourceError, match=r'7\.png is no readable image'):
    images.folder(tmp_path, None)
  assert not called


def png(width, height):
  """A PNG whose header promises an image of some size."""
  buffer = io.BytesIO()
  PIL.Image.new('L', (1, 1)).save(buffer, 'PNG')
  content = bytearray(buffer.getvalue())
  content[16:24] = width.to_bytes(4) + height.to_bytes(4)
  content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
  return bytes(content)


@pytest.mark.parametrize(
  ('width', 'height'), [(50_000, 50_000), (10_000, 10_000)]
)
def test_decompression_bombs_are_refused(tmp_path, width, height):
  (tmp_path / 'bomb.png').write_bytes(png(width, height))
  with pytest.raises(sources.SourceError, match=r'bomb\.png.*exceeds limit'):
    images.folder(tmp_path, None)


FORMATS = (
  'BMP',
  'DDS',
  'GIF',
  'JPEG',
  'PNG',
  'PPM',
  'SGI',
  'TGA',
  'TIFF',
  'WEBP',
)


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('mode', ['L', 'RGB', 'P', 'RGBA'])
def test_damaged_files_end_in_a_line_that_names_them(tmp_path, kind, mode):
  generator = np.random.default_rng(FORMATS.index(kind))
  pixels = PIL.Image.fromarray(generator.integers(0, 256, (9, 7, 4), np.uint8))
  buffer = io.BytesIO()
  try:
    pixels.convert(mode).save(buffer, kind)
  except (OSError, ValueError):
    pytest.skip(f'{kind} has no mode {mode}')
  whole = buffer.getvalue()
  path = tmp_path / 'x.png'
  for attempt in range(60):
    content = bytearray(whole)
    if attempt % 3 == 0:
      del content[generator.integers(len(content)) :]
    for at in generator.integers(len(content) or 1, size=attempt % 5):
      if content:  # The headers come first, and are hit more.
        content[at // 1 if attempt % 2 else at % 40 % len(content)] = (
          generator.integers(256)
        )
    path.write_bytes(content)
    try:
      data = images.folder(tmp_path, None)
      for batch in data.splits['train'].batches():
        assert batch.dtype == np.uint8
        assert batch.shape[1:] == data.splits['train'].shape
    except sources.SourceError as error:
      assert str(error).startswith(f'{path} ')
      assert '\n' not in str(error)
