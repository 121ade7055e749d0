"""The real servers of the live tests: etcd, the Kubernetes control plane, and the sinks' far ends.

`python -m tests.testbed` builds them once into a cache outside the tree. Each class here is one
server on loopback ports with its data and log in a folder, and a context manager:

    with Cluster(folder) as cluster:
        status, body = cluster.api.request("GET", "/api/v1/pods")
"""

from tests.testbed.cache import BuildError, NotBuiltError
from tests.testbed.collector import Collector
from tests.testbed.etcd import Etcd
from tests.testbed.kafka import Kafka
from tests.testbed.kubernetes import ApiServer, Cluster, ControllerManager, is_passing
from tests.testbed.port import free_port
from tests.testbed.process import Server, ServerError
from tests.testbed.s3 import S3Server

__all__ = [
    "ApiServer",
    "BuildError",
    "Cluster",
    "Collector",
    "ControllerManager",
    "Etcd",
    "Kafka",
    "NotBuiltError",
    "S3Server",
    "Server",
    "ServerError",
    "free_port",
    "is_passing",
]
