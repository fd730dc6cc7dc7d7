"""The built-in page: static files, no build step. It reads and calls the same API as every other client."""
