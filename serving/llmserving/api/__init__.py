"""The HTTP routes. Each module has a `router(server)`."""
