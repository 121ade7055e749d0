"""The pytest side of the kit: loaded by pytest through the entry point of the `kexport` distribution."""
