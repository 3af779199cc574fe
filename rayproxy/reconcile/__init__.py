"""The central cycle, and when it runs."""
