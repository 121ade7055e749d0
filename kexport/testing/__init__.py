"""What a plugin author, the demo and our own tests share: made-up events and an API server in the process."""

from kexport.testing.events import make_event

__all__ = ["make_event"]
