"""Finds out whether a host answers, before a client waits for minutes."""

import threading
import urllib.parse

# Seconds until a host that does not answer counts as unreachable. TFDS itself
# retries for minutes before it gives up.
PROBE_SECONDS = 4.0


def unreachable(url: str) -> str | None:
  """Says why a URL's host cannot be reached; None where it answers."""
  import requests

  host = urllib.parse.urlsplit(url).netloc
  outcome: list[str | None] = []

  def probe() -> None:
    try:
      with requests.get(
        url, timeout=PROBE_SECONDS, stream=True, allow_redirects=False
      ):
        outcome.append(None)
    except requests.Timeout:
      pass  # Said below, whichever of the two limits came first.
    except requests.RequestException as error:
      outcome.append(f'{host} cannot be reached ({type(error).__name__})')

  # A thread, because no timeout of requests covers the look-up of the name.
  thread = threading.Thread(target=probe, daemon=True)
  thread.start()
  thread.join(PROBE_SECONDS)
  if not outcome:
    return f'{host} does not answer within {PROBE_SECONDS:g} s'
  return outcome[0]
