"""The project's tests; the folders mirror the packages."""
