"""Everything that a configuration needs, tried for real before it is needed: `kexport check`.

Goes on after a problem, to report all of them. Changes nothing, except that the state directory is made. A
problem's code is 1 if it may pass by itself and 2 if something must be changed; the report has the largest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from kexport import config as configuration
from kexport import plan, plugins, push, statedir
from kexport.change import Resource
from kexport.cluster import Cluster, selector_problem, survey
from kexport.config import Config
from kexport.discovery import Catalogue
from kexport.disk import MEMORY
from kexport.errors import (
    ApiError,
    ConfigError,
    JournalLockedError,
    KexportError,
    UnknownResourceError,
)
from kexport.findings import (
    MAY_PASS,
    MUST_CHANGE,
    OK,
    Finding,
    Report,
    code_of,
    count,
    own_place,
    share_of,
    summary,
    where,
)
from kexport.kube import Client, allowed
from kexport.lanes import build_sinks
from kexport.sink import Sink
from kexport.terminal import lines, mask

REVIEWS_AT_ONCE = 8


async def check(path: Path, *, max_wait_seconds: float, tell: Callable[[str], None] | None = None) -> Report:
    """Look at everything; `tell` gets a line as soon as there is one, and a summary."""
    checker = _Checker(path, max_wait_seconds=max_wait_seconds, tell=tell or (lambda _line: None))
    await checker.run()
    for line in summary(checker.report):
        checker.tell(line)
    return checker.report


class _Checker:
    """Walks the path of the data from its start; what was found out before is needed further on."""

    def __init__(self, path: Path, *, max_wait_seconds: float, tell: Callable[[str], None]) -> None:
        self._path = path
        self._seconds = max_wait_seconds
        self._config: Config
        self._secrets: Mapping[str, str] = {}
        self.tell = tell
        self.report = Report()

    def _note(self, what: str, text: str, code: int = OK, *, warning: bool = False) -> None:
        finding = Finding(what, lines(mask(text, self._secrets)), code, warning)
        self.report.findings.append(finding)
        self.tell(f"{finding.status:<8} {finding.what}: {finding.text}")

    async def run(self) -> None:
        found = self._plugins()
        if found is None or not self._configuration(found):
            return
        self._state_directory()
        client = Client(self._config.root.cluster)
        try:
            cluster = await self._cluster(client)
            if cluster:
                self._resources(cluster.catalogue)
                self._other_names(cluster.catalogue)
                await self._permissions(client)
                await self._selectors(client)
        finally:
            await client.close()
        name = self._config.root.cluster.name or (cluster.uid if cluster else "") or "unknown"
        for sink in self._config.sinks:
            await self._sink(sink, name)
        if self._config.root.telemetry.otlp_endpoint:
            await self._telemetry()

    # -- this side ----------------------------------------------------------------------------------------

    def _plugins(self) -> plugins.Plugins | None:
        try:
            found = plugins.load()
        except ConfigError as error:
            self._note("plugins", str(error), MUST_CHANGE)
            return None
        for plugin in found.found:
            if plugin.problem:
                self._note(
                    f"plugin {plugin.name}",
                    f"could not be loaded: {plugin.problem}; mend or uninstall"
                    f" {plugin.distribution} {plugin.version}"
                    if plugin.module
                    else plugin.problem,  # one that KEXPORT_PLUGINS lists and nobody installed
                    warning=True,
                )
        return found

    def _configuration(self, found: plugins.Plugins) -> bool:
        try:
            self._config = configuration.load(self._path, found.types, absent=found.absent)
        except ConfigError as error:
            apart = "\n" if "\n" in str(error) else " "
            rest = "(all that follows from it was not checked)"
            self._note("configuration", f"{error}{apart}{rest}", MUST_CHANGE)
            return False
        self._secrets = self._config.secrets
        self.report.sinks = {
            name: f"{settings.type.name}: {share_of(name, self._config)}"
            for name, settings in self._config.sinks.items()
        }
        self._note("configuration", f"{self._path} can be used")
        return True

    def _state_directory(self) -> None:
        path = self._config.root.journal.path
        if path == MEMORY:
            self._note("journal", "in memory: what is not delivered is lost with the process", warning=True)
            return
        try:
            statedir.hold(Path(path).expanduser()).release()
        except JournalLockedError as error:
            # Who edits the file of a kexport that runs asks before it takes the change up.
            self._note("journal", f"{error}; right, if that is the one of this configuration", warning=True)
        except KexportError as error:
            self._note("journal", str(error), code_of(error))
        else:
            self._note("journal", f"{path} can be written, and no other process uses it")

    # -- the cluster --------------------------------------------------------------------------------------

    async def _cluster(self, client: Client) -> Cluster | None:
        name = self._config.root.cluster.name
        try:
            async with asyncio.timeout(self._seconds):
                await client.open()
                cluster = await survey(client)
        except (KexportError, TimeoutError) as error:
            self._note("cluster", self._reason(error, client.address), code_of(error))
            return None
        called = name or cluster.uid
        self._note(
            "cluster", f"{client.address} answers" + (f", and events call it {called}" if called else "")
        )
        if not called:
            self._note(
                "cluster.name",
                "is not set, and the namespace kube-system, whose uid would serve, may not be read; set it,"
                f" or grant that: {self._grant}",
                MUST_CHANGE,
            )
        if cluster.catalogue.unavailable:
            groups = ", ".join(cluster.catalogue.unavailable)
            self._note("cluster", f"these groups did not answer: {groups}", warning=True)
        return cluster

    @property
    def _grant(self) -> str:
        return f"kexport rbac -c {self._path} | kubectl apply -f -"

    def _reason(self, error: Exception, address: str = "") -> str:
        if isinstance(error, TimeoutError):
            whom = f" from {address}" if address else ""
            return f"no answer{whom} within {self._seconds:g} s; --timeout allows more"
        if isinstance(error, ApiError) and error.status == 401:
            return f"{address} does not accept the credentials: {error}; check the kubeconfig's user"
        return str(error)

    def _resources(self, catalogue: Catalogue) -> None:
        """Each entry by itself, so that one unknown name hides nothing; then all of them together."""
        configs = self._config.root.resources
        for number, config in enumerate(configs):
            place = f"resources[{number}]"
            try:
                streams = plan.entry(config, catalogue, number=number)
            except ConfigError as error:
                what, text = own_place(str(error), place)
                unknown = isinstance(error.__cause__, UnknownResourceError)
                if unknown and catalogue.may_come(config.resource):
                    self._note(what, f"{text}; run waits until it is installed", warning=True)
                else:
                    self._note(what, text, MUST_CHANGE)
                continue
            self.report.streams.update((stream.key, stream) for stream in streams)
            self._note(place, f"{config.resource} gives {count(len(streams), 'stream')}")
        try:
            plan.make(configs, catalogue)
        except ConfigError as error:
            what, text = own_place(str(error), "resources")
            if not what.startswith("resources["):  # those are known by now
                self._note(what, text, MUST_CHANGE)

    def _other_names(self, catalogue: Catalogue) -> None:
        """Resources in routes and transforms."""
        root = self._config.root
        for number, route in enumerate(root.routes):
            for name in route.resources:
                self._try_name(f"routes[{number}].resources", catalogue, name)
        for number, transform in enumerate(root.transforms):
            for name in transform.resources:
                if "*" not in name:
                    self._try_name(f"transforms[{number}].resources", catalogue, name)

    def _try_name(self, place: str, catalogue: Catalogue, name: str) -> None:
        try:
            catalogue.find(name)
        except ConfigError as error:
            later = isinstance(error, UnknownResourceError) and catalogue.may_come(name)
            self._note(place, str(error), OK if later else MUST_CHANGE, warning=later)

    async def _permissions(self, client: Client) -> None:
        """What every stream will ask for; the server is asked once for each resource and namespace."""
        wanted = {(stream.resource, stream.namespace) for stream in self.report.streams.values()}
        slots = asyncio.Semaphore(REVIEWS_AT_ONCE)

        async def review(resource: Resource, namespace: str | None) -> tuple[str, int]:
            async with slots, asyncio.timeout(self._seconds):
                verbs = [
                    verb for verb in ("list", "watch") if not await allowed(client, verb, resource, namespace)
                ]
            what = f"{resource.full_name} {where(resource, namespace)}"
            if verbs:
                return f"may not {' or '.join(verbs)} {what}; grant it: {self._grant}", MUST_CHANGE
            return f"may list and watch {what}", OK

        pairs = sorted(wanted, key=lambda pair: (pair[0].full_name, pair[1] or ""))
        answers = await asyncio.gather(*(review(*pair) for pair in pairs), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, KexportError | TimeoutError):
                self._note("permissions", f"cannot be asked for: {self._reason(answer)}", code_of(answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._note("permissions", *answer)

    async def _selectors(self, client: Client) -> None:
        """Only the server knows which fields of a resource can be selected by."""
        for stream in self.report.streams.values():
            if not stream.selective:
                continue
            try:
                async with asyncio.timeout(self._seconds):
                    problem = await selector_problem(client, stream)
                if problem:
                    self._note(f"selector of {stream.key}", f"is refused: {problem}; correct it", MUST_CHANGE)
            except (KexportError, TimeoutError) as error:
                self._note(f"selector of {stream.key}", self._reason(error), code_of(error))

    # -- the sinks ----------------------------------------------------------------------------------------

    async def _sink(self, name: str, cluster: str) -> None:
        settings = self._config.sinks[name]
        place = f"sinks.{name}"
        sink: Sink | None = None
        try:
            sink = build_sinks({name: settings}, cluster)[name]
            async with asyncio.timeout(self._seconds):
                await sink.open()
        except (KexportError, TimeoutError) as error:
            self.report.stuck |= isinstance(error, TimeoutError)
            self._note(*own_place(self._reason(error), place), code_of(error))
        except Exception as error:  # noqa: BLE001  (whatever a plugin raises is a report here)
            self._note(place, f"type {settings.type.name} fails: {type(error).__name__}: {error}", MAY_PASS)
        else:
            self._note(place, f"type {settings.type.name} can be opened")
        if sink:
            await self._close(sink, place)

    async def _close(self, sink: Sink, place: str) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await sink.close()
        except Exception as error:  # noqa: BLE001  (see above)
            self.report.stuck |= isinstance(error, TimeoutError)
            self._note(place, f"does not close: {type(error).__name__}: {error}", warning=True)

    async def _telemetry(self) -> None:
        try:
            self._note("telemetry", await push.probe(self._config.root.telemetry, self._seconds))
        except KexportError as error:
            self._note("telemetry", str(error), code_of(error))
