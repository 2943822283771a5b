"""Heads that turn features into actions."""
