"""The sink: settings and events on one side, the courier on the other."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from kexport import Event, Sink, SinkContext
from kexport_kafka.config import KafkaConfig
from kexport_kafka.courier import Courier
from kexport_kafka.encode import Encoder
from kexport_kafka.properties import check_files, client_properties
from kexport_kafka.reports import Reports
from kexport_kafka.topic import Topics


class KafkaSink(Sink):
    """Events as records of the topics that `config.topic` names."""

    def __init__(self, config: KafkaConfig, context: SinkContext) -> None:
        self._config, self._name = config, context.name
        topics = Topics(config.topic, name=context.name)
        self._fixed_topic = topics.fixed
        self._courier = Courier(
            client_properties(config, name=context.name),
            encoder=Encoder(config, topics),
            place=f"sinks.{context.name}",
            reports=Reports(context),
        )

    @override
    async def open(self) -> None:
        check_files(self._config, name=self._name)
        await self._courier.reach(self._fixed_topic)

    @override
    async def write(self, events: Sequence[Event]) -> None:
        await self._courier.deliver(events)

    @override
    async def close(self) -> None:
        await self._courier.close()
