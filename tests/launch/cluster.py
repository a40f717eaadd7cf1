"""A SLURM of one node, which hears this machine alone."""

import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

# Where Debian has daemons, which the PATH of users may lack.
_PATH = f'{os.environ["PATH"]}{os.pathsep}/usr/sbin'

IS_INSTALLED = all(
  shutil.which(name, path=_PATH)
  for name in ('munged', 'slurmctld', 'slurmd', 'sbatch')
)

# A job that is queued again starts once its old credential has expired.
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.pid
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=short Nodes={host} Default=YES DefaultTime=20
"""


def _free_ports(count):
  with contextlib.ExitStack() as stack:
    servers = [
      stack.enter_context(socket.create_server(('127.0.0.1', 0)))
      for _ in range(count)
    ]
    return [server.getsockname()[1] for server in servers]


class Cluster:
  """A SLURM that runs.

  Attributes:
    environment: the variables by which commands find it.
  """

  def __init__(self, folder: pathlib.Path):
    self.environment = {'PATH': _PATH, 'SLURM_CONF': f'{folder}/slurm.conf'}

  def call(self, *command):
    """What a command printed."""
    return subprocess.run(
      command,
      env=os.environ | self.environment,
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    ).stdout

  def queue(self):
    """The jobs that wait or run."""
    return self.call('squeue', '--array', '--noheader', '--format=%i').split()


def _wait_until(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.1)


@contextlib.contextmanager
def started(folder: pathlib.Path):
  """Yields a cluster whose files are in a folder, and ends it."""
  for name in ('state', 'spool'):
    (folder / name).mkdir()
  (folder / 'slurm.conf').write_text(
    _CONFIG.format(
      host=socket.gethostname().split('.')[0],
      user=getpass.getuser(),
      ports=_free_ports(2),
      folder=folder,
    )
  )
  (folder / 'munge.key').write_bytes(os.urandom(128))
  (folder / 'munge.key').chmod(0o400)
  files = [f'--{n}-file={folder}/munge.{n}' for n in ('key', 'pid', 'seed')]
  cluster = Cluster(folder)
  try:
    cluster.call(
      *('munged', '--force', f'--socket={folder}/munge.socket', *files),
      f'--log-file={folder}/munge.log',
    )
    cluster.call('slurmctld')
    cluster.call('slurmd')
    idle = lambda: cluster.call('sinfo', '--noheader', '--format=%T').split()
    _wait_until(lambda: idle() == ['idle'])
    yield cluster
    cluster.call('scancel', f'--user={getpass.getuser()}')
    _wait_until(lambda: not cluster.queue())
  finally:
    for name in ('slurmd', 'slurmctld', 'munge'):
      with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / f'{name}.pid').read_text())
        os.kill(pid, signal.SIGTERM)
        _wait_until(lambda pid=pid: not pathlib.Path(f'/proc/{pid}').exists())
