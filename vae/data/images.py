"""Folders of images, and images of another size."""

import functools
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vae.data import sources

if TYPE_CHECKING:
  import PIL.Image

# What is opened at all, whatever a file is called: other formats of PIL start
# programs (PostScript) or are hardly ever tried on damaged files.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')

_SUFFIXES = (
  *('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff'),
  '.webp',
)


def folder(
  path: pathlib.Path, image_size: int | None, cut: int = sources.CUT
) -> sources.SourceData:
  """Returns a folder of images.

  Where it has the subfolders `train` and `test`, those are the splits. Where
  all images lie in subfolders of a split, at least two, these are classes. All
  are colour images where one is.

  Args:
    path: holds images, at any depth.
    image_size: height and width to which they are brought; None where all
      have one size.
    cut: see `sources.CUT`.

  Raises:
    SourceError: no images, unreadable ones, or ones of different sizes.
  """
  roots = {'train': path}
  if (path / 'train').is_dir() and (path / 'test').is_dir():
    roots = {split: path / split for split in ('train', 'test')}
  paths = {}
  for split, root in roots.items():
    paths[split] = sorted(
      member
      for member in root.rglob('*')
      if member.suffix.lower() in _SUFFIXES and member.is_file()
    )
    if not paths[split]:
      raise sources.SourceError(f'{root} holds no images')
  sizes, is_colour = _headers([p for split in paths.values() for p in split])
  if image_size:
    sizes = {(image_size, image_size)}
  if len(sizes) > 1:
    raise sources.SourceError(
      f'the images in {path} have {len(sizes):,} different sizes; '
      '--image_size=64 crops each to its middle square and resizes it to 64 x '
      '64'
    )

  ((width, height),) = sizes
  shape = height, width, 3 if is_colour else 1

  white, dtype, words = None, np.uint8, ''
  if image_size:
    words = resizing(image_size)
    if cut > 2:
      white = _white(
        _read(p, is_colour) for split in paths.values() for p in split
      )
    if white:
      dtype, words = np.bool_, f'{words}; {_two_values(white)}'

  def batches(members: list[pathlib.Path]) -> Iterator[np.ndarray]:
    for member in members:
      image = _read(member, is_colour)
      yield (_resized(image, image_size, white) if image_size else image)[None]

  parts = {s: [p.relative_to(roots[s]).parts for p in paths[s]] for s in paths}
  folders = [part for split in parts.values() for part in split]
  names = sorted({first for first, *_ in folders})
  if len(names) < 2 or any(len(part) < 2 for part in folders):
    names = []
  splits = {}
  for split, members in paths.items():
    labels = None
    if names:
      labels = np.searchsorted(names, [first for first, *_ in parts[split]])
    splits[split] = sources.SourceSplit(
      len(members),
      shape,
      functools.partial(batches, members),
      labels,
      dtype=dtype,
    )
  return sources.SourceData(
    '1',
    f'images in {path}{words}',
    splits,
    label_names=tuple(names) or None,
  )


def resized(data: sources.SourceData, image_size: int) -> sources.SourceData:
  """Returns a dataset whose images are brought to another size.

  Args:
    data: uint8 or bool images [H, W, C] with one or three channels.
    image_size: their new height and width.

  Raises:
    SourceError: examples that are no such images.
  """
  channels = {split.shape[-1] for split in data.splits.values()}
  dtype = data.splits['train'].dtype
  if dtype not in (np.uint8, np.bool_) or not channels <= {1, 3}:
    raise sources.SourceError(
      f'--image_size={image_size}: is for grey or colour images'
    )
  white, factor = None, 1
  if dtype == np.bool_:
    white = 1
  elif all(
    images.max() <= 1
    for split in data.splits.values()
    for images in split.batches()
  ):
    # Some of TFDS's hold zeros and ones, which leave no room between them.
    factor = 255

  def batches(split: sources.SourceSplit) -> Iterator[np.ndarray]:
    for images in split.batches():
      yield np.stack(
        [_resized(image, image_size, white) for image in images * factor]
      )

  splits = {
    name: split._replace(
      shape=(image_size, image_size, split.shape[-1]),
      batches=functools.partial(batches, split),
    )
    for name, split in data.splits.items()
  }
  return data._replace(source=data.source + resizing(image_size), splits=splits)


