"""A headless Chromium, driven over the WebDriver protocol."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request

CHROMIUM = shutil.which('chromium')
DRIVER = shutil.which('chromedriver')

_ARGUMENTS = (
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
)


class Browser:
  """One window."""

  def __init__(self, url):
    self._url = url

  def send(self, path, **body):
    """Sends a command to the window; returns its value."""
    return _post(f'{self._url}/{path}', body)

  def open(self, path: pathlib.Path):
    self.send('url', url=path.as_uri())

  def evaluate(self, script):
    """The value of a JavaScript expression."""
    return self.send('execute/sync', script=f'return {script}', args=[])

  def narrow(self, width):
    """Makes the window as narrow as a telephone's."""
    self.send(
      'goog/cdp/execute',
      cmd='Emulation.setDeviceMetricsOverride',
      params={
        'width': width,
        'height': 800,
        'deviceScaleFactor': 1,
        'mobile': False,
      },
    )

  def press(self, key):
    """Presses and releases a key."""
    actions = [{'type': kind, 'value': key} for kind in ('keyDown', 'keyUp')]
    self.send(
      'actions', actions=[{'type': 'key', 'id': 'keys', 'actions': actions}]
    )

  def console(self):
    """What the page logged so far: errors, warnings, refused requests."""
    return [row['message'] for row in self.send('se/log', type='browser')]

  def requests(self, page: pathlib.Path | None = None):
    """The addresses that were asked for, but for the page and its contents."""
    messages = [
      json.loads(row['message'])['message']
      for row in self.send('se/log', type='performance')
    ]
    urls = [
      message['params']['request']['url']
      for message in messages
      if message['method'] == 'Network.requestWillBeSent'
    ]
    # chrome: is what the browser itself shows before the page.
    return [
      url
      for url in urls
      if not url.startswith(('chrome:', 'data:'))
      and not (page and url == page.as_uri())
    ]


def _post(url, body):
  request = urllib.request.Request(
    url,
    json.dumps(body).encode(),
    {'Content-Type': 'application/json'},
  )
  # Straight to the driver, whatever proxy the machine has.
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  with opener.open(request, timeout=120) as response:
    return json.load(response)['value']


@contextlib.contextmanager
def opened(folder: pathlib.Path):
  """Starts a browser whose profile is a folder; ends it afterwards."""
  log = (folder / 'driver.log').open('w+')
  driver = subprocess.Popen(
    [DRIVER, '--port=0'], stdout=log, stderr=subprocess.STDOUT, text=True
  )
  try:
    session = _start(_port(folder / 'driver.log'), folder)
    browser = Browser(session)
    yield browser
    with contextlib.suppress(urllib.error.URLError, OSError):
      browser.send('goog/cdp/execute', cmd='Browser.close', params={})
  finally:
    driver.terminate()
    driver.wait()
    log.close()


def _port(log):
  """The port that the driver chose."""
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    for line in log.read_text().splitlines():
      if 'started successfully on port' in line:
        return int(line.rstrip('.').split()[-1])
    time.sleep(0.05)
  raise TimeoutError(log.read_text())


def _start(port, folder):
  options = {
    'binary': CHROMIUM,
    'args': [*_ARGUMENTS, f'--user-data-dir={folder / "profile"}'],
  }
  capabilities = {
    'browserName': 'chrome',
    'goog:chromeOptions': options,
    'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'},
  }
  root = f'http://127.0.0.1:{port}/session'
  answer = _post(root, {'capabilities': {'alwaysMatch': capabilities}})
  return f'{root}/{answer["sessionId"]}'
