"""nginx's files, and its process."""