def as_binary(data: sources.SourceData) -> sources.SourceData:
  """Returns a dataset whose bytes, where they have two values, are binary.

  Args:
    data: images or rows; those whose values are not all 0 or 1, or all 0 or
      255, stay as they are.
  """
  parts = data.splits.values()
  if any(part.dtype != np.uint8 for part in parts):
    return data
  white = _white(batch for part in parts for batch in part.batches())
  if white is None:
    return data
  return data._replace(
    source=f'{data.source}; {_two_values(white)}',
    splits={s: p._replace(dtype=np.bool_) for s, p in data.splits.items()},
  )


def _white(arrays: Iterable[np.ndarray]) -> int | None:
  """The other value beside 0, 1 or 255, where bytes have no third."""
  values: set[int] = set()
  for array in arrays:
    values |= set(np.unique(array).tolist())
    if not (values <= {0, 1} or values <= {0, 255}):
      return None
  return max(values | {1})


def _two_values(white: int) -> str:
  return f'all values are 0 or {white}, taken as black and white'


def _resized(
  image: np.ndarray, image_size: int, white: int | None
) -> np.ndarray:
  """An image of another size; one of black and white, bool, stays so."""
  if white is None:
    return fitted(image, image_size)
  return fitted((image > 0) * np.uint8(255), image_size) > 127


def fitted(image: np.ndarray, image_size: int) -> np.ndarray:
  """Crops an image to its middle square and resizes it, by Lanczos' filter.

  Args:
    image: uint8 [H, W, C] with one or three channels.
    image_size: height and width of what is returned.
  """
  import PIL.Image
  import PIL.ImageOps

  grey = image.shape[-1] == 1
  fit = PIL.ImageOps.fit(
    PIL.Image.fromarray(image[..., 0] if grey else image),
    (image_size, image_size),
    PIL.Image.Resampling.LANCZOS,
  )
  return np.asarray(fit).reshape(image_size, image_size, image.shape[-1])


def resizing(image_size: int) -> str:
  """Returns the words that a source says of it."""
  return (
    f', cropped to the middle square and resized to {image_size} x '
    f"{image_size} by Lanczos' filter"
  )


def _guarded(path: pathlib.Path, function):
  """Calls a function of an open image; whatever fails names the file."""
  import PIL.Image

  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      # An image whose header promises more pixels than memory may hold.
      warnings.simplefilter('error', PIL.Image.DecompressionBombWarning)
      with PIL.Image.open(path, formats=_FORMATS) as image:
        if image.mode.startswith(('I', 'F')):
          raise ValueError(
            f'it has pixels of more than 8 bits (mode {image.mode}); convert '
            'it to 8 bits first'
          )
        return function(image)
  except Exception as error:  # PIL's readers raise dozens of kinds.
    raise sources.SourceError(
      f'{path} is no readable image: {sources.one_line(error)}'
    ) from error


def _headers(
  paths: list[pathlib.Path],
) -> tuple[set[tuple[int, int]], bool]:
  """Widths and heights of images, and whether any is in colour."""
  read = lambda image: (_upright_size(image), _is_grey(image))
  headers = {_guarded(path, read) for path in paths}
  return {size for size, _ in headers}, not all(grey for _, grey in headers)


def _upright_size(image: 'PIL.Image.Image') -> tuple[int, int]:
  orientation = image.getexif().get(0x0112, 1)  # 5 to 8 lie on their side.
  return image.size[::-1] if orientation > 4 else image.size


def _is_grey(image: 'PIL.Image.Image') -> bool:
  return image.mode in ('1', 'L', 'LA')


def _read(path: pathlib.Path, is_colour: bool) -> np.ndarray:
  """An image, uint8 [H, W, C]; what is transparent is laid over black."""
  import PIL.Image
  import PIL.ImageOps

  def pixels(image: 'PIL.Image.Image') -> np.ndarray:
    mode = 'RGB' if is_colour else 'L'
    if image.has_transparency_data:
      image = image.convert('RGBA')
      black = PIL.Image.new('RGBA', image.size, 'black')
      image = PIL.Image.alpha_composite(black, image)
    image = PIL.ImageOps.exif_transpose(image.convert(mode))
    return np.asarray(image, np.uint8)

  array = _guarded(path, pixels)
  return array if is_colour else array[..., None]
