"""A run of `wylon up`, from the lock on the data folder to the end of the last process."""

import errno
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from app.cli.up import processes, readiness
from app.cli.up.broker import EmbeddedBroker, embed_broker
from app.cli.up.child import Child, ChildSpec
from app.cli.up.forking import Loader
from app.cli.up.options import child_environ, secret_variables, shared_settings
from app.cli.up.run_folder import RunFolder, keep_key
from app.cli.up.signals import SignalWatch
from app.cli.up.supervisor import Supervisor
from app.config import Settings
from app.wiring.setup import ensure_key, make_data_folder, prepare
from app.wiring.start import await_broker, await_database
from app.wiring.stores import open_stores
from app.wiring.tick_watch import TickWatcher
from app.wiring.upstream_watch import UpstreamWatch

# Enough for eight Python processes to start on a busy machine with a single core.
READY_WITHIN_S = 120.0
# A process that ends four times during start-up will not come up by itself.
_HOPELESS_AFTER = 4
_LOOK_EVERY_S = 0.1
# The longest time an ended process stays unnoticed if its signal was missed.
_IDLE_LOOK_S = 1.0
_SHOWN_LOG_LINES = 12
# Connections that may wait while the web process restarts.
_BACKLOG = 2048


class StartFailed(Exception):
    """The deployment can't start; the message gives the reason and the remedy."""


class Deployment:
    """The processes of `wylon up`."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], *, is_broker_given: bool, is_logging_here: bool
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._is_broker_given = is_broker_given
        self._is_logging_here = is_logging_here
        self._folder = RunFolder(settings.data)

    def run(self, say: Callable[[str], None]) -> None:
        """Run until a stop signal; raises FolderTaken, BrokerMissing or StartFailed."""
        signals = SignalWatch()
        upstreams = UpstreamWatch(self._settings)

        def should_stop() -> bool:
            return signals.is_stopping

        with ExitStack() as stack:
            make_data_folder(self._settings, say)
            self._folder.acquire(say)
            stack.callback(self._folder.release)
            listener = stack.enter_context(_listen(self._settings.host, self._settings.port))
            self._settings = replace(self._settings, port=listener.getsockname()[1])
            broker = self._embed_broker(stack)
            if self._is_broker_given:
                await_broker(self._settings, say, should_stop=should_stop)
            await_database(self._settings, say, should_stop=should_stop)
            if should_stop():
                return
            prepare(self._settings, say, should_stop=should_stop)
            if should_stop():
                return
            self._admit_key(say)
            upstreams.start()
            self._folder.write_settings(shared_settings(self._settings), secret_variables(self._environ))
            loader = Loader(child_environ(self._environ, self._settings), self._folder.run)
            stack.callback(loader.stop)
            loader.start(should_stop)
            if should_stop():
                return
            supervisor = Supervisor(self._specs(listener, broker), self._folder, loader)
            stack.callback(self._stop, supervisor, signals, say)
            self._await_ready(supervisor, signals, say)
            ticks = TickWatcher(open_stores(self._settings).ticks)
            ticks.start()
            while not signals.is_stopping:
                upstreams.tell(say)
                ticks.tell(say)
                supervisor.tick()
                self._folder.rotate_logs()
                signals.wait(_IDLE_LOOK_S if supervisor.is_whole else _LOOK_EVERY_S)

    def _stop(self, supervisor: Supervisor, signals: SignalWatch, say: Callable[[str], None]) -> None:
        if signals.is_stopping:
            say("Stopping; started again on the same folder, everything goes on where it was.")
        supervisor.stop(lambda seconds: _wait_impatiently(signals, seconds), say)

    def _embed_broker(self, stack: ExitStack) -> EmbeddedBroker | None:
        if self._is_broker_given:
            return None
        broker = embed_broker(self._folder.run)
        stack.callback(broker.clean_up)
        self._settings = replace(self._settings, broker_url=broker.url)
        return broker

    def _admit_key(self, say: Callable[[str], None]) -> None:
        given = self._settings.api_key
        key = keep_key(self._settings.data) if given is None else given
        if not ensure_key(self._settings, key):
            say("Warning: the API key of this start was revoked: `wylon keys add NAME` makes another.")
        elif given is None:
            say(f"API key: {key}")

    def _specs(self, listener: socket.socket, broker: EmbeddedBroker | None) -> list[ChildSpec]:
        settings = self._settings
        # The web process inherits the open socket: during a restart the port stays ours, and callers wait.
        specs = [
            self._python("web", processes.web_command(f"fd://{listener.fileno()}"), (listener.fileno(),)),
            self._python("control", processes.control_command(settings)),
            self._python("files", processes.files_command(settings)),
            *(
                self._python(name, processes.worker_command(settings, name))
                for name in (f"worker-{number}" for number in range(1, settings.workers + 1))
            ),
            self._python("beat", processes.beat_command(settings)),
        ]
        if broker is not None:
            specs.insert(0, replace(self._spec("broker", broker.command()), is_broker=True))
        return specs

    def _python(self, name: str, arguments: Sequence[str], fds: tuple[int, ...] = ()) -> ChildSpec:
        return replace(self._spec(name, processes.run_by_this_python(arguments)), inherited_fds=fds)

    def _spec(self, name: str, command: Sequence[str]) -> ChildSpec:
        log = None if self._is_logging_here else self._folder.log_of(name)
        # Run in a folder of wylon's own: Python and Celery import from the current folder, which may hold a foreign
        # `app`. gunicorn refuses a current folder whose name ends in a space, as the data folder's name may.
        return ChildSpec(name, command, child_environ(self._environ, self._settings), self._folder.run, log)

    def _await_ready(self, supervisor: Supervisor, signals: SignalWatch, say: Callable[[str], None]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        look = readiness.pending(self._settings)
        is_broker_up = False
        missing: str | None = "broker"
        while not signals.is_stopping:
            if is_broker_up:
                supervisor.tick()
                missing = look()
            else:
                supervisor.tick_broker()
                is_broker_up = readiness.is_broker_up(self._settings)
            if missing is None:
                say(f"ready http://{_url_host(self._settings.host)}:{self._settings.port}/v1")
                return
            if failing := supervisor.failing(_HOPELESS_AFTER):
                raise StartFailed(_ending_message(failing))
            if time.monotonic() > deadline:
                raise StartFailed(self._late_message(missing))
            signals.wait(_LOOK_EVERY_S)

    def _late_message(self, missing: str) -> str:
        if missing == "broker" and self._is_broker_given:
            return f"The broker of WYLON_BROKER_URL did not answer within {READY_WITHIN_S:g} s."
        return f"{missing} was not up within {READY_WITHIN_S:g} s." + _last_lines(self._folder.logs / f"{missing}.log")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE:
            raise StartFailed(
                f"Port {port} of {host} is in use: choose another with --port, or 0 for a free one."
            ) from None
        raise StartFailed(f"Can't listen on {host}:{port}: {fault.strerror or fault}.") from None


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _wait_impatiently(signals: SignalWatch, seconds: float) -> bool:
    """Wait up to `seconds`; return whether a second stop signal asks to kill the remaining processes."""
    signals.wait(seconds)
    return signals.stops > 1


def _ending_message(child: Child) -> str:
    message = f"{child.spec.name} keeps ending (exit code {child.exit_code})."
    return message + _last_lines(child.spec.log) if child.spec.log else message


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-_SHOWN_LOG_LINES:]
    except OSError:
        return ""
    return "\n".join([f" The end of {log}:", *(f"  {line}" for line in lines)])
