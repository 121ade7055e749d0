"""The real servers of the live tests: etcd, the Kubernetes control plane and Apache Kafka.

`python -m tests.testbed` builds them once into a cache outside the tree. Each class here is one
server on loopback ports with its data and log in a folder, and a context manager:

    with Cluster(folder) as cluster:
        status, body = cluster.api.request("GET", "/api/v1/pods")
"""

from tests.testbed.cache import BuildError, NotBuiltError
from tests.testbed.etcd import Etcd
from tests.testbed.kafka import Kafka
from tests.testbed.kubernetes import ApiServer, Cluster, ControllerManager
from tests.testbed.port import free_port
from tests.testbed.process import Server, ServerError

__all__ = [
    "ApiServer",
    "BuildError",
    "Cluster",
    "ControllerManager",
    "Etcd",
    "Kafka",
    "NotBuiltError",
    "Server",
    "ServerError",
    "free_port",
]
