"""A peer: the loop that the official Python client's documentation shows, until so many changes came.

`python -m tests.bench.typed_watch URL CHANGES`
"""

from __future__ import annotations

import sys

from kubernetes import client, watch


def main() -> None:
    url, changes = sys.argv[1], int(sys.argv[2])
    configuration = client.Configuration()
    configuration.host = url
    pods = client.CoreV1Api(client.ApiClient(configuration))
    stream = watch.Watch().stream(pods.list_pod_for_all_namespaces)
    for number, _change in enumerate(stream, start=1):
        if number == changes:
            return


if __name__ == "__main__":
    main()
