"""The chaos run: real servers, writers that never rest, faults by a seeded plan, a verdict on every object.

`python -m tests.chaos --minutes 20` prints the plan, carries it out and prints a report; `--seed` repeats a
plan. What is true is read from etcd, in which no fault and no exporter has a part.
"""
