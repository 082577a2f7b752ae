"""The command line and configuration."""
