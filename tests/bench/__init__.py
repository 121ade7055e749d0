"""The benchmark: kexport and its peers, on a stub API server that is as fast as the socket takes.

`python -m tests.bench` runs it; PERFORMANCE.md says how the figures come about. Every scenario starts
kexport as an operator does, in a fresh process, and asks the operating system what that process cost.
"""
