"""Where claims to names are kept, so that replicas agree and a restart forgets nothing."""
