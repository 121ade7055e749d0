"""What stands in front of several API servers: which replica answers a connection, or each request."""

import asyncio
from weakref import WeakKeyDictionary

from kexport.testing.replica import Replica
from kexport.testing.settings import Settings


class Balancer:
    """Deals connections out in turn; a connection stays with its replica, as TCP balancers keep it."""

    def __init__(self, replicas: list[Replica], settings: Settings) -> None:
        self.steered: Replica | None = None
        self._replicas = replicas
        self._settings = settings
        self._turn = 0
        self._homes: WeakKeyDictionary[asyncio.BaseTransport, Replica] = WeakKeyDictionary()

    def pick(self, connection: asyncio.BaseTransport | None) -> Replica:
        if connection is None:  # gone meanwhile: nobody will read the answer
            return self._replicas[0]
        replica = self._homes.get(connection) if self._settings.sticky else None
        if replica is None:
            replica = self.steered or self._replicas[self._turn % len(self._replicas)]
            self._turn += 1
            self._homes[connection] = replica
        return replica

    def drop(self, replica: Replica) -> None:
        """Break the connections of one replica, as its end does."""
        for connection, home in list(self._homes.items()):
            if home is replica:
                connection.close()
                self._homes.pop(connection, None)
