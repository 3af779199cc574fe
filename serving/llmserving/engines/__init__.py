"""Where tokens come from. See base.py for the interface."""
